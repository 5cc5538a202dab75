"""`once()`, and the root of every run: signals, and the error that ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import TaskStatus

from devloop.clock import Clock
from devloop.concurrency import gather
from devloop.errors import DevloopError, OvertakenError, TreeMovedError
from devloop.model import Change, Failed, Outcome
from devloop.safety_net import guard_loop
from devloop.signals import ends_in_time
from devloop.trip.reconciler import MOVED_PAUSES
from devloop.trip.worker import Worker

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
    for pause in (0.0, *MOVED_PAUSES[: MOST_TRIES - 1]):
        await anyio.sleep(pause)
        outcome = await worker.settle(start_of(clock))
        if not (isinstance(outcome, Failed) and isinstance(outcome.error, TreeMovedError | OvertakenError)):
            break
    assert outcome is not None
    worker.rest()
    return outcome


def start_of(clock: Clock) -> Change:
    """The change that every service begins with: look at everything."""
    now = clock.now()
    return Change(frozenset(), now, now, "start")


async def until_interrupted(run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """`run`, cancelled at SIGINT or SIGTERM and cleaned up; True if a signal ended it.

    A second signal gets the system's default treatment: the process ends at once.
    Raises the first DevloopError itself, not in an ExceptionGroup.
    """
    interrupted = False

    async def listen(*, task_status: TaskStatus[None]) -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, ends_in_time():
            task_status.started()
            async for _ in signals:
                interrupted = True
                group.cancel_scope.cancel()
                return

    guard_loop()
    try:
        async with anyio.create_task_group() as group:
            await group.start(listen)
            await run()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        expected, others = errors.split(DevloopError)
        if others is not None or expected is None:
            raise
        raise _first(expected) from errors
    return interrupted


def _first(errors: BaseExceptionGroup[DevloopError]) -> DevloopError:
    """The first expected error itself: task groups wrap whatever passes through them."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DevloopError)
    return error
