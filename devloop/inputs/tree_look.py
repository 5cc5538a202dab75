"""A look at the tree of a service by others than its trip, and what it found (S39)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from devloop.model import BuildSpec, FileEntry, Inputs

MOST_PATHS = 500


@dataclass(frozen=True, slots=True)
class TreeLook:
    """The digest of the tree at this moment. `is_news`: the last look, a trip's or not, found another one;
    `paths`: what has changed since, none where that is not known, or too much."""

    digest: str
    is_news: bool
    paths: frozenset[Path] = frozenset()


def changed_paths(spec: BuildSpec, old: Inputs, new: Inputs) -> frozenset[Path]:
    """Which files are others than before; none where that is not all that has changed, or they are many."""
    if replace(old, files={}, dockerfile_digest="") != replace(new, files={}, dockerfile_digest=""):
        return frozenset()
    found = {spec.context / path for path in old.files.keys() ^ new.files.keys()}
    for path, entry in new.files.items():
        known = old.files.get(path, entry)
        if known is not entry and _counts(known) != _counts(entry):
            found.add(spec.context / path)
    if old.dockerfile_digest != new.dockerfile_digest:
        found.add(spec.dockerfile)
    return frozenset(found) if len(found) <= MOST_PATHS else frozenset()


def _counts(entry: FileEntry) -> tuple[str, int, str]:
    return entry.kind, entry.mode, entry.digest
