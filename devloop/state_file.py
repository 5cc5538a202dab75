"""Files of the state directory: whole or not at all, and for nobody else's eyes, whatever was there.

What is read back may be damaged, or of another version: `read` and `parsed` give the values that were asked
for, or nothing.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from devloop.files import read_bytes

FOLDER, FILE = 0o700, 0o600
T = TypeVar("T")
N = TypeVar("N")
Take = Callable[[Any], T]  # a JSON value to the value that it should be; raises whatever it likes


def write(file: Path, content: bytes) -> None:
    """Replace a file's content in one step. Raises OSError."""
    _make(file.parent)
    beside = file.with_suffix(".new")
    with suppress(FileNotFoundError):
        beside.unlink()  # of a devloop that was killed: its mode may be another
    try:
        with os.fdopen(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE), "wb"
        ) as made:
            made.write(content)
        beside.replace(file)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def read(file: Path, take: Take[T], nothing: N) -> T | N:
    """What `take` makes of the JSON value in the file; `nothing` where it cannot. Never raises, never waits.

    A file that is damaged costs the time to learn its content again.
    """
    try:
        content = read_bytes(file)
    except OSError:
        return nothing
    return parsed(content, take, nothing)


def parsed(content: bytes | str, take: Take[T], nothing: N) -> T | N:
    """As `read`, of a text that was read already."""
    try:
        return take(json.loads(content))
    except Exception:  # noqa: BLE001 - the border: what a damaged file may hold has no end
        return nothing


def text(value: Any) -> str:
    """For `read`, as those below: the value if it is one of these, else ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def count(value: Any) -> int:
    """A number that a size, a mode or a time in seconds can be."""
    if type(value) is not int or abs(value) >= 1 << 63:
        raise ValueError("not a number")
    return value


def seconds(value: Any) -> float:
    """A time since the epoch."""
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError("not a time in seconds")
    return float(value)


def each(one: Take[T]) -> Take[list[T]]:
    """A list of such values."""

    def take(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise ValueError("not a list")
        return [one(item) for item in value]

    return take


def by_name(one: Take[T]) -> Take[dict[str, T]]:
    """A mapping of such values."""

    def take(value: Any) -> dict[str, T]:
        return {name: one(item) for name, item in value.items()}

    return take


def make_private(folder: Path) -> None:
    """Make the folder, and take from all others what they may do in it and below. Links are not followed.

    What belongs to somebody else stays as it is. Raises OSError if there is no folder and none can be made.
    """
    _make(folder)
    for path in (folder, *_below(folder)):
        with suppress(OSError):
            found = path.lstat()
            wanted = FOLDER if stat.S_ISDIR(found.st_mode) else FILE
            if not stat.S_ISLNK(found.st_mode) and stat.S_IMODE(found.st_mode) != wanted:
                path.chmod(wanted)


def _make(folder: Path) -> None:
    """The folder and all that lack above it: `mkdir(parents=True)` would leave those to the umask."""
    if not folder.is_dir():
        if folder.parent != folder:
            _make(folder.parent)
        folder.mkdir(mode=FOLDER, exist_ok=True)


def _below(folder: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            yield Path(above, name)
