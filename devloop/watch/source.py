"""What watching asks of the operating system: sources of file events, and mounts (adapters/watch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from anyio.abc import TaskStatus


@dataclass(frozen=True, slots=True)
class WatchRoots:
    """What to watch: folders with all below that their predicate enters, and single files."""

    folders: Mapping[Path, Callable[[Path], bool]]
    files: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that arrived together. `paths`: path -> True when it was closed or renamed into place,
    False while somebody may still be writing. `fresh`: folders of which anything may have changed.
    `lost`: why everything must be looked at. `created`: new names; `moved`: old path -> new one of a file."""

    events: int
    paths: Mapping[Path, bool]
    fresh: frozenset[Path] = frozenset()
    lost: str | None = None
    created: frozenset[Path] = frozenset()
    moved: Mapping[Path, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """Why a source cannot go on, and the command that raises the limit."""

    reason: str
    remedy: str


class EventSource(Protocol):
    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report to `seen` until cancelled; ends by itself only with a Limit."""
        ...


class MountAlarm(Protocol):
    async def wait(self) -> None:
        """Until something was mounted or unmounted; for ever where the kernel does not say."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What one operating system brings to watching.

    `native` reports events of the kernel, `polling` looks again and again. `silent_type`: the type of a
    folder's file system if it does not report changes, else None; `silent_below`: the folders below it of
    which that holds, and their types. `mounts_at`: one line per mount that these real paths depend on.
    """

    native: Callable[[WatchRoots], EventSource]
    polling: Callable[[WatchRoots], EventSource]
    silent_type: Callable[[Path], str | None]
    silent_below: Callable[[Path], Mapping[Path, str]]
    mounts_at: Callable[[Sequence[str]], frozenset[str]]
    mount_alarm: Callable[[], AbstractContextManager[MountAlarm]]
