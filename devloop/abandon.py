"""Work in threads that ends when nobody waits for it any more: it looks at a check now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from devloop.trip import activity

Result = TypeVar("Result")
Check = Callable[[], None]  # raises where the work is no longer wanted


class AbandonedError(BaseException):
    """Ends a thread that was given up: whatever it would still find out is of no use."""


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
