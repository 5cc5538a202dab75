"""What becomes of synced pods when `watch` ends, and of those that a killed devloop left (S38)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from devloop.commands.synced_pods import bake_all, take_over
from devloop.errors import HeldError, InPlaceError
from devloop.events import Event, Notice
from devloop.model import Service, Target
from devloop.synced import UNKNOWN, SyncedContainers
from devloop.wiring import Session
from tests.support.fakes import SERVICE

SYNC = replace(SERVICE, update="sync")
ONE = "docker://one"


class Update:
    def __init__(self, answer: list[str] | Exception) -> None:
        self._answer = answer

    async def bake(self) -> list[str]:
        await anyio.lowlevel.checkpoint()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Cluster:
    """Answers each `bake` with the next of the script."""

    synced: SyncedContainers

    def __init__(self, *script: list[str] | Exception) -> None:
        self.script = list(script)
        self.asked: list[Target] = []

    @asynccontextmanager
    async def in_place(self, target: Target, service: Service, ref: str) -> AsyncIterator[Update]:
        self.asked.append(target)
        yield Update(self.script.pop(0))


@pytest.fixture
def record(tmp_path: Path) -> SyncedContainers:
    record = SyncedContainers(tmp_path / "synced.json")
    record.finish(SERVICE.name, [ONE], "aa")
    return record


def session(
    record: SyncedContainers, service: Service, cluster: Cluster, *, held: bool = False
) -> tuple[Session, list[Event]]:
    events: list[Event] = []

    @contextmanager
    def hold(target: Target) -> Iterator[None]:
        if held:
            raise HeldError("another devloop has it")
        yield

    world = SimpleNamespace(emit=events.append)
    cluster.synced = record
    made = SimpleNamespace(services=(service,), cluster=cluster, world=world, hold=hold)
    return cast(Session, made), events


async def test_s38_the_end_gives_each_synced_pod_its_image(record: SyncedContainers) -> None:
    ours, events = session(record, SYNC, cluster := Cluster(["web-0", "web-1"]))
    await bake_all(ours)
    assert cluster.asked == list(SERVICE.targets)
    text = f"web-0, web-1: restarting with the image that {SERVICE.targets[0]} names"
    assert events == [Notice(SERVICE.name, "info", text)]


async def test_s38_it_does_so_amid_the_cancellation(record: SyncedContainers) -> None:
    ours, events = session(record, SYNC, Cluster(["web-0"]))
    async with anyio.create_task_group() as group:

        async def serve() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                await bake_all(ours)

        group.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert len(events) == 1


async def test_s38_left_as_they_are_with_a_warning(record: SyncedContainers) -> None:
    service = replace(SYNC, at_end="leave")
    ours, events = session(record, service, cluster := Cluster())
    await bake_all(ours)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert (notice.level, cluster.asked) == ("warning", [])
    take_over(ours)
    assert record.content(ONE) == "aa", "the next start goes on from them"


@pytest.mark.parametrize("held", [True, False])
async def test_s38_what_cannot_be_given_it_now_is_said(record: SyncedContainers, held: bool) -> None:
    ours, events = session(record, SYNC, Cluster(InPlaceError("forbidden")), held=held)
    await bake_all(ours)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert notice.level == "warning"


async def test_s38_who_synced_nothing_asks_nobody(tmp_path: Path) -> None:
    ours, events = session(SyncedContainers(tmp_path / "none.json"), SYNC, cluster := Cluster())
    await bake_all(ours)
    assert (cluster.asked, events) == ([], [])


@pytest.mark.parametrize("update", ["sync", "in-place", "roll"])
def test_s38_what_a_killed_devloop_left_is_of_unknown_content(record: SyncedContainers, update: str) -> None:
    ours, _ = session(record, replace(SERVICE, update=update), Cluster())
    take_over(ours)
    assert record.content(ONE) == UNKNOWN
