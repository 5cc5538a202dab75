"""The only clock: the wall clock for what is shown, ticks for spans."""

from __future__ import annotations

import time


class Clock:
    """`now` is for what is shown, and compared with the times of files and clusters; `ticks` for spans.

    The wall clock may jump: it is set, and it goes on while a laptop sleeps. Ticks never do, and stand still
    meanwhile. Nobody else asks the system for the time but the stat cache, which compares with files.
    """

    def now(self) -> float:
        """Seconds since the epoch, read again each time."""
        return time.time()

    def ticks(self) -> float:
        """Seconds since some moment; only differences mean anything."""
        return time.monotonic()
