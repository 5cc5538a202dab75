"""The watches of one inotify instance: which folders and files have one, and which paths lead to it.

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

from devloop.adapters.watch.inotify_calls import (
    ATTRIB,
    CLOSE_WRITE,
    CONTENT,
    EXCL_UNLINK,
    MASK_ADD,
    MODIFY,
    NAMES,
    ONLYDIR,
    Kernel,
)
from devloop.adapters.watch.mounts import is_within
from devloop.watch.links import folders_above, has_other_names
from devloop.watch.source import Limit, WatchRoots

MOST_LINKED = 1000  # files that are watched themselves because they have other names, too
SYSCTL_WATCHES = "sudo sysctl fs.inotify.max_user_watches=1048576"


@dataclass(slots=True)
class Armed:
    """What arming a folder found: files and folders below it, or the limit that was hit."""

    paths: list[str] = field(default_factory=list)
    limit: Limit | None = None


class Watches:
    """Paths are absolute texts: they are hot here."""

    def __init__(self, roots: WatchRoots) -> None:
        self._kernel = Kernel()
        self.roots = {str(root): enters for root, enters in roots.folders.items()}
        self.files = {str(file) for file in roots.files}
        self.anchors = folders_above((*self.roots, *self.files))
        self._file_folders = {os.path.dirname(file) for file in self.files}  # noqa: PTH120
        self._fd = -1
        self.paths: dict[int, set[str]] = {}  # watch -> the paths that lead to its folder
        self.by_path: dict[str, int] = {}  # path -> watch
        self.tree: set[str] = set()  # folders whose every name counts
        self.linked: set[str] = set()  # files with other names, by which they may be written unheard

    def open(self) -> int:
        """A new instance's file descriptor, for reading and closing by the caller. Raises OSError."""
        self._fd = self._kernel.init()
        return self._fd

    def arm_everything(self, stop: threading.Event) -> Armed:
        return self.arm_again((), set(self.roots), stop)

    def arm_again(self, grown: Iterable[str], roots: Collection[str], stop: threading.Event) -> Armed:
        found = Armed()
        try:
            self._arm_above()
            for root in roots:
                self.disarm(root)
            for top, enters in self._overlapping(roots):
                self._arm(top, enters, Armed(), stop)  # all of it is reported as fresh
            for path in grown:
                for root, enters in self.roots.items():
                    if is_within(path, root) and enters(Path(path)):
                        self._arm(path, enters, found, stop)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            found.limit = Limit("the limit of watched folders is reached", SYSCTL_WATCHES)
        return found

    def _arm_above(self) -> None:
        """Watch single files, and the folders above everything."""
        for anchor in self.anchors:
            if anchor not in self.roots:
                self._watch(anchor, CONTENT if anchor in self._file_folders else NAMES | ATTRIB)
        for file in self.files:
            self._watch_linked(file)

    def _overlapping(self, tops: Collection[str]) -> Iterator[tuple[str, Callable[[Path], bool]]]:
        """Where to arm for each root that reaches into one of `tops`: roots may lie within roots."""
        for root, enters in self.roots.items():
            if any(is_within(root, top) for top in tops):
                yield root, enters
            else:
                for top in tops:
                    if is_within(top, root) and enters(Path(top)):
                        yield top, enters

    def _arm(self, top: str, enters: Callable[[Path], bool], found: Armed, stop: threading.Event) -> None:
        """Watch first, list second: what appears in between is reported, twice at worst."""
        waiting = [top]
        while waiting and not stop.is_set():
            folder = waiting.pop()
            if not self._watch(folder, CONTENT):
                continue
            self.tree.add(folder)
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
                continue  # gone again, or not readable: its parent reports the change

    def _watch_linked(self, file: str) -> None:
        """A write by another name of the file is reported only to who watches the file itself."""
        if len(self.linked) >= MOST_LINKED or not has_other_names(file):
            return
        with suppress(OSError):  # no watch left for it: a slow look finds what it misses
            if self._watch(file, MODIFY | ATTRIB | CLOSE_WRITE, 0):
                self.linked.add(file)

    def _watch(self, folder: str, mask: int, only: int = ONLYDIR) -> bool:
        try:
            watch = self._kernel.add(self._fd, folder, mask | only | EXCL_UNLINK | MASK_ADD)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            return False  # gone, no folder, or not readable
        before = self.by_path.get(folder)
        if before is not None and before != watch:
            self._leave(folder, before)
        self.by_path[folder] = watch
        self.paths.setdefault(watch, set()).add(folder)
        return True

    def disarm(self, top: str) -> None:
        below = f"{top}/"
        for folder in [path for path in self.by_path if path == top or path.startswith(below)]:
            self.tree.discard(folder)
            self.linked.discard(folder)
            if folder not in self.anchors or folder in self.roots:
                self._leave(folder, self.by_path.pop(folder))

    def _leave(self, folder: str, watch: int) -> None:
        paths = self.paths.get(watch, set())
        paths.discard(folder)
        if not paths:
            self.paths.pop(watch, None)
            self._kernel.remove(self._fd, watch)

    def forget(self, watch: int) -> None:
        for folder in self.paths.pop(watch, ()):
            if self.by_path.get(folder) == watch:
                del self.by_path[folder]
                self.tree.discard(folder)
                self.linked.discard(folder)
