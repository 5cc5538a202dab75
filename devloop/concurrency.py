"""Tasks whose results come back in order, and worker threads that stop when their caller is cancelled."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskStatus

from devloop import activity
from devloop.errors import DevloopError

CLOSING_STEPS = 20
Item = TypeVar("Item")
Result = TypeVar("Result")
Check = Callable[[], None]  # raises where the work is no longer wanted


async def closed(generator: object) -> None:
    """Close an asynchronous generator now, cancelled or not: left to the garbage collector, it is closed in
    another task, after what it stands on, and Python prints what comes of that."""
    close = getattr(generator, "aclose", None)
    if close is None:
        return
    with anyio.CancelScope(shield=True):
        for _ in range(CLOSING_STEPS):
            try:
                await close()
                return
            except RuntimeError:  # whoever reads it has not taken notice yet that it is to end
                await anyio.lowlevel.checkpoint()


class FirstStart(TaskStatus[None]):
    """A task status that may report its start again: only the first time counts. `done`: it was reported."""

    def __init__(self, inner: TaskStatus[None]) -> None:
        self._inner = inner
        self.done = False

    def started(self, value: None = None) -> None:
        if not self.done:
            self.done = True
            self._inner.started()


async def gather(function: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> tuple[Result, ...]:
    """`function` of every item, side by side, in the items' order.

    The first DevloopError cancels the others and is raised itself, not in an ExceptionGroup.
    """
    work = list(items)
    results: dict[int, Result] = {}
    errors: list[DevloopError] = []

    async def run(index: int, item: Item) -> None:
        try:
            results[index] = await function(item)
        except DevloopError as error:
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index, item in enumerate(work):
            group.start_soon(run, index, item)
    if errors:
        raise errors[0]
    return tuple(results[index] for index in range(len(work)))


class AbandonedError(BaseException):
    """Ends a thread whose caller was cancelled: whatever it would still find out is of no use."""


def check_of(abandoned: threading.Event) -> Check:
    """Raises AbandonedError once the event is set."""

    def check() -> None:
        activity.note()
        if abandoned.is_set():
            raise AbandonedError

    return check


async def in_thread(work: Callable[[Check], Result]) -> Result:
    """Run in a worker thread; on cancellation the thread ends at its next check, and is not waited for."""
    abandoned = threading.Event()
    try:
        return await anyio.to_thread.run_sync(work, check_of(abandoned), abandon_on_cancel=True)
    finally:
        abandoned.set()


async def in_stoppable_thread(work: Callable[[threading.Event], Result]) -> Result:
    """Run in a thread of its own; on cancellation the event is set, and the thread's end is waited for."""
    stop = threading.Event()

    async def set_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stop.set()

    async with anyio.create_task_group() as group:
        group.start_soon(set_when_cancelled)
        # A limiter of its own: nobody else's slow threads hold it up.
        result = await anyio.to_thread.run_sync(work, stop, limiter=anyio.CapacityLimiter(1))
        group.cancel_scope.cancel()
    return result


async def in_daemon_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread that nobody waits for once the caller is cancelled, not even the end of the process:
    for what may hang in other people's code (a library's socket, a credential helper)."""
    token = anyio.lowlevel.current_token()
    done = anyio.Event()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            errors.append(error)
        with suppress(RuntimeError):  # the caller's event loop has ended
            anyio.from_thread.run_sync(done.set, token=token)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="devloop daemon thread", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
