"""Files that somebody else writes, read whole: whatever they are, it ends in text or in an OSError."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LARGEST = 32 << 20  # bytes; nothing that people write by hand comes near


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Never waits: a FIFO, a device or a socket is an OSError.

    Raises OSError alone, with the file's name.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "a name with a NUL byte", name.replace("\0", "\\0"))
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev:  # noqa: PTH116
            return b""
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{_kind(status.st_mode)}, and no file", name)
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise OSError(errno.EFBIG, f"larger than {LARGEST >> 20} MB", name)
    return text


def read_text(path: Path) -> str:
    """As `read_bytes`; UTF-8, a byte order mark in front does not count."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise OSError(errno.EILSEQ, said, os.fspath(path)) from error


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")


def is_file(path: Path) -> bool:
    """False also for a name that no file can have: too long, with a NUL, a link in a circle."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for those


def is_folder(path: Path) -> bool:
    """As `is_file`, for folders."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises
