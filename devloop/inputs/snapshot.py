"""The inputs of one service as they lie on disk, and their digest, both kept current by single paths."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from devloop.concurrency import Check
from devloop.inputs.contents import Contents, kind_and_mode
from devloop.inputs.selection import Selection, SourcePattern
from devloop.inputs.stat_cache import Look, StatCache, packed
from devloop.inputs.walk import Walk, WalkEntry, look
from devloop.model import FileEntry

_MANY = 500  # changed paths from which on one walk costs less


@dataclass(frozen=True, slots=True)
class Tree:
    """What a build reads from its context, at one moment. Made by `read` and `updated`, never changed.

    `digest` counts path, type, mode, content and link target, and no times (S5).
    """

    context: Path
    selection: Selection
    files: Mapping[str, FileEntry]
    seen: Mapping[str, bytes]  # the stat of each, packed
    racy: frozenset[str]  # files whose stat may not show the next change: they are read again (S7)
    listed: Mapping[str, bytes]  # directories whose names count, with their stat
    links: frozenset[str]  # that a source goes through
    inside: Mapping[str, tuple[str, ...]]  # directory -> the paths in it, sorted
    sums: Mapping[str, bytes]  # directory -> digest of what counts of these

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
        return self._with(found, gone, paths, walk, self._contents(cache.look(), check))

    def unchanged(self, check: Check) -> bool:
        """Does everything look the same now, by stat (S8)?"""
        root = os.fspath(self.context)
        for directory, seen in self.listed.items():
            check()
            found = look(root, directory)
            if found is None or packed(found.stat) != seen:
                return self._unchanged_by_walk(check)
        for path, seen in self.seen.items():
            found = look(root, path)
            if found is None or (found.kind != "dir" and packed(found.stat) != seen):
                return False
        return True

    def _unchanged_by_walk(self, check: Check) -> bool:
        """A name came or went in a directory: it may be one that does not count."""
        walk = Walk(self.context, _original(self.selection), check)
        now = {f.path: f for f in walk.everything()}
        return now.keys() == self.files.keys() and all(
            kind_and_mode(found) == (self.files[path].kind, self.files[path].mode)
            and (found.kind == "dir" or packed(found.stat) == self.seen[path])
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

    def _contents(self, look: Look, check: Check) -> Contents:
        return Contents(os.fspath(self.context), self.files, self.seen, self.racy, look, check)

    def _with(
        self,
        found: Mapping[str, WalkEntry],
        gone: Iterable[str],
        fresh: set[str],
        walk: Walk,
        contents: Contents,
    ) -> Tree:
        """The tree with these files read and those forgotten."""
        files, seen, racy, listed = dict(self.files), dict(self.seen), set(self.racy), dict(self.listed)
        listed.update((path, packed(status)) for path, status in walk.listed.items())
        missing = set(gone)
        for path, item in found.items():
            stamp = packed(item.stat)
            try:
                entry, settled = contents.entry(item, stamp, fresh=path in fresh)
            except (FileNotFoundError, NotADirectoryError):
                missing.add(path)
                continue
            files[path], seen[path] = entry, stamp
            if settled:
                racy.discard(path)
            else:
                racy.add(path)
        for path in missing:
            files.pop(path, None)
            seen.pop(path, None)
            listed.pop(path, None)
        racy -= missing
        above = {path.rpartition("/")[0] for path in (*missing, *found)}
        # A directory's own times change with its names; those alone are no reason to list it again.
        for path in above - found.keys():
            now = look(os.fspath(self.context), path)
            if now and path in listed:
                listed[path] = packed(now.stat)
            if now and path in files:
                files[path] = replace(files[path], mtime_ns=now.stat.st_mtime_ns)
        inside, sums = _summed(self.inside, self.sums, files, (*missing, *found))
        return Tree(
            self.context, self.selection, files, seen, frozenset(racy), listed, self.links, inside, sums
        )


def _summed(
    inside: Mapping[str, tuple[str, ...]],
    sums: Mapping[str, bytes],
    files: Mapping[str, FileEntry],
    touched: Iterable[str],
) -> tuple[dict[str, tuple[str, ...]], dict[str, bytes]]:
    """The paths in each directory, and its digest, with the touched files as they are now."""
    by_directory: dict[str, list[str]] = {}
    for path in touched:
        by_directory.setdefault(path.rpartition("/")[0], []).append(path)
    now, digests = dict(inside), dict(sums)
    for directory, paths in by_directory.items():
        known = now.get(directory, ())
        names = set(known).union(paths)
        there = known if len(names) == len(known) else tuple(sorted(names))
        if any(path not in files for path in paths):
            there = tuple(path for path in there if path in files)
        if there:
            now[directory], digests[directory] = there, _sum(directory, there, files)
        else:
            now.pop(directory, None)
            digests.pop(directory, None)
    return now, digests


def read(
    context: Path,
    selection: Selection,
    fresh: set[str],
    cache: StatCache,
    check: Check,
    before: Tree | None = None,
) -> Tree:
    """Look at everything; bytes are read only for `fresh`, or where neither the tree `before` nor the stat
    cache knows them.

    Raises FingerprintError, and whatever `check` raises.
    """
    walk = Walk(context, selection, check)
    found = {f.path: f for f in walk.everything()}
    selection = _Followed(walk.patterns, selection)
    empty = Tree(context, selection, {}, {}, frozenset(), {}, frozenset(walk.links), {}, {})
    contents = (before or empty)._contents(cache.look(os.fspath(context)), check)
    return empty._with(found, (), fresh, walk, contents)


class _Followed(Selection):
    """A selection with the targets of the links that its sources went through."""

    def __init__(self, patterns: Iterable[SourcePattern], original: Selection) -> None:
        every = tuple(patterns)
        super().__init__(every, original.rules)
        self.original = original
        self._every = every

    def leads_to(self, parts: tuple[str, ...]) -> list[SourcePattern]:
        """Where a link leads to the whole context, that link still counts: it may turn."""
        return [p for p in self._every if p.fits(parts) and p.follows(len(parts))]


def _original(selection: Selection) -> Selection:
    return selection.original if isinstance(selection, _Followed) else selection


def _sum(directory: str, paths: Iterable[str], files: Mapping[str, FileEntry]) -> bytes:
    """Of kind, mode and content by name. The names are sorted as text, as the paths are."""
    start = len(directory) + 1 if directory else 0
    entries = map(files.__getitem__, paths)
    return hashlib.sha256(b"\0".join([_record(entry, start) for entry in entries])).digest()


def _record(entry: FileEntry, start: int) -> bytes:
    return os.fsencode(f"{entry.path[start:]}\0{entry.kind} {entry.mode:o} {entry.digest}")
