"""The workers of `watch` handed over when config.yaml changes (S28), over orders that are forced."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace

import anyio
import pytest

from devloop.errors import HeldError, PlatformError
from devloop.events import Notice, TripEnded
from devloop.model import Service, Target
from devloop.trip.sharing import Sharing
from devloop.trip.worker_pool import WorkerPool
from tests.support import pools
from tests.support.fakes import SERVICE, FakeWorld
from tests.support.pools import is_live, net_of, save, until

pytestmark = pytest.mark.anyio

CHANGED = replace(SERVICE, build=replace(SERVICE.build, args={"A": "1"}))
AGAIN = replace(SERVICE, build=replace(SERVICE.build, args={"A": "2"}))


class Locks:
    """Locks that a process shares, as adapters.lock's; `stranger`: names another devloop has."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.freed: list[str] = []
        self.stranger: set[str] = set()
        self.full = False

    @contextmanager
    def hold(self, target: Target) -> Iterator[None]:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if target.name in self.stranger:
            raise HeldError(f"{target} is held by another devloop: pid 4711")
        self.held[target.name] = self.held.get(target.name, 0) + 1
        try:
            yield
        finally:
            self.held[target.name] -= 1
            if not self.held[target.name]:
                self.freed.append(target.name)


def working(world: FakeWorld, locks: Locks, *services: Service) -> AbstractAsyncContextManager[WorkerPool]:
    return pools.working(world, services, locks.hold)


async def test_s28_the_new_worker_begins_when_the_old_ones_patch_is_decided() -> None:
    world, locks = FakeWorld(), Locks()
    stays = anyio.Event()
    world.patches.script.append(stays)
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: world.patches.calls == 1)
        pool.employ([CHANGED])
        save(world, pool, "v2")
        for _ in range(20):
            await anyio.sleep(0.001)
        assert world.fingerprints.calls == 1, "two workers of one service would PATCH in any order"
        assert locks.freed == [], "nor may another devloop get in between"
        stays.set()
        await until(lambda: is_live(world))
        assert world.patched[-1].endswith(world_ref("v2"))
        assert locks.freed == []
    assert locks.freed == ["todo-backend"]


async def test_s28_edits_of_config_yaml_faster_than_workers_end_lose_nothing() -> None:
    """The second one comes while the first new worker still waits for the old one's PATCH."""
    world, locks = FakeWorld(), Locks()
    stays = anyio.Event()
    world.patches.script.append(stays)
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: world.patches.calls == 1)
        for service in (CHANGED, AGAIN, SERVICE, CHANGED):
            pool.employ([service])
            await anyio.sleep(0.002)
        save(world, pool, "v3")
        assert world.fingerprints.calls == 1
        stays.set()
        await until(
            lambda: world.patched[-1:] and world.patched[-1].endswith(world_ref("v3")) and is_live(world)
        )
        assert locks.held == {"todo-backend": 1}


async def test_s28_a_renamed_service_waits_for_the_patch_of_its_old_name() -> None:
    world, locks = FakeWorld(), Locks()
    stays = anyio.Event()
    world.patches.script.append(stays)
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: world.patches.calls == 1)
        pool.employ([replace(SERVICE, name="front")])
        save(world, pool, "v2", "front")
        for _ in range(20):
            await anyio.sleep(0.001)
        assert world.fingerprints.calls == 1
        stays.set()
        await until(lambda: is_live(world, "front"))
        assert world.patched[-1].endswith(world_ref("v2"))


async def test_s28_a_workload_that_another_devloop_has_is_taken_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("devloop.trip.worker_pool.AGAIN_SECONDS", 0.001)
    world, locks = FakeWorld(), Locks()
    locks.stranger.add("theirs")
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: is_live(world))
        pool.employ([replace(SERVICE, targets=(replace(SERVICE.targets[0], name="theirs"),))])
        await until(lambda: any(isinstance(event, Notice) for event in world.events))
        assert not is_live(world)
        for _ in range(20):
            await anyio.sleep(0.001)
        assert len([event for event in world.events if isinstance(event, Notice)]) == 1, "reported once"
        save(world, pool, "v2")
        locks.stranger.clear()
        await until(lambda: is_live(world))
        assert world.patched[-1].endswith(world_ref("v2"))


async def test_s26_a_lock_that_cannot_be_made_ends_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever taking a lock raises, the others run on, and it is tried again."""
    monkeypatch.setattr("devloop.trip.worker_pool.AGAIN_SECONDS", 0.001)
    world, locks = FakeWorld(), Locks()
    new = replace(SERVICE, name="new", targets=(replace(SERVICE.targets[0], name="new"),))
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: is_live(world))
        locks.full = True
        pool.employ([SERVICE, new])
        await until(lambda: any(isinstance(event, Notice) for event in world.events))
        save(world, pool, "v2")
        await until(lambda: world.patched[-1].endswith(world_ref("v2")) and is_live(world))
        messages = [event.message for event in world.events if isinstance(event, Notice)]
        assert len(messages) == 1, messages
        assert "No space left on device" in messages[0]
        locks.full = False
        await until(lambda: is_live(world, "new"))


async def test_s26_at_the_start_it_is_an_error() -> None:
    world, locks = FakeWorld(), Locks()
    locks.stranger.add("todo-backend")
    with pytest.raises(BaseExceptionGroup) as caught:
        await WorkerPool(world.world(), locks.hold, net_of(world), Sharing(), ()).run([SERVICE])
    assert caught.group_contains(HeldError)


async def test_s28_a_cluster_that_refuses_a_new_service_ends_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A namespace that may not be looked at, for one."""
    monkeypatch.setattr("devloop.trip.worker_pool.AGAIN_SECONDS", 0.001)
    world, locks = FakeWorld(), Locks()
    refusing = True
    real = world.feed

    @asynccontextmanager
    async def feed(target: Target) -> AsyncIterator[object]:
        if refusing and target.name == "new":
            raise PlatformError("pods is forbidden")
        async with real(target) as found:
            yield found

    world.feed = feed  # type: ignore[method-assign, assignment]
    new = replace(SERVICE, name="new", targets=(replace(SERVICE.targets[0], name="new"),))
    async with working(world, locks, SERVICE) as pool:
        await until(lambda: is_live(world))
        pool.employ([SERVICE, new])
        await until(lambda: any(isinstance(event, Notice) for event in world.events))
        save(world, pool, "v2")
        await until(lambda: world.patched[-1].endswith(world_ref("v2")))
        refusing = False
        await until(lambda: any(isinstance(e, TripEnded) and e.service == "new" for e in world.events))


def world_ref(text: str) -> str:
    return f":dl-{text.encode().hex().ljust(16, '0')[:16]}"
