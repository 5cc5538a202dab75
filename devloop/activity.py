"""When the running trip last showed progress (S21): noted by whoever moves bytes, read by whoever waits.

The trip's activity travels in a context variable, because progress shows far below the ports: in the lines
of a command, the pieces of an HTTP body, the files that a worker thread reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import anyio

from devloop.clock import Clock
from devloop.errors import DevloopError

CLOCK = Clock()

Result = TypeVar("Result")
KEPT_LINES = 10
CLOCK_STEP = 0.001  # seconds: a sleep of less than a clock can show ends at once, and is slept again


class Activity:
    """Of one trip. `note` may be called from any thread."""

    def __init__(self) -> None:
        self._at = CLOCK.ticks()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def note(self, line: str = "") -> None:
        """Something moved; `line`: the line, for the error that may follow."""
        self._at = CLOCK.ticks()
        if line:
            self._lines.append(line)

    @property
    def idle(self) -> float:
        """Seconds since something moved."""
        return CLOCK.ticks() - self._at

    @property
    def lines(self) -> tuple[str, ...]:
        """The last line."""
        return tuple(self._lines)

    async def stalled(self, seconds: float) -> None:
        """Return when nothing has moved for so long."""
        while (left := seconds - self.idle) > 0:  # noqa: ASYNC110  whoever notes may be a thread
            await anyio.sleep(max(left, CLOCK_STEP))


_current: ContextVar[Activity | None] = ContextVar("activity", default=None)


@contextmanager
def recorded() -> Iterator[Activity]:
    """What the block does, tasks and threads that it starts included, notes its progress in this activity."""
    activity = Activity()
    token = _current.set(activity)
    try:
        yield activity
    finally:
        _current.reset(token)


def note(line: str = "") -> None:
    """Progress of the trip that this is part of; outside of one, nobody asks."""
    activity = _current.get()
    if activity is not None:
        activity.note(line)


async def bounded(
    work: Callable[[], Awaitable[Result]], seconds: float, late: Callable[[Activity], DevloopError]
) -> Result:
    """What `work` returns; cancelled, with the error of `late`, once it shows no progress for so long."""
    activity = _current.get()
    if activity is None:
        with recorded():
            return await bounded(work, seconds, late)
    activity.note()
    results: list[Result] = []
    failures: list[Exception] = []

    async def end_it() -> None:
        await activity.stalled(seconds)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(end_it)
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001  raised again below: the group would wrap it
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not results:
        raise late(activity)
    return results[0]
