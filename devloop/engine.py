"""`watch()` and `once()`: the one task-group root of the program."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio

from devloop.errors import OvertakenError, TreeMovedError
from devloop.model import Change, Failed, Outcome
from devloop.stopwatch import Clock
from devloop.tasks import gather
from devloop.worker import Worker

MOST_TRIES = 5  # trips of `once` while the tree moves under it (S8)


async def once(workers: Sequence[Worker], clock: Clock) -> Mapping[str, Outcome]:
    """Each service's trip, side by side, to its outcome. Raises PlatformError at the start only."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.connected())
        await gather(lambda worker: _settled(worker, clock), workers)
        return {worker.service.name: outcome for worker in workers if (outcome := worker.reconsider())}


async def _settled(worker: Worker, clock: Clock) -> Outcome:
    outcome: Outcome | None = None
    for _ in range(MOST_TRIES):
        outcome = await worker.settle(start_of(clock))
        if not (isinstance(outcome, Failed) and isinstance(outcome.error, TreeMovedError | OvertakenError)):
            break
    assert outcome is not None
    return outcome


def start_of(clock: Clock) -> Change:
    """The change that every service begins with: look at everything."""
    now = clock.now()
    return Change(frozenset(), now, now, "start")


async def watch(
    workers: Sequence[Worker],
    clock: Clock,
    companions: Sequence[Callable[[], Coroutine[Any, Any, None]]],
) -> None:
    """Run the workers and what goes with them (watcher, web, logs, gc) until cancelled."""
    async with anyio.create_task_group() as group:
        for companion in companions:
            group.start_soon(companion)
        for worker in workers:
            worker.inbox.put(start_of(clock))
            group.start_soon(worker.run)


async def until_interrupted(run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """`run`, cancelled at SIGINT or SIGTERM and cleaned up; True if a signal ended it.

    A second signal gets the system's default treatment: the process ends at once.
    """
    interrupted = False

    async def listen() -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                interrupted = True
                group.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await run()
        group.cancel_scope.cancel()
    return interrupted
