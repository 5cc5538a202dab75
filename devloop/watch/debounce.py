"""When a burst of file events is over: one save goes through at once, a checkout is one change."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from devloop.files import is_folder, read_text
from devloop.model import NOTHING_REMOVED, Change, Removed

AT_ONCE = 0.004  # quiet after one save that is complete
WRITING = 0.02  # quiet after one write that may go on
PER_PATH, MOST_QUIET = 0.01, 0.3  # quiet after a burst: per path, and at most
LONGEST_WAIT = 2.0  # from the first event to the delivery, however busy the tree is
AFTERGLOW = 0.25  # a change so soon after a delivery belongs to the same burst
ASIDE, LONGEST_ASIDE = 10.0, 30.0  # quiet after editors' temporary files alone, and at most
MANY = 2000  # paths in one burst, from which on everything is looked at
FRESH = 2.0  # how old an mtime may be to count as the moment of saving (S32)


@dataclass(slots=True)
class Burst:
    """What has gathered for one service since the last delivery."""

    paths: dict[Path, bool] = field(default_factory=dict)  # path -> nobody is writing it now
    aside: set[Path] = field(default_factory=set)  # of editors' temporary files: most are gone soon
    created: set[Path] = field(default_factory=set)
    moved: dict[Path, Path] = field(default_factory=dict)  # old path -> new path
    everything: bool = False
    first: float = 0.0
    last: float = 0.0
    heat: int = 0  # paths of the delivery just before
    delivered: float = 0.0

    @property
    def capped_at(self) -> float:
        """When it is delivered at the latest."""
        return self.first + (LONGEST_WAIT if self.pressing else LONGEST_ASIDE)

    @property
    def pressing(self) -> bool:
        """Something else than editors' temporary files waits."""
        return self.everything or bool(self.paths)

    @property
    def waiting(self) -> bool:
        return self.pressing or bool(self.aside)

    def set_aside(self, path: Path, now: float) -> None:
        """Note an editor's temporary file: it goes along with the next save, or waits for its own end."""
        if not self.waiting:
            self.first = now
        if not self.pressing:
            self.last = now
        self.aside.add(path)
        if len(self.aside) > MANY:
            self.add(None, True, now)

    def add(self, path: Path | None, settled: bool, now: float) -> None:
        """Note a path, or with None everything."""
        if not self.pressing:
            self.first = now
            if now - self.delivered > AFTERGLOW:
                self.heat = 0
        self.last = now
        if path is None or len(self.paths) >= MANY:
            self.everything = True
        else:
            self.paths[path] = settled

    def due(self) -> float:
        """When it has been quiet for long enough; the more paths, the longer."""
        if not self.pressing:
            return min(self.last + ASIDE, self.capped_at)
        count = len(self.paths) + self.heat
        if count <= 1 and not self.everything:
            quiet = AT_ONCE if all(self.paths.values()) else WRITING
        else:
            quiet = min(MOST_QUIET, PER_PATH * max(2, count))
        return min(self.last + quiet, self.capped_at)

    def take(self, now: float, wall: float, matters: Callable[[Path], bool]) -> Change | None:
        """What has gathered; of the temporary files those that matter. None if nothing is left.

        All times in here are ticks; `wall` is what the wall clock shows now.
        """
        also = () if self.everything else tuple(path for path in self.aside if matters(path))
        paths = frozenset() if self.everything else frozenset((*self.paths, *also))
        seen_at = wall - (now - self.first)
        stamps = _stamps(paths)
        removed = self._removed(paths - stamps.keys(), stamps.keys())
        change = Change(paths, seen_at, _newest(stamps.values(), seen_at), removed=removed)
        idle = not self.pressing and not also
        if not idle:
            self.heat, self.delivered = len(self.paths), now
        self.paths, self.moved, self.everything = {}, {}, False
        self.aside, self.created = set(), set()
        return None if idle else change

    def _removed(self, gone: frozenset[Path], there: Collection[Path]) -> Removed:
        if not gone:
            return NOTHING_REMOVED
        fleeting = gone & self.created
        moved = {old: new for old, new in self.moved.items() if old in gone - fleeting and new in there}
        return Removed(gone - fleeting - moved.keys(), moved, fleeting)


def saved_at(paths: frozenset[Path], seen_at: float) -> float:
    """The newest mtime that is at most 2 s before `seen_at` and not after it, else `seen_at` (S32)."""
    return _newest(_stamps(paths).values(), seen_at)


def _stamps(paths: frozenset[Path]) -> dict[Path, float]:
    """The mtime of each that is there."""
    stamps = {}
    for path in paths:
        try:
            stamps[path] = os.lstat(path).st_mtime
        except OSError:
            continue  # deleted
    return stamps


def _newest(stamps: Iterable[float], seen_at: float) -> float:
    newest = max((stamp for stamp in stamps if stamp <= seen_at), default=0.0)
    return newest if newest > seen_at - FRESH else seen_at


def git_folder(start: Path) -> Path | None:
    """The .git folder of the work tree that `start` lies in, a linked one's as well."""
    for folder in (start, *start.parents):
        marker = folder / ".git"
        if is_folder(marker):
            return marker
        try:
            text = read_text(marker, "utf-8", "surrogateescape")
        except OSError:
            continue
        if text.startswith("gitdir: "):
            return folder / text.removeprefix("gitdir: ").strip()
    return None


def git_is_busy(folder: Path, now: float) -> bool:
    """Does git hold the index right now? An old lock is one left over, or an open commit message; one from
    the future is older than the clock."""
    try:
        since = os.lstat(folder / "index.lock").st_ctime
    except OSError:
        return False
    return abs(now - since) < LONGEST_WAIT
