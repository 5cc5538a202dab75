"""The one-place mailbox of a service: the latest change wins, paths merge, the first times stay."""

from __future__ import annotations

from dataclasses import replace

import anyio

from devloop.model import Change


class Inbox:
    """Filled by the watcher and by the cluster's drift, emptied by one worker."""

    def __init__(self) -> None:
        self._waiting: Change | None = None
        self._filled = anyio.Event()

    def put(self, change: Change) -> None:
        self._waiting = change if self._waiting is None else self._waiting.merged(change)
        self._filled.set()

    def put_back(self, change: Change) -> None:
        """Return what was taken but not finished; a newer change that waits keeps its times and reason."""
        newer, self._waiting = self._waiting, None
        merged = change if newer is None else change.merged(newer)
        self.put(merged if newer is None else replace(newer, paths=merged.paths))

    async def filled(self) -> None:
        """Return when a change waits; it stays in the inbox."""
        await self._filled.wait()

    async def take(self) -> Change:
        """Wait for a change and remove it."""
        await self._filled.wait()
        change = self._waiting
        assert change is not None
        self._waiting = None
        self._filled = anyio.Event()
        return change
