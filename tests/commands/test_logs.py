"""`devloop logs`: merged by time, and followed on without a gap or a line twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from devloop.commands.logs import _shown, seconds_of
from devloop.errors import ConfigError
from devloop.events import Event, PodLog
from devloop.model import Target
from tests.support.fakes import SERVICE, FakeFeed, FakeWorld


class Cluster:
    """Two pods of one workload: what each has logged, and what each logs from now on."""

    def __init__(self) -> None:
        snapshot = FakeWorld().feed_.latest
        (pod,) = snapshot.pods
        second = replace(pod, name="todo-backend-2", uid="pod-2")
        self.feed_ = FakeFeed(replace(snapshot, pods=(pod, second)))
        self.asked: list[tuple[str, float | None, int | None]] = []
        self.followed: list[tuple[str, str, bool]] = []
        self.logged = {
            pod.name: [("2026-01-01T00:00:01Z", "first"), ("2026-01-01T00:00:03Z", "third")],
            "todo-backend-2": [("2026-01-01T00:00:02Z", "second")],
        }

    @asynccontextmanager
    async def feed(self, _: Target) -> AsyncIterator[FakeFeed]:
        yield self.feed_

    async def logs_so_far(
        self, _: Target, pod: str, container: str, *, since: float | None, tail: int | None
    ) -> list[tuple[str, str]]:
        self.asked.append((pod, since, tail))
        return self.logged.get(pod, [])

    async def logs(
        self, _: Target, pod: str, container: str, *, from_now: bool = False, after: str = ""
    ) -> AsyncIterator[str]:
        self.followed.append((pod, after, from_now))
        yield f"more of {pod}"
        await anyio.sleep_forever()


def session(cluster: Cluster) -> Any:
    return cast("Any", SimpleNamespace(services=(SERVICE,), cluster=cluster))


async def test_logs_of_several_pods_are_in_the_order_of_time() -> None:
    cluster, events = Cluster(), list[Event]()
    assert await _shown(session(cluster), events.append, 60.0, 5, follow=False) == 0
    assert [event.line for event in events if isinstance(event, PodLog)] == ["first", "second", "third"]
    assert {(since, tail) for _, since, tail in cluster.asked} == {(60.0, 5)}


async def test_they_are_followed_from_the_last_line_and_new_pods_from_their_start() -> None:
    cluster, events = Cluster(), list[Event]()
    cluster.logged["todo-backend-2"] = []
    (first, second) = cluster.feed_.latest.pods
    async with anyio.create_task_group() as group:

        async def follow() -> None:
            await _shown(session(cluster), events.append, None, 10, follow=True)

        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        cluster.feed_.show(pods=(first, second, replace(first, name="new", uid="new")))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert sorted(cluster.followed) == [
        ("new", "", False),
        (first.name, "2026-01-01T00:00:03Z", False),
        ("todo-backend-2", "", True),
    ]
    assert f"more of {first.name}" in [event.line for event in events if isinstance(event, PodLog)]


async def test_without_a_pod_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    cluster.feed_.show(pods=())
    assert await _shown(session(cluster), lambda _: None, None, 10, follow=False) == 1
    assert "no pod of backend is there" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "found"), [(None, None), ("90", 90.0), ("10m", 600.0), ("1.5h", 5400.0)])
def test_since_is_a_duration(text: str | None, found: float | None) -> None:
    assert seconds_of(text) == found


def test_since_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="--since"):
        seconds_of("yesterday")
