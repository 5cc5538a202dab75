"""Which files of a context a build reads (S5): the walk, and keeping its result current by single paths.

COPY's own rules: a wildcard stops at a slash, a directory brings all below it, a symlink that a source
names or passes through brings its target; links inside a copied directory stay links.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devloop.concurrency import Check
from devloop.errors import FingerprintError
from devloop.inputs.selection import Selection, SourcePattern, split

_MAX_HOPS = 40  # as Linux: what needs more is a loop


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """One file of the context. `kind` "other" = fifo, socket or device. `stat` is the link's own."""

    path: str
    kind: Literal["file", "dir", "link", "other"]
    stat: os.stat_result
    target: str = ""  # of a link


class Walk:
    """One look at a context on disk. `links` and `patterns` are complete when it ended."""

    def __init__(self, context: Path, selection: Selection, check: Check) -> None:
        self._root = os.fspath(context)
        self._rules, self._check = selection.rules, check
        self._selection = selection
        self.patterns = list(selection.patterns)
        self.links: set[str] = set()
        self.listed: dict[str, os.stat_result] = {}  # directories whose names were read, as they were before

    def everything(self) -> Iterator[WalkEntry]:
        """All that the build reads. A path may come twice. Raises FingerprintError."""
        if not os.path.isdir(self._root):  # noqa: PTH112 - hot module, strings throughout
            raise FingerprintError(
                f"build context {self._root} is not a directory",
                reason="ContextMissing",
                hint="set build.context in config.yaml, relative to that file",
            )
        done = 0
        while done < len(self.patterns):
            batch = Selection(self.patterns[done:], self._rules)
            done = len(self.patterns)
            yield from self._directory("", batch, _is_whole(batch), [])

    def below(self, path: str) -> Iterator[WalkEntry]:
        """What the build reads of one path and below it, with the directories above that come along
        because of it. The directories above must be real ones, not links."""
        parts = split(path)
        ahead: list[WalkEntry] = []
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            if self._prunes(directory):
                return
            if self._selection.selects(parts[:depth]) and self._rules.leaves_out(directory):
                found = self._look(directory)
                if found:
                    ahead.append(found)
        if not parts:
            yield from self.everything()
            return
        found = self._look(path)
        if found:
            yield from self._entry(found, parts, self._selection, ahead)

    # --- steps

    def _directory(
        self, path: str, selection: Selection, inside: bool, ahead: list[WalkEntry]
    ) -> Iterator[WalkEntry]:
        """The entries of one directory. `inside` = all of it is read. `ahead`: directories that are left
        out themselves and come along with the first file below them."""
        self._check()
        full = os.path.join(self._root, path)  # noqa: PTH118
        try:
            self.listed[path] = os.stat(full)  # noqa: PTH116
            names = os.listdir(full)  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        for name in names:
            child = f"{path}/{name}" if path else name
            if inside:
                yield from self._child(child, selection, ahead)
            else:
                parts = split(child)
                if any(p.fits(parts) for p in selection.patterns):
                    found = self._look(child)
                    if found:
                        yield from self._entry(found, parts, selection, ahead)

    def _child(self, path: str, selection: Selection, ahead: list[WalkEntry]) -> Iterator[WalkEntry]:
        """An entry of a directory that is read as a whole."""
        out = self._rules.leaves_out(path)
        if out and not self._rules.may_descend(path):
            return
        found = self._look(path)
        if found:
            if found.kind == "link" and not out:
                self._follow_source(found, selection)
            yield from self._taken(found, out, selection, ahead)

    def _follow_source(self, link: WalkEntry, selection: Selection) -> None:
        """A link in a directory that is read as a whole stays one, unless it is a source of its own too."""
        parts = split(link.path)
        leading = selection.leads_to(parts)
        if leading:
            self._follow(link, parts, leading)

    def _taken(
        self, found: WalkEntry, out: bool, selection: Selection, ahead: list[WalkEntry]
    ) -> Iterator[WalkEntry]:
        if not out:
            yield from ahead
            ahead.clear()
            yield found
        if found.kind == "dir" and not (out and not self._rules.may_descend(found.path)):
            below = [*ahead, found] if out else []
            for inner in self._directory(found.path, selection, True, below):
                ahead.clear()
                yield inner

    def _entry(
        self, found: WalkEntry, parts: tuple[str, ...], selection: Selection, ahead: list[WalkEntry]
    ) -> Iterator[WalkEntry]:
        """An entry that a pattern fits, as far as it goes."""
        out = self._rules.leaves_out(found.path)
        selected = selection.selects(parts)
        complete = any(len(parts) >= len(p.parts) and p.fits(parts) for p in selection.patterns)
        leading = selection.leads_to(parts)
        if found.kind == "link" and leading:
            if not out:
                self._follow(found, parts, leading)
                yield found
        elif complete:
            yield from self._taken(found, out, selection, ahead)
        elif found.kind == "dir" and not (out and not self._rules.may_descend(found.path)):
            if selected and not out:
                yield found
            yield from self._directory(found.path, selection, False, ahead)

    def _follow(self, link: WalkEntry, parts: tuple[str, ...], patterns: list[SourcePattern]) -> None:
        """The target of a source that is a link is read too, inside the context at any rate."""
        self.links.add(link.path)
        # RootPath of containerd/continuity: an absolute target begins at the context.
        target = posixpath.normpath(posixpath.join("/", *parts[:-1], link.target)).lstrip("/")
        for pattern in patterns:
            further = SourcePattern(
                (*split(target), *pattern.parts[len(parts) :]), pattern.parents, pattern.hops + 1
            )
            if further not in self.patterns and further.hops <= _MAX_HOPS:
                self.patterns.append(further)

    def _prunes(self, directory: str) -> bool:
        return self._rules.leaves_out(directory) and not self._rules.may_descend(directory)

    def _look(self, path: str) -> WalkEntry | None:
        return look(self._root, path)


def look(root: str, path: str) -> WalkEntry | None:
    """One file as it is now, None if it is gone. Raises FingerprintError."""
    full = os.path.join(root, path)  # noqa: PTH118
    try:
        status = os.lstat(full)
        mode = status.st_mode
        if stat.S_ISREG(mode):
            return WalkEntry(path, "file", status)
        if stat.S_ISDIR(mode):
            return WalkEntry(path, "dir", status)
        if stat.S_ISLNK(mode):
            return WalkEntry(path, "link", status, os.readlink(full))  # noqa: PTH115
        return WalkEntry(path, "other", status)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:  # links in a circle above it: nothing is there
            return None
        raise _unreadable(path, problem) from problem


def _unreadable(path: str, problem: OSError) -> FingerprintError:
    return FingerprintError(
        f"cannot read {path or 'the build context'}: {problem.strerror}",
        reason="Unreadable",
        hint="docker build reads it too: make it readable, or name it in .dockerignore",
    )


def _is_whole(selection: Selection) -> bool:
    return any(not p.parts for p in selection.patterns)
