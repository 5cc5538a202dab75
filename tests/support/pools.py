"""A worker pool over a fake world, at work, and the sentences that its tests are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import anyio

from devloop.events import LiveChanged, TripEnded, TripStarted
from devloop.fault_reports import Reports
from devloop.model import Change, Service, Target
from devloop.safety_net import SafetyNet
from devloop.trip.sharing import Sharing
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld

Hold = Callable[[Target], AbstractContextManager[None]]


def net_of(world: FakeWorld) -> SafetyNet:
    return SafetyNet(Reports(Path("/dev/null/none"), str), world.events.append)


@asynccontextmanager
async def working(
    world: FakeWorld, services: Sequence[Service] = (SERVICE,), hold: Hold = lambda _: nullcontext()
) -> AsyncIterator[WorkerPool]:
    """A pool whose first trip has begun; all of it is over within 20 s."""
    world.sharing = Sharing()
    pool = WorkerPool(world.world(), hold, net_of(world), world.sharing, ())
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(pool.run, services)
            await until(lambda: any(isinstance(event, TripStarted) for event in world.events))
            yield pool
            group.cancel_scope.cancel()


async def until(look: Callable[[], object]) -> None:
    while not look():
        await anyio.sleep(0.001)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(3):
        await anyio.wait_all_tasks_blocked()


def states(world: FakeWorld, name: str = "backend") -> list[tuple[str, bool]]:
    """What was shown of the service, in its order: (word, whether it is live)."""
    changes = [event for event in world.events if isinstance(event, LiveChanged) and event.service == name]
    return [(event.state, event.live) for event in changes]


def outcomes(world: FakeWorld) -> list[str]:
    return [type(event.outcome).__name__ for event in world.events if isinstance(event, TripEnded)]


def reasons(world: FakeWorld) -> list[str]:
    """Why each trip began."""
    return [event.change.why for event in world.events if isinstance(event, TripStarted)]


def is_live(world: FakeWorld, name: str = "backend") -> bool:
    shown = states(world, name)
    return bool(shown) and shown[-1][1]


def save(world: FakeWorld, pool: WorkerPool, text: str, name: str = "backend", *paths: str) -> None:
    """The tree has another content, and the watcher reports it."""
    world.tree = text
    now = world.clock.now()
    pool.deliver(name, Change(frozenset(map(Path, paths)), now, now))
