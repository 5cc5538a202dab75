"""The inputs of one service as they lie on disk, and their digest, both kept current by single paths."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from devloop.concurrency import Check
from devloop.inputs.selection import Selection, SourcePattern
from devloop.inputs.stat_cache import Identity, StatCache, identity
from devloop.inputs.walk import Walk, WalkEntry, look
from devloop.model import FileEntry

Kind = Literal["file", "dir", "link"]
_MANY = 500  # changed paths from which on one walk costs less


@dataclass(frozen=True, slots=True)
class Tree:
    """What a build reads from its context, at one moment. Made by `read` and `updated`, never changed.

    `digest` counts path, type, mode, content and link target, and no times (S5).
    """

    context: Path
    selection: Selection
    files: Mapping[str, FileEntry]
    seen: Mapping[str, Identity]
    listed: Mapping[str, Identity]  # directories whose names count
    links: frozenset[str]  # that a source goes through
    records: Mapping[str, Mapping[str, bytes]]  # directory -> name -> what counts of it
    sums: Mapping[str, bytes]  # directory -> digest of its records

    @property
    def digest(self) -> bytes:
        total = hashlib.sha256()
        for directory in sorted(self.sums):
            total.update(os.fsencode(directory) + b"\0" + self.sums[directory])
        return total.digest()

    def updated(self, paths: Iterable[str], cache: StatCache, check: Check) -> Tree | None:
        """The tree now, given that only these context-relative paths may differ; they are read again
        whatever their stat says (S7). None: it takes a look at everything.

        Raises FingerprintError, and whatever `check` raises.
        """
        stale: set[str] = set()
        paths = set(paths)
        if len(paths) > _MANY:
            return None
        paths |= self._real(paths)
        for path in paths:
            affected = self._affected(path)
            if affected is None:
                return None
            stale.add(affected)
        walk = Walk(self.context, self.selection, check)
        found = {f.path: f for path in sorted(stale) for f in walk.below(path)}
        if walk.links:
            return None
        gone = {known for path in stale for known in self._at_or_below(path)} - found.keys()
        gone |= self._emptied(gone) - found.keys()
        return self._with(found, gone, paths, walk, cache, check)

    def unchanged(self, check: Check) -> bool:
        """Does everything look the same now, by stat (S8)?"""
        root = os.fspath(self.context)
        for directory, seen in self.listed.items():
            check()
            found = look(root, directory)
            if found is None or identity(found.stat) != seen:
                return self._unchanged_by_walk(check)
        for path, seen in self.seen.items():
            found = look(root, path)
            if found is None or (found.kind != "dir" and identity(found.stat) != seen):
                return False
        return True

    def _unchanged_by_walk(self, check: Check) -> bool:
        """A name came or went in a directory: it may be one that does not count."""
        walk = Walk(self.context, _original(self.selection), check)
        now = {f.path: f for f in walk.everything()}
        return now.keys() == self.files.keys() and all(
            _kind_and_mode(found) == (self.files[path].kind, self.files[path].mode)
            and (found.kind == "dir" or identity(found.stat) == self.seen[path])
            for path, found in now.items()
        )

    def _real(self, paths: Iterable[str]) -> set[str]:
        """Where the paths lie when the links above them are followed: a watcher that follows links may
        name a file by any of its paths."""
        root, real = os.path.realpath(self.context), set[str]()
        above: dict[str, str] = {}
        for path in paths:
            directory, _, name = path.rpartition("/")
            if directory not in above:
                above[directory] = os.path.realpath(os.path.join(root, directory))  # noqa: PTH118
            if f"{above[directory]}/".startswith(f"{root}/"):
                real.add(f"{above[directory]}/{name}"[len(root) + 1 :])
        return real

    def _affected(self, path: str) -> str | None:
        """The path, or the directory above it from which on the tree is to be read again: a directory
        that is new, or that is none any more. None: a link is in the way of a source."""
        parts = tuple(path.split("/"))
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            found = look(os.fspath(self.context), here)
            is_link = found is not None and found.kind == "link"
            if (is_link or here in self.links) and self.selection.leads_to(parts[:depth]):
                return None
            if found is None or found.kind != "dir":
                return here
            if here not in self.files and depth < len(parts) and self.selection.takes(here):
                return here
        return path

    def _at_or_below(self, path: str) -> Iterable[str]:
        known = self.files.get(path)
        if known is None and path not in self.listed:
            return ()
        if known is not None and known.kind != "dir":
            return (path,)
        inside = path + "/"
        return [known for known in self.files if known == path or known.startswith(inside)]

    def _emptied(self, gone: set[str]) -> set[str]:
        """Directories that were there only because of a file that is gone (they are left out themselves)."""
        emptied: set[str] = set()
        for path in sorted(gone, reverse=True):
            above = path.rpartition("/")[0]
            while above in self.files and self.selection.rules.leaves_out(above):
                inside = above + "/"
                left = gone | emptied
                if any(other.startswith(inside) and other not in left for other in self.files):
                    break
                emptied.add(above)
                above = above.rpartition("/")[0]
        return emptied

    def _with(
        self,
        found: Mapping[str, WalkEntry],
        gone: Iterable[str],
        fresh: set[str],
        walk: Walk,
        cache: StatCache,
        check: Check,
    ) -> Tree:
        """The tree with these files read and those forgotten."""
        files, seen, listed = dict(self.files), dict(self.seen), dict(self.listed)
        listed.update((path, identity(status)) for path, status in walk.listed.items())
        missing = set(gone)
        for path, item in found.items():
            entry = read_entry(self.context, item, cache, fresh=path in fresh, check=check)
            if entry is None:
                missing.add(path)
            else:
                files[path], seen[path] = entry, identity(item.stat)
        for path in missing:
            files.pop(path, None)
            seen.pop(path, None)
            listed.pop(path, None)
        above = {path.rpartition("/")[0] for path in (*missing, *found)}
        # A directory's own times change with its names; those alone are no reason to list it again.
        for path in above - found.keys():
            now = look(os.fspath(self.context), path)
            if now and path in listed:
                listed[path] = identity(now.stat)
            if now and path in files:
                files[path] = replace(files[path], mtime_ns=now.stat.st_mtime_ns)
        records, sums = _summed(self.records, self.sums, files, (*missing, *found))
        return Tree(self.context, self.selection, files, seen, listed, self.links, records, sums)


def _summed(
    records: Mapping[str, Mapping[str, bytes]],
    sums: Mapping[str, bytes],
    files: Mapping[str, FileEntry],
    touched: Iterable[str],
) -> tuple[dict[str, Mapping[str, bytes]], dict[str, bytes]]:
    """Records and digests by directory, with those of the touched files as they are now."""
    changed: dict[str, dict[str, bytes]] = {}
    for path in touched:
        directory, _, name = path.rpartition("/")
        inside = changed.get(directory)
        if inside is None:
            inside = changed[directory] = dict(records.get(directory, {}))
        entry = files.get(path)
        if entry is None:
            inside.pop(name, None)
        else:
            inside[name] = _record(entry)
    now, digests = dict(records), dict(sums)
    for directory, inside in changed.items():
        if inside:
            now[directory], digests[directory] = inside, _sum(inside)
        else:
            now.pop(directory, None)
            digests.pop(directory, None)
    return now, digests


def read(context: Path, selection: Selection, fresh: set[str], cache: StatCache, check: Check) -> Tree:
    """Look at everything; bytes are read only where the stat cache does not know them, or for `fresh`.

    Raises FingerprintError, and whatever `check` raises.
    """
    walk = Walk(context, selection, check)
    found = {f.path: f for f in walk.everything()}
    selection = _Followed(walk.patterns, selection)
    empty = Tree(context, selection, {}, {}, {}, frozenset(walk.links), {}, {})
    return empty._with(found, (), fresh, walk, cache, check)


class _Followed(Selection):
    """A selection with the targets of the links that its sources went through."""

    def __init__(self, patterns: Iterable[SourcePattern], original: Selection) -> None:
        super().__init__(patterns, original.rules)
        self.original = original


def _original(selection: Selection) -> Selection:
    return selection.original if isinstance(selection, _Followed) else selection


def read_entry(
    context: Path, found: WalkEntry, cache: StatCache, *, fresh: bool, check: Check
) -> FileEntry | None:
    """What counts of one file; None if it vanished just now."""
    status = found.stat
    kind, mode = _kind_and_mode(found)
    digest = ""
    if found.kind == "file":
        try:
            full = os.path.join(context, found.path)  # noqa: PTH118
            digest = cache.digest(full, status, fresh=fresh, check=check)
        except (FileNotFoundError, NotADirectoryError):
            return None
    elif found.kind == "link":
        digest = hashlib.sha256(os.fsencode(found.target)).hexdigest()
    size = status.st_size if found.kind in ("file", "link") else 0
    return FileEntry(found.path, kind, mode, size, status.st_mtime_ns, digest)


def _kind_and_mode(found: WalkEntry) -> tuple[Kind, int]:
    """A fifo or a device is a "file" without a digest whose mode says what it is; a link's mode is
    whatever the system makes it."""
    if found.kind == "link":
        return "link", 0o777
    if found.kind == "other":
        return "file", found.stat.st_mode
    return found.kind, found.stat.st_mode & 0o7777


def _record(entry: FileEntry) -> bytes:
    return f"{entry.kind} {entry.mode:o} {entry.digest}".encode()


def _sum(records: Mapping[str, bytes]) -> bytes:
    joined = b"\0".join(os.fsencode(name) + b"\0" + records[name] for name in sorted(records))
    return hashlib.sha256(joined).digest()
