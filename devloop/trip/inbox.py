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

    While it is paused it collects, and nobody gets anything of it. A `manual` one keeps what is saved until
    `release`, or until something else is put in.
    """

    def __init__(self, *, manual: bool = False) -> None:
        self._manual = manual
        self._waiting: Change | None = None
        self._wanted = False  # what waits is to be taken up, and not only collected
        self._ready = anyio.Event()  # a change waits, and may be taken
        self._resumed = anyio.Event()
        self._resumed.set()
        self._open = anyio.Event()  # neither paused, nor does anything wait for its release
        self._open.set()

    def put(self, change: Change) -> None:
        """A trip is to begin, with whatever was collected."""
        self._wanted = True
        self._collect(change)

    def save(self, change: Change) -> None:
        """Something was saved: a trip is to begin, where it is not `manual`."""
        self._wanted = self._wanted or not self._manual
        self._collect(change)

    def put_back(self, change: Change) -> None:
        """Return what was taken but not finished; a newer change that waits keeps its times and reason."""
        newer, self._waiting = self._waiting, None
        self.put(change if newer is None else taken_up(change, newer))

    @property
    def waiting(self) -> Change | None:
        """What waits; it stays in the inbox."""
        return self._waiting

    def drop(self, change: Change) -> bool:
        """Forget `change`. False: something newer has come, and is kept with it."""
        if self._waiting is not change:
            return False
        self._waiting, self._wanted = None, False
        self._look()
        return True

    @property
    def is_filled(self) -> bool:
        """Whether a change waits."""
        return self._waiting is not None

    @property
    def is_pending(self) -> bool:
        """Whether what waits is kept until `release`."""
        return self._waiting is not None and not self._wanted

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
        if self.is_paused:
            self._date(now)
        self._resumed.set()
        self._look()

    def release(self, now: float) -> None:
        """Have what is pending taken up, as if it had come `now`."""
        if self.is_pending:
            self._date(now)
            self._wanted = True
            self._look()

    async def resumed(self) -> None:
        """Return at once where it is not paused, else when it is no longer."""
        await self._resumed.wait()

    async def opened(self) -> None:
        """Return when it is neither paused, nor is anything pending."""
        await self._open.wait()

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
        self._waiting, self._wanted = None, False
        self._look()
        return change

    def _collect(self, change: Change) -> None:
        self._waiting = change if self._waiting is None else self._waiting.merged(change)
        self._look()

    def _date(self, now: float) -> None:
        if self._waiting is not None:
            self._waiting = replace(self._waiting, seen_at=now, saved_at=now)

    def _look(self) -> None:
        self._ready = _turned(self._ready, self.is_filled and self._wanted and not self.is_paused)
        self._open = _turned(self._open, not self.is_paused and not self.is_pending)


def _turned(event: anyio.Event, on: bool) -> anyio.Event:
    """The event, set or, where it was and is no longer, a new one."""
    if on:
        event.set()
    return anyio.Event() if event.is_set() and not on else event
