"""inotify as the kernel has it: three system calls and the bytes of its events (man 7 inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF, UNMOUNT, Q_OVERFLOW, IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
ONLYDIR, EXCL_UNLINK, MASK_ADD, ISDIR = 0x1000000, 0x4000000, 0x20000000, 0x40000000

NAMES = MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
CONTENT = NAMES | MODIFY | ATTRIB | CLOSE_WRITE

HEADER = struct.Struct("iIII")


class Kernel:
    """The three system calls, with OSError for their errors."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def init(self) -> int:
        return self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, fd: int, path: str, mask: int) -> int:
        return self._checked(self._libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def remove(self, fd: int, watch: int) -> None:
        self._libc.inotify_rm_watch(fd, watch)  # a watch that is gone already is fine

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def parse(data: bytes) -> Iterator[tuple[int, int, int, str]]:
    """(watch, mask, cookie, name) of each event; name "" = of the watched folder itself. Both events of a
    rename have the same cookie."""
    at = 0
    while at < len(data):
        watch, mask, cookie, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        yield watch, mask, cookie, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length
