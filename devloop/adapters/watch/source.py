"""What a source of file events takes and tells; inotify.py, polling.py and fsevents.py are the sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anyio.abc import TaskStatus


@dataclass(frozen=True, slots=True)
class Roots:
    """What to watch: folders with all below that their predicate enters, and single files."""

    folders: Mapping[Path, Callable[[Path], bool]]
    files: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that arrived together. `paths`: path -> True when it was closed or renamed into place,
    False while somebody may still be writing. `fresh`: folders of which anything may have changed.
    `lost`: why everything must be looked at."""

    events: int
    paths: Mapping[Path, bool]
    fresh: frozenset[Path] = frozenset()
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """Why a source cannot go on, and the command that raises the limit."""

    reason: str
    remedy: str


class Source(Protocol):
    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report to `seen` until cancelled; ends by itself only with a Limit."""
        ...
