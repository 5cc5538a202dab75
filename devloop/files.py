"""Reading files that other people wrote: a fifo, socket or device in a file's place is an error, no wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LARGEST = 32 << 20  # bytes; nothing that people write by hand comes near


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file, at most so many bytes. Never waits: a FIFO is an OSError.

    Raises OSError alone, with the file's name: also for a name with a NUL, and where `most` is not given for
    more than 32 MB.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "a name with a NUL byte", name.replace("\0", "\\0"))
    if _is_nothing(os.stat(name), name):  # noqa: PTH116 - opening a device may do something already
        return b""
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        _is_nothing(os.fstat(descriptor), name)  # it may have been replaced meanwhile
        if most is not None:
            return file.read(most)
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"larger than {LARGEST >> 20} MB", name)
    return content


def read_text(path: Path, encoding: str = "utf-8-sig", errors: str = "strict") -> str:
    """As `read_bytes`, decoded, every line end as a newline; a byte order mark in front does not count."""
    try:
        text = read_bytes(path).decode(encoding, errors)
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise OSError(errno.EILSEQ, message, os.fspath(path)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_nothing(status: os.stat_result, name: str) -> bool:
    """Whether this is /dev/null. Raises OSError for anything else that is not a regular file."""
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev:  # noqa: PTH116
        return True
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{_kind(status.st_mode)}, not a file", name)
    return False


def _kind(mode: int) -> str:
    names = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")


# pathlib's own questions raise where a folder above may not be searched, or a name is too long.


def is_there(path: Path) -> bool:
    """Something has this name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def exists(path: Path) -> bool:
    """Something is there; not a link that leads nowhere."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114
