"""A change of files, and all that can change an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devloop.dockerfile.dockerignore import NO_RULES, IgnoreRules
from devloop.dockerfile.plan import Base, Plan


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of paths that are gone. `moved`: old path -> new path; `fleeting`: made and removed in one
    burst, such as the file that an editor writes and renames into place."""

    deleted: frozenset[Path] = frozenset()
    moved: Mapping[Path, Path] = field(default_factory=dict)
    fleeting: frozenset[Path] = frozenset()

    def then(self, newer: Change) -> Removed:
        """With what is known of a newer change: a path may have come back."""
        return Removed(
            (self.deleted - newer.paths) | newer.removed.deleted,
            {
                **{old: new for old, new in self.moved.items() if old not in newer.paths},
                **newer.removed.moved,
            },
            (self.fleeting - newer.paths) | newer.removed.fleeting,
        )


NOTHING_REMOVED = Removed()


@dataclass(frozen=True, slots=True)
class Change:
    """Something moved. Empty `paths` = look at everything (start, overflow, drift of the cluster).

    `seen_at`: when the first event arrived; `saved_at`: newest mtime among the paths where that is
    at most 2 s before `seen_at` and not after it, else `seen_at` (S32). `restart`: the pods are to be
    replaced though they run the tree already. `removed`: which of the paths are not there any more.
    """

    paths: frozenset[Path]
    seen_at: float
    saved_at: float
    why: str = "saved"
    restart: bool = False
    removed: Removed = NOTHING_REMOVED

    @classmethod
    def start(cls, now: float) -> Change:
        """What every service begins with: look at everything."""
        return cls(frozenset(), now, now, "start")

    def merged(self, newer: Change) -> Change:
        """Both changes as one: paths unite (an empty set stays everything), the first times stay."""
        everything = not self.paths or not newer.paths
        return Change(
            frozenset() if everything else self.paths | newer.paths,
            min(self.seen_at, newer.seen_at),
            min(self.saved_at, newer.saved_at),
            newer.why,
            self.restart or newer.restart,
            self.removed.then(newer),
        )


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One input of a build as the stat cache knows it. `digest` is sha256 hex of the content
    (regular files), of the target (links), or "" (directories)."""

    path: str  # relative to the context, "/" separated
    kind: Literal["file", "dir", "link"]
    mode: int
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that can change the image (S5). `files` is keyed by context-relative path."""

    files: Mapping[str, FileEntry]
    bases: tuple[Base, ...]
    platform: str
    dockerfile_digest: str
    ignore_digest: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A digest (16 hex) of everything that can change the image, and what it was taken from: the inputs, the
    plan of the build (None where nobody made one), and the ignore rules that chose the files."""

    digest: str
    inputs: Inputs
    plan: Plan | None = field(default=None, compare=False, repr=False)
    rules: IgnoreRules = field(default=NO_RULES, compare=False, repr=False)
