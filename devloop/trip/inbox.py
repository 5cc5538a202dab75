"""The one-place mailbox of a service: the latest change wins, paths merge, the first times stay."""

from __future__ import annotations

from dataclasses import replace

import anyio

from devloop.model import Change


def taken_up(undone: Change, newer: Change) -> Change:
    """The newer change, with what the one that was not finished asks for: its own times and reason stay."""
    both = undone.merged(newer)
    return replace(newer, paths=both.paths, restart=both.restart, removed=both.removed)


class Inbox:
    """Filled by the watcher and by the cluster's drift, emptied by one worker.

    While it is paused it collects, and nobody gets anything of it.
    """

    def __init__(self) -> None:
        self._waiting: Change | None = None
        self._ready = anyio.Event()  # a change waits, and may be taken
        self._resumed = anyio.Event()
        self._resumed.set()

    def put(self, change: Change) -> None:
        self._waiting = change if self._waiting is None else self._waiting.merged(change)
        self._look()

    def put_back(self, change: Change) -> None:
        """Return what was taken but not finished; a newer change that waits keeps its times and reason."""
        newer, self._waiting = self._waiting, None
        self.put(change if newer is None else taken_up(change, newer))

    @property
    def is_filled(self) -> bool:
        """Whether a change waits."""
        return self._waiting is not None

    @property
    def is_paused(self) -> bool:
        return not self._resumed.is_set()

    def pause(self) -> None:
        """Keep what comes from now on, and what waits, until `resume`."""
        if not self.is_paused:
            self._resumed = anyio.Event()
            self._look()

    def resume(self, now: float) -> None:
        """Give out what was collected, as if it had come `now` (seconds since the epoch): the time until here
        is no part of a trip."""
        if self._waiting is not None and self.is_paused:
            self._waiting = replace(self._waiting, seen_at=now, saved_at=now)
        self._resumed.set()
        self._look()

    async def resumed(self) -> None:
        """Return at once where it is not paused, else when it is no longer."""
        await self._resumed.wait()

    async def filled(self) -> None:
        """Return when a change waits that may be taken; it stays in the inbox."""
        while True:
            await self._ready.wait()
            if self._ready.is_set():  # else a pause began meanwhile
                return

    async def take(self) -> Change:
        """Wait for a change and remove it."""
        await self.filled()
        change = self._waiting
        assert change is not None
        self._waiting = None
        self._ready = anyio.Event()
        return change

    def _look(self) -> None:
        if self._waiting is not None and not self.is_paused:
            self._ready.set()
        elif self._ready.is_set():
            self._ready = anyio.Event()
