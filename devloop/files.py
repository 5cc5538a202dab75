"""Reading files that other people wrote: a fifo, socket or device in a file's place is an error, no wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The content, at most so many bytes. Raises OSError, also for what is no regular file."""
    _refuse_others(os.stat(path).st_mode, path)  # noqa: PTH116 - opening a device may do something already
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _refuse_others(os.fstat(descriptor).st_mode, path)  # it may have been replaced meanwhile
        return file.read(most)


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """As `read_bytes`, decoded, every line end as a newline. Raises UnicodeDecodeError too."""
    return read_bytes(path).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def _refuse_others(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"not a regular file, but {_kind(mode)}", str(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


# pathlib's own questions raise where a folder above may not be searched, or a name is too long.


def is_there(path: Path) -> bool:
    """Something has this name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114
