"""The one-place mailbox of a service: the latest change wins, paths merge, the first times stay."""

from __future__ import annotations

from dataclasses import replace

import anyio

from devloop.model import Change


def taken_up(undone: Change, newer: Change) -> Change:
    """The newer change, with the paths of the one that was not finished: its own times and reason stay."""
    return replace(newer, paths=undone.merged(newer).paths)


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
        self.put(change if newer is None else taken_up(change, newer))

    @property
    def is_filled(self) -> bool:
        """Whether a change waits."""
        return self._waiting is not None

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
