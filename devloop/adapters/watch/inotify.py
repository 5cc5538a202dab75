"""File events on Linux, read from the kernel itself: it alone says when events were lost (ADR 0003).

Watches folders with all that is below them (but not folders nobody wants to enter), single files, and
the folders above, so that a root that vanishes is found again when it comes back.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from devloop.adapters.watch.inotify_calls import (
    ATTRIB,
    CLOSE_WRITE,
    CONTENT,
    CREATE,
    DELETE,
    DELETE_SELF,
    EXCL_UNLINK,
    IGNORED,
    ISDIR,
    MASK_ADD,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    NAMES,
    ONLYDIR,
    Q_OVERFLOW,
    UNMOUNT,
    Kernel,
    parse,
)
from devloop.adapters.watch.mounts import is_within
from devloop.concurrency import in_stoppable_thread
from devloop.watch.links import folders_above, has_other_names
from devloop.watch.source import Batch, Limit, Roots

READ_SIZE = 16 * 1024  # some 400 events: what is made of them must not hold up the loop
STREAK, PAUSE = 10, 0.005  # after so many reads in a row, wait so many seconds before the next
STORM = 0.05  # seconds that a flood of events gets to pass before all watches are set again
MOST_LINKED = 1000  # files that are watched themselves because they have other names, too

SYSCTL_WATCHES = "sudo sysctl fs.inotify.max_user_watches=1048576"
SYSCTL_INSTANCES = "sudo sysctl fs.inotify.max_user_instances=1024"


@dataclass(slots=True)
class _Found:
    """What arming a folder found: files and folders below it, or the limit that was hit."""

    paths: list[str] = field(default_factory=list)
    limit: Limit | None = None


@dataclass(slots=True)
class _Turn:
    """What one read of the queue said."""

    events: int = 0
    settled: dict[str, bool] = field(default_factory=dict)  # path -> nobody is writing it now
    grown: dict[str, None] = field(default_factory=dict)  # folders to arm
    gone: set[str] = field(default_factory=set)  # folders whose content is not where it was
    roots: set[str] = field(default_factory=set)  # roots to find again
    above: bool = False  # folders above what is watched came or went
    lost: bool = False


class Inotify:
    """One inotify instance over all roots. `run` ends only with a Limit, or when it is cancelled."""

    def __init__(self, roots: Roots) -> None:
        self._kernel = Kernel()
        self._roots = {str(root): enters for root, enters in roots.folders.items()}
        self._files = {str(file) for file in roots.files}
        self._anchors = folders_above((*self._roots, *self._files))
        self._file_folders = {os.path.dirname(file) for file in self._files}  # noqa: PTH120 - strings are hot here
        self._fd = -1
        self._paths: dict[int, set[str]] = {}  # watch -> the paths that lead to its folder
        self._watches: dict[str, int] = {}  # path -> watch
        self._tree: set[str] = set()  # folders whose every name counts
        self._linked: set[str] = set()  # files with other names, by which they may be written unheard

    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report batches to `seen`; started once every watch is in place."""
        try:
            self._fd = self._kernel.init()
        except OSError as error:
            return Limit(f"no inotify instance: {error.strerror}", SYSCTL_INSTANCES)
        try:
            found = await in_stoppable_thread(self._arm_everything)
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
        found = _Found()
        if turn.lost:
            await anyio.sleep(STORM)
            found = await in_stoppable_thread(self._arm_everything)
            lost = "the kernel's event queue overflowed (fs.inotify.max_queued_events)"
            seen(Batch(turn.events, {}, frozenset(), lost))
            return found.limit
        grown = [path for path in turn.grown if path not in turn.roots]
        if grown or turn.roots or turn.above:
            found = await in_stoppable_thread(lambda stop: self._arm_again(grown, turn.roots, stop))
        for path in found.paths:
            turn.settled.setdefault(path, True)
        fresh = frozenset(Path(path) for path in (*turn.gone, *turn.roots))
        if turn.settled or fresh:
            paths = {Path(path): settled for path, settled in turn.settled.items()}
            seen(Batch(turn.events, paths, fresh, None))
        return found.limit

    # --- reading -------------------------------------------------------------------------------

    def _turn(self, data: bytes) -> _Turn:
        turn = _Turn()
        for watch, mask, name in parse(data):
            if mask & Q_OVERFLOW:
                turn.lost = True
            elif mask & IGNORED:
                self._forget(watch)
            else:
                for folder in tuple(self._paths.get(watch, ())):
                    self._event(turn, folder, mask, name)
        return turn

    def _event(self, turn: _Turn, folder: str, mask: int, name: str) -> None:
        if not name:
            self._own_event(turn, folder, mask)
            return
        path = f"{folder}/{name}" if folder != "/" else f"/{name}"
        if path in self._linked and mask & NAMES:
            self._disarm(path)  # another file bears the name now
        opened = mask & ATTRIB and path not in self._watches  # it may not have been ours to read
        if path in self._anchors and (mask & NAMES or opened):
            turn.roots.update(root for root in self._roots if is_within(root, path))
            turn.settled.update((file, True) for file in self._files if is_within(file, path))
            turn.above |= path not in self._files
        if folder not in self._tree and path not in self._files:
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
        if path in self._linked and mask & (MODIFY | ATTRIB | CLOSE_WRITE):
            turn.events += 1
            turn.settled[path] = not mask & MODIFY
        elif path in self._roots and mask & (DELETE_SELF | MOVE_SELF | UNMOUNT):
            turn.roots.add(path)
        elif path in self._tree and mask & UNMOUNT:
            turn.gone.add(path)

    def _folder_event(self, turn: _Turn, path: str, mask: int) -> None:
        if mask & (CREATE | MOVED_TO):
            turn.grown[path] = None
            turn.settled[path] = False  # a burst is likely to follow
        elif mask & (MOVED_FROM | DELETE):
            turn.grown.pop(path, None)
            self._disarm(path)
            turn.gone.add(path)
        else:
            turn.settled.setdefault(path, True)
            if path not in self._tree:
                turn.grown[path] = None  # it may be readable now

    # --- arming ---------------------------------------------------------------------------------

    def _arm_everything(self, stop: threading.Event) -> _Found:
        return self._arm_again((), set(self._roots), stop)

    def _arm_again(self, grown: Iterable[str], roots: Collection[str], stop: threading.Event) -> _Found:
        found = _Found()
        try:
            self._arm_above()
            for root in roots:
                self._disarm(root)
            for top, enters in self._overlapping(roots):
                self._arm(top, enters, _Found(), stop)  # all of it is reported as fresh
            for path in grown:
                for root, enters in self._roots.items():
                    if is_within(path, root) and enters(Path(path)):
                        self._arm(path, enters, found, stop)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            found.limit = Limit("the limit of watched folders is reached", SYSCTL_WATCHES)
        return found

    def _arm_above(self) -> None:
        """Watch single files, and the folders above everything."""
        for anchor in self._anchors:
            if anchor not in self._roots:
                self._watch(anchor, CONTENT if anchor in self._file_folders else NAMES | ATTRIB)
        for file in self._files:
            self._watch_linked(file)

    def _overlapping(self, tops: Collection[str]) -> Iterator[tuple[str, Callable[[Path], bool]]]:
        """Where to arm for each root that reaches into one of `tops`: roots may lie within roots."""
        for root, enters in self._roots.items():
            if any(is_within(root, top) for top in tops):
                yield root, enters
            else:
                for top in tops:
                    if is_within(top, root) and enters(Path(top)):
                        yield top, enters

    def _arm(self, top: str, enters: Callable[[Path], bool], found: _Found, stop: threading.Event) -> None:
        """Watch first, list second: what appears in between is reported, twice at worst."""
        waiting = [top]
        while waiting and not stop.is_set():
            folder = waiting.pop()
            if not self._watch(folder, CONTENT):
                continue
            self._tree.add(folder)
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if stop.is_set():
                            return
                        found.paths.append(entry.path)
                        if not entry.is_dir(follow_symlinks=False):
                            self._watch_linked(entry.path)
                        elif enters(Path(entry.path)):
                            waiting.append(entry.path)
            except OSError:
                continue  # gone again, or not readable: its parent tells of the change

    def _watch_linked(self, file: str) -> None:
        """A write by another name of the file is told to nobody but who watches the file itself."""
        if len(self._linked) >= MOST_LINKED or not has_other_names(file):
            return
        with suppress(OSError):  # no watch left for it: a slow look finds what it misses
            if self._watch(file, MODIFY | ATTRIB | CLOSE_WRITE, 0):
                self._linked.add(file)

    def _watch(self, folder: str, mask: int, only: int = ONLYDIR) -> bool:
        try:
            watch = self._kernel.add(self._fd, folder, mask | only | EXCL_UNLINK | MASK_ADD)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            return False  # gone, no folder, or not readable
        before = self._watches.get(folder)
        if before is not None and before != watch:
            self._leave(folder, before)
        self._watches[folder] = watch
        self._paths.setdefault(watch, set()).add(folder)
        return True

    def _disarm(self, top: str) -> None:
        below = f"{top}/"
        for folder in [path for path in self._watches if path == top or path.startswith(below)]:
            self._tree.discard(folder)
            self._linked.discard(folder)
            if folder not in self._anchors or folder in self._roots:
                self._leave(folder, self._watches.pop(folder))

    def _leave(self, folder: str, watch: int) -> None:
        paths = self._paths.get(watch, set())
        paths.discard(folder)
        if not paths:
            self._paths.pop(watch, None)
            self._kernel.remove(self._fd, watch)

    def _forget(self, watch: int) -> None:
        for folder in self._paths.pop(watch, ()):
            if self._watches.get(folder) == watch:
                del self._watches[folder]
                self._tree.discard(folder)
                self._linked.discard(folder)
