"""Which lives of which containers are followed, and each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import anyio

from devloop.events import PodLog
from devloop.model import Target
from devloop.rollout.pod_logs import follow_logs
from tests.support.fakes import FakeWorld


async def test_each_life_of_a_container_is_followed_once_whatever_its_revision_is_for_a_moment() -> None:
    fake = FakeWorld("v1", running="todo-backend:1")
    feed = fake.feed_
    revision, (pod,) = feed.latest.revision, feed.latest.pods
    begun: list[str] = []

    class Cluster:
        async def logs(self, _: Target, pod: str, container: str, *, from_now: bool) -> AsyncIterator[str]:
            begun.append(pod)
            yield f"line {len(begun)}"
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(follow_logs, "web", [feed], cast("Any", Cluster()), fake.events.append)

        async def show(**changes: object) -> None:
            await anyio.wait_all_tasks_blocked()
            feed.show(**changes)
            await anyio.wait_all_tasks_blocked()

        await show(revision="")  # between two writes of an update in place no ReplicaSet has the template
        await show(revision=revision)
        assert begun == [pod.name]
        again = replace(pod, containers=(replace(pod.containers[0], restarts=1),))
        await show(pods=(again,))
        await show(pods=())
        await show(pods=(replace(again, uid="another", name="another"),))
        group.cancel_scope.cancel()
    assert begun == [pod.name, pod.name, "another"]
    assert [event.line for event in fake.events if isinstance(event, PodLog)] == [
        "line 1", "line 2", "line 3",
    ]  # fmt: skip


async def test_a_revert_follows_no_container_twice() -> None:
    """The pods of the template before are there until the new ones are ready, and are its pods again."""
    fake = FakeWorld("v1", running="todo-backend:1")
    feed = fake.feed_
    before, (pod,) = feed.latest.revision, feed.latest.pods
    newer = replace(pod, uid="newer", name="newer", revision="rev-2")
    begun: list[str] = []

    class Cluster:
        async def logs(self, _: Target, pod: str, container: str, *, from_now: bool) -> AsyncIterator[str]:
            begun.append(pod)
            yield "Started"
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(follow_logs, "web", [feed], cast("Any", Cluster()), fake.events.append)
        for changes in (
            {"revision": "rev-2"},
            {"pods": (pod, newer)},
            {"revision": before},
            {"pods": (pod,)},
        ):
            await anyio.wait_all_tasks_blocked()
            feed.show(**changes)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert begun == [pod.name, "newer"]
