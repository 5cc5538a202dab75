"""Memory that many trips at once took, given back to the system when they are over.

The C library keeps what Python has freed, for the next one who asks: after the first start of 200 services
that was two thirds of all that `devloop watch` held (`python bench/scale.py`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.model import Outcome, Service

REST = 3.0  # seconds without a trip
WORTH = 32 << 20  # bytes more than after the last time: below that it is not worth the look


class MemoryReturn:
    """Observes trips. `resident` and `trim` are the process' own, but in tests."""

    def __init__(
        self, resident: Callable[[], int] | None = None, trim: Callable[[], None] | None = None
    ) -> None:
        self._resident, self._trim = resident or resident_bytes, trim or give_back
        self._running: set[str] = set()
        self._ended = anyio.Event()
        self._least = self._resident()

    def begun(self, service: Service) -> None:
        self._running.add(service.name)

    def ended(self, service: Service, outcome: Outcome) -> None:
        self._running.discard(service.name)
        self._ended.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._ended.wait()
            self._ended = anyio.Event()
            await anyio.sleep(REST)
            if self._running or self._ended.is_set():
                continue  # the last one that ends comes by here again
            if self._resident() >= self._least + WORTH:
                await anyio.to_thread.run_sync(self._trim)
                self._least = self._resident()


def resident_bytes() -> int:
    """What this process holds in memory; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Only the GNU C library has a call for it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
