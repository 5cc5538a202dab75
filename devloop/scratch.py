"""Temporary folders that a killed devloop does not leave for ever: the next start removes them.

Each process has one folder in TMPDIR, and holds a lock in it while it lives: the kernel lets go of that when
the process ends, however it ends.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devloop.clock import Clock

CLOCK = Clock()

PREFIX = "devloop-"
LOCK = ".devloop-lock"
NEWBORN_SECONDS = 60.0  # a folder this young may not be locked yet


class _Own:
    """This process's folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.pid = 0
        self.handle = -1
        self.making = threading.Lock()

    def path(self) -> Path:
        with self.making:
            if self.folder is None or self.pid != os.getpid() or not self.folder.is_dir():
                self.folder = self._make()
            return self.folder

    def _make(self) -> Path:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
        made, self.pid = Path(tempfile.mkdtemp(prefix=PREFIX)), os.getpid()
        try:
            self.handle = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            made.rmdir()  # without a lock no later devloop would know it for a leftover
            raise
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return made

    def remove(self) -> None:
        if self.folder is not None and self.pid == os.getpid():
            shutil.rmtree(self.folder, ignore_errors=True)


_own = _Own()
atexit.register(_own.remove)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder for this user alone, removed in the end. Raises OSError."""
    with tempfile.TemporaryDirectory(dir=_own.path(), ignore_cleanup_errors=True) as made:
        yield Path(made)


def new_folder() -> Path:
    """As `folder`, for whoever removes it himself; what is left goes with the process. Raises OSError."""
    return Path(tempfile.mkdtemp(dir=_own.path()))


def remove_leftovers(now: float | None = None) -> int:
    """Remove what killed devloops of this user left; how many. Blocking, never raises."""
    moment, removed = CLOCK.now() if now is None else now, 0
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                if _is_left(path, moment):
                    shutil.rmtree(path, ignore_errors=True)
                    removed += not path.exists()
    return removed


def _is_left(path: Path, now: float) -> bool:
    """Whether this is the folder of a devloop of this user, and that does not live any more."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return False
    handle = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        lock = os.fstat(handle)
        if not stat.S_ISREG(lock.st_mode) or lock.st_uid != os.getuid():
            return False
        if now - lock.st_mtime < NEWBORN_SECONDS:
            return False
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False  # it lives
    finally:
        os.close(handle)
