"""File events on Linux, read from the kernel itself: it alone says when events were lost (ADR 0003)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from devloop.adapters.watch.inotify_calls import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    DELETE_SELF,
    IGNORED,
    ISDIR,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    NAMES,
    Q_OVERFLOW,
    UNMOUNT,
    parse,
)
from devloop.adapters.watch.inotify_watches import Armed, Watches
from devloop.adapters.watch.mounts import is_within
from devloop.concurrency import in_stoppable_thread
from devloop.watch.source import Batch, Limit, WatchRoots

READ_SIZE = 16 * 1024  # some 400 events: what is made of them must not hold up the loop
STREAK, PAUSE = 10, 0.005  # after so many reads in a row, wait so many seconds before the next
STORM = 0.05  # seconds that a flood of events gets to pass before all watches are set again

SYSCTL_INSTANCES = "sudo sysctl fs.inotify.max_user_instances=1024"


@dataclass(slots=True)
class _Turn:
    """What one read of the queue reported."""

    events: int = 0
    settled: dict[str, bool] = field(default_factory=dict)  # path -> nobody is writing it now
    grown: dict[str, None] = field(default_factory=dict)  # folders to arm
    gone: set[str] = field(default_factory=set)  # folders whose content is not where it was
    roots: set[str] = field(default_factory=set)  # roots to find again
    above: bool = False  # folders above what is watched came or went
    lost: bool = False
    created: set[str] = field(default_factory=set)  # files
    moved: dict[str, str] = field(default_factory=dict)  # renamed files: old path -> new path


class Inotify:
    """One inotify instance over all roots. `run` ends only with a Limit, or when it is cancelled."""

    def __init__(self, roots: WatchRoots) -> None:
        self._watches = Watches(roots)
        self._fd = -1
        self._leaving = (0, "")  # cookie and old path of the newest rename: its new path comes next

    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report batches to `seen`; started once every watch is in place."""
        try:
            self._fd = self._watches.open()
        except OSError as error:
            return Limit(f"no inotify instance: {error.strerror}", SYSCTL_INSTANCES)
        try:
            found = await in_stoppable_thread(self._watches.arm_everything)
            if found.limit is None:
                task_status.started()
                return await self._read_on(seen)
            return found.limit
        finally:
            os.close(self._fd)

    async def _read_on(self, seen: Callable[[Batch], None]) -> Limit:
        in_a_row, last = 0, 0.0
        while True:
            await anyio.wait_readable(self._fd)
            now = anyio.current_time()
            in_a_row = in_a_row + 1 if now - last < PAUSE * 2 else 0
            last = now
            if in_a_row > STREAK:  # a burst: let events gather, reading each alone costs most
                await anyio.sleep(PAUSE)
            try:
                turn = self._turn(os.read(self._fd, READ_SIZE))
            except BlockingIOError:
                continue
            limit = await self._follow(turn, seen)
            if limit is not None:
                return limit

    async def _follow(self, turn: _Turn, seen: Callable[[Batch], None]) -> Limit | None:
        """Set the watches that the events ask for, then report: what is reported is watched already."""
        found = Armed()
        if turn.lost:
            await anyio.sleep(STORM)
            found = await in_stoppable_thread(self._watches.arm_everything)
            lost = "the kernel's event queue overflowed (fs.inotify.max_queued_events)"
            seen(Batch(turn.events, {}, frozenset(), lost))
            return found.limit
        grown = [path for path in turn.grown if path not in turn.roots]
        if grown or turn.roots or turn.above:
            found = await in_stoppable_thread(lambda stop: self._watches.arm_again(grown, turn.roots, stop))
        for path in found.paths:
            turn.settled.setdefault(path, True)
        fresh = frozenset(Path(path) for path in (*turn.gone, *turn.roots))
        if turn.settled or fresh:
            paths = {Path(path): settled for path, settled in turn.settled.items()}
            moved = {Path(old): Path(new) for old, new in turn.moved.items()}
            created = frozenset(map(Path, turn.created))
            seen(Batch(turn.events, paths, fresh, None, created, moved))
        return found.limit

    # --- reading -------------------------------------------------------------------------------

    def _turn(self, data: bytes) -> _Turn:
        turn = _Turn()
        for watch, mask, cookie, name in parse(data):
            if mask & Q_OVERFLOW:
                turn.lost = True
            elif mask & IGNORED:
                self._watches.forget(watch)
            else:
                for folder in tuple(self._watches.paths.get(watch, ())):
                    self._event(turn, folder, mask, name)
                    self._rename(turn, f"{folder}/{name}", mask, cookie)
        return turn

    def _rename(self, turn: _Turn, path: str, mask: int, cookie: int) -> None:
        if mask & CREATE and not mask & ISDIR:
            turn.created.add(path)
        elif mask & MOVED_FROM and not mask & ISDIR:
            self._leaving = (cookie, path)
        elif mask & MOVED_TO and cookie and cookie == self._leaving[0]:
            turn.moved[self._leaving[1]] = path

    def _event(self, turn: _Turn, folder: str, mask: int, name: str) -> None:
        if not name:
            self._own_event(turn, folder, mask)
            return
        path = f"{folder}/{name}" if folder != "/" else f"/{name}"
        if path in self._watches.linked and mask & NAMES:
            self._watches.disarm(path)  # another file has the name now
        opened = mask & ATTRIB and path not in self._watches.by_path  # it may not have been ours to read
        if path in self._watches.anchors and (mask & NAMES or opened):
            turn.roots.update(root for root in self._watches.roots if is_within(root, path))
            turn.settled.update((file, True) for file in self._watches.files if is_within(file, path))
            turn.above |= path not in self._watches.files
        if folder not in self._watches.tree and path not in self._watches.files:
            return
        turn.events += 1
        if mask & ISDIR:
            self._folder_event(turn, path, mask)
        elif mask & (CREATE | MODIFY):
            turn.settled[path] = False
        else:
            turn.settled.setdefault(path, True)
            if not mask & ATTRIB:
                turn.settled[path] = True

    def _own_event(self, turn: _Turn, path: str, mask: int) -> None:
        """Of what is watched itself: a folder, or a file that has other names."""
        if path in self._watches.linked and mask & (MODIFY | ATTRIB | CLOSE_WRITE):
            turn.events += 1
            turn.settled[path] = not mask & MODIFY
        elif path in self._watches.roots and mask & (DELETE_SELF | MOVE_SELF | UNMOUNT):
            turn.roots.add(path)
        elif path in self._watches.tree and mask & UNMOUNT:
            turn.gone.add(path)

    def _folder_event(self, turn: _Turn, path: str, mask: int) -> None:
        if mask & (CREATE | MOVED_TO):
            turn.grown[path] = None
            turn.settled[path] = False  # a burst is likely to follow
        elif mask & (MOVED_FROM | DELETE):
            turn.grown.pop(path, None)
            self._watches.disarm(path)
            turn.gone.add(path)
        else:
            turn.settled.setdefault(path, True)
            if path not in self._watches.tree:
                turn.grown[path] = None  # it may be readable now
