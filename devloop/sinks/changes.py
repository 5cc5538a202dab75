"""A change of files in words: what was saved, deleted and renamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from devloop.model import Change

SHOWN_PATHS = 3


def what_changed(change: Change, root: Path) -> str:
    """ "saved: a.py; deleted: b.py; renamed: c.py -> d.py", or why else the trip began."""
    deleted, moved, fleeting = change.removed.deleted, change.removed.moved, change.removed.fleeting
    saved = change.paths - deleted - fleeting - moved.keys() - set(moved.values())
    if not (saved or deleted or moved):
        saved = change.paths  # made and removed, and nothing else
    parts = [f"{change.why}: {files(saved, root)}"] if saved else []
    parts += [f"deleted: {files(deleted, root)}"] if deleted else []
    shown = [f"{_name(old, root)} -> {_name(new, root)}" for old, new in sorted(moved.items())]
    parts += [f"renamed: {_some(shown)}"] if shown else []
    return "; ".join(parts)


def files(paths: frozenset[Path], root: Path) -> str:
    """ "a.py, b.py, c.py and 4 more", relative to `root` where below it."""
    return _some(sorted(_name(path, root) for path in paths))


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_PATHS} more" if len(names) > SHOWN_PATHS else ""
    return ", ".join(names[:SHOWN_PATHS]) + more
