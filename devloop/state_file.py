"""Files of the state directory: whole or not at all, and for nobody else's eyes, whatever was there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FOLDER, FILE = 0o700, 0o600


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
