"""What counts of one file; its bytes are read only where neither the tree before nor the stat cache knows
them (S7).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from devloop.concurrency import Check
from devloop.inputs.stat_cache import Look
from devloop.inputs.walk import WalkEntry
from devloop.model import FileEntry

Kind = Literal["file", "dir", "link"]


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a context as an earlier look found them, with their packed stats; `racy`: those whose
    stat may not show that they were changed since."""

    root: str
    files: Mapping[str, FileEntry]
    seen: Mapping[str, bytes]
    racy: Set[str]
    look: Look
    check: Check

    def entry(self, found: WalkEntry, stamp: bytes, *, fresh: bool) -> tuple[FileEntry, bool]:
        """What counts of one file now, and whether its stat will show the next change. It is the very entry
        of before where that is equal: deltas keep it in memory, too.

        Raises FileNotFoundError or NotADirectoryError where it vanished just now, FingerprintError.
        """
        known = self.files.get(found.path)
        digest, settled = "", True
        if found.kind == "file":
            digest, settled = self._digest(found, known, stamp, fresh=fresh)
        elif found.kind == "link":
            digest = hashlib.sha256(os.fsencode(found.target)).hexdigest()
        kind, mode = kind_and_mode(found)
        size = found.stat.st_size if found.kind in ("file", "link") else 0
        entry = FileEntry(found.path, kind, mode, size, found.stat.st_mtime_ns, digest)
        return known if known == entry else entry, settled

    def _digest(
        self, found: WalkEntry, known: FileEntry | None, stamp: bytes, *, fresh: bool
    ) -> tuple[str, bool]:
        if known is not None and not fresh and self._is_unchanged(known, stamp):
            return known.digest, True
        full = os.path.join(self.root, found.path)  # noqa: PTH118
        return self.look.digest(full, found.stat, fresh=fresh, check=self.check)

    def _is_unchanged(self, known: FileEntry, stamp: bytes) -> bool:
        is_read = known.kind == "file" and known.digest != ""
        return is_read and known.path not in self.racy and self.seen.get(known.path) == stamp


def kind_and_mode(found: WalkEntry) -> tuple[Kind, int]:
    """A fifo or a device is a "file" without a digest whose mode says what it is; a link's mode is
    whatever the system makes it."""
    if found.kind == "link":
        return "link", 0o777
    if found.kind == "other":
        return "file", found.stat.st_mode
    return found.kind, found.stat.st_mode & 0o7777
