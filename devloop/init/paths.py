"""Paths below the project's folder as texts: "/" between the parts, "." for the folder itself."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import PurePosixPath


def join(folder: str, name: str) -> str:
    """A path below the root, without "." and ".."; what leads out of the root begins with ".."."""
    return os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")  # noqa: PTH118 - a text, no file


def is_text(name: str) -> bool:
    """Whether a name can stand in a file: not one whose bytes are no UTF-8."""
    return not any(0xD800 <= ord(one) < 0xE000 for one in name)


def is_outside(path: str) -> bool:
    """Whether it leads out of the root."""
    return path == ".." or path.startswith(("../", "/"))


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "."


def last(path: str) -> str:
    return path.rpartition("/")[2]


def ancestors(path: str) -> list[str]:
    """The folder of a file, then each folder above it, the root at the end."""
    found = [parent(path)]
    while found[-1] != ".":
        found.append(parent(found[-1]))
    return found


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Globs as skaffold has them: `*` within a folder, `**` over folders."""
    return any(
        PurePosixPath(path).match(one) or fnmatch.fnmatchcase(path, one.replace("**/", "*"))
        for one in patterns
    )
