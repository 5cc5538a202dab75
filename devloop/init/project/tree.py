"""The files of a project's folder, bounded: without what tools made and what git ignores by a plain name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devloop.files import is_link, read_text
from devloop.init.found import Note
from devloop.init.paths import is_text, join

SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "vendor", "__pycache__", ".terraform", ".tox"}
    | {
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".idea",
        ".vscode",
        ".next",
        ".nuxt",
        ".gradle",
        ".github",
    }
)
MOST_FILES = 50_000
DEEPEST = 12  # folders below each other
_IGNORED = ".gitignore names it"


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths are relative to `root`, with "/"; the root itself is ".".

    `closed`: names in the root below which nothing is to be written -> why.
    """

    root: Path
    folders: frozenset[str]
    files: tuple[str, ...]
    closed: Mapping[str, str]
    notes: tuple[Note, ...]


def read_tree(root: Path) -> Tree:
    """Raises nothing: a folder that cannot be read is a note."""
    notes: list[Note] = []
    ignored = _ignored(root)
    folders, files = {"."}, list[str]()
    closed = {name: _IGNORED for one in ignored if "/" not in (name := one.lstrip("/"))}

    def unreadable(error: OSError) -> None:
        notes.append(Note(_relative(root, str(error.filename)), f"cannot be read: {error.strerror}"))

    for where, names, here in os.walk(root, onerror=unreadable):
        at = _relative(root, where)
        depth = 0 if at == "." else at.count("/") + 1
        if depth == 0:
            closed |= {name: "it is a link" for name in (*names, *here) if is_link(root / name)}
        kept = [one for one in _readable(names, at, notes) if not _is_skipped(join(at, one), one, ignored)]
        names[:] = kept if depth < DEEPEST else []
        folders.update(join(at, name) for name in names)
        files += [join(at, name) for name in _readable(here, at, notes)]
        if len(files) > MOST_FILES:
            notes.append(Note(".", f"only the first {MOST_FILES} files were looked at"))
            break
    return Tree(root, frozenset(folders), tuple(files[:MOST_FILES]), closed, tuple(notes))


def _readable(names: list[str], at: str, notes: list[Note]) -> list[str]:
    """In order; without those that are no text: config.yaml could not name them."""
    odd = [one for one in names if not is_text(one)]
    if odd:
        shown = os.fsencode(odd[0]).decode(errors="backslashreplace")
        others = f", and {len(odd) - 1} more beside it" if len(odd) > 1 else ""
        notes.append(Note(join(at, shown), f"left aside: its name is not UTF-8{others}"))
    return sorted(one for one in names if is_text(one))


def _relative(root: Path, where: str) -> str:
    return Path(os.path.relpath(where, root)).as_posix()


def _is_skipped(path: str, name: str, ignored: frozenset[str]) -> bool:
    return name in SKIPPED or name in ignored or f"/{path}" in ignored


def _ignored(root: Path) -> frozenset[str]:
    """Plain folder names of .gitignore: `build`, `build/`, `/out/`; patterns are not looked at."""
    try:
        lines = read_text(root / ".gitignore").splitlines()
    except OSError:
        return frozenset()
    plain = (line.strip().rstrip("/") for line in lines if not line.startswith(("#", "!")))
    return frozenset(line for line in plain if line and not set(line) & set("*?[]\\"))
