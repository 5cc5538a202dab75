"""File events through watchfiles, one awatch for all roots: macOS, where the kernel reports whole trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus
from watchfiles import Change, awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from devloop.watch.source import Batch, Limit, WatchRoots

STEP = 10  # milliseconds that watchfiles waits for more
RETRY = 0.2  # seconds until a broken watcher is restarted


class Watchfiles:
    def __init__(self, roots: WatchRoots) -> None:
        self._roots = roots

    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report batches; a broken watcher (a name that is not UTF-8 is enough) is restarted."""
        status = task_status
        while True:
            stop = anyio.Event()
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(_set_when_cancelled, stop)
                    group.start_soon(self._pump, seen, stop, group.cancel_scope)
                    # The pump has run up to its first wait now, and its watches are in place.
                    await anyio.lowlevel.checkpoint()
                    status.started()
                    status = anyio.TASK_STATUS_IGNORED
            except* (WatchfilesRustInternalError, OSError):
                await anyio.sleep(RETRY)
            seen(Batch(0, {}, frozenset(), "the watcher had to be restarted"))

    async def _pump(self, seen: Callable[[Batch], None], stop: anyio.Event, scope: anyio.CancelScope) -> None:
        watched = self._watched()
        async for batch in awatch(*watched, watch_filter=None, step=STEP, rust_timeout=0, stop_event=stop):
            if self._report(batch, seen):
                break
        scope.cancel()

    def _watched(self) -> list[Path]:
        """Existing folders only: the parent of a single file or of a root that is not there."""
        found: dict[Path, None] = {}
        for path in (*self._roots.folders, *(file.parent for file in self._roots.files)):
            while not path.is_dir():
                path = path.parent
            found[path] = None
        return list(found)

    def _report(self, batch: set[tuple[Change, str]], seen: Callable[[Batch], None]) -> bool:
        """True when a root went or came: the watcher must be restarted."""
        paths: dict[Path, bool] = {}
        fresh: set[Path] = set()
        moved = False
        for change, text in batch:
            path = Path(text)
            paths[path] = True
            if change is Change.added and path.is_dir():
                fresh.add(path)  # what was in it already is reported by nobody
            if change is not Change.modified and any(
                root.is_relative_to(path) for root in self._roots.folders
            ):
                fresh.add(path)
                moved = True
        created = frozenset(Path(text) for change, text in batch if change is Change.added)
        seen(Batch(len(batch), paths, frozenset(fresh), created=created))
        return moved


async def _set_when_cancelled(stop: anyio.Event) -> None:
    """Sibling of `awatch`: without it cancelling takes as long as the Rust side waits."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()
