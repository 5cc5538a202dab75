"""One service's interest in file events, and which came: what matters, and when it is due."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devloop.files import is_link, is_there
from devloop.watch.debounce import Burst, git_is_busy
from devloop.watch.editor_files import is_editor_temporary
from devloop.watch.plan import Interest
from devloop.watch.source import Batch

GIT_POLL = 0.01  # seconds between two looks at git's index.lock


@dataclass(slots=True)
class Listener:
    """One service's interest, and the events that came for it."""

    interest: Interest
    burst: Burst
    git: tuple[Path, ...] = ()  # the .git folders of its work trees

    def hear(self, batch: Batch, now: float) -> None:
        if batch.lost is not None or any(self._touches(folder) for folder in batch.fresh):
            self.burst.add(None, True, now)
        for path, settled in batch.paths.items():
            if path not in self.burst.paths and not self._wants(path):
                continue
            if path not in self.interest.files and is_editor_temporary(path.name):
                self.burst.set_aside(path, now)
            else:
                self.burst.add(path, settled, now)
                if self.burst.everything:
                    break  # one more path adds nothing
        taken = self.burst.paths.keys()
        self.burst.created |= batch.created & taken
        self.burst.moved.update((old, new) for old, new in batch.moved.items() if old in taken)

    def due(self, now: float, wall: float) -> float:
        """As the burst says, in ticks, but not while git is in the middle of something."""
        due = self.burst.due()
        if due <= now < self.burst.capped_at and any(git_is_busy(folder, wall) for folder in self.git):
            return now + GIT_POLL
        return due

    def _wants(self, path: Path) -> bool:
        if path in self.interest.files:
            return True
        return self._is_inside(path) and self.interest.concerns(path)

    def matters(self, path: Path) -> bool:
        """Is a temporary file there, or was it when the service was last looked at?"""
        return is_there(path) or self.interest.counts(path)

    def new_link(self, batch: Batch) -> bool:
        """Whether there may be links below the folders that are gone through, and were not before."""
        follows, concerns = self.interest.follows, self.interest.concerns
        if follows is None:
            return False
        return any(map(self._touches, batch.fresh)) or any(
            self._is_inside(path) and (follows(path) or concerns(path)) and is_link(path)
            for path in batch.paths
        )

    def _is_inside(self, path: Path) -> bool:
        text = str(path)  # pathlib's own test takes ten times as long, and this is asked for every event
        return any(text == top or text.startswith(f"{top}/") for top in map(str, self.interest.folders))

    def _touches(self, folder: Path) -> bool:
        """May the folder's coming or going matter? A root, a folder above one, or one that is entered."""
        for root in self.interest.folders:
            if root.is_relative_to(folder):
                return True
            if folder.is_relative_to(root) and self.interest.enters(folder):
                return True
        return False
