"""What was hashed once and has not been touched since is not read again, across restarts too (S7)."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from devloop.concurrency import Check
from devloop.errors import FingerprintError
from devloop.files import is_there

CHUNK = 1 << 20
# A file system stamps with the kernel's coarse clock, up to a tick behind; FAT and old ones with 1 or 2 s.
_TICK = 20_000_000
_COARSE = 2_000_000_000
_LARGEST = 0x7FFF_FFFF_FFFF_FFFF
_VERSION = 1
# What a file that is damaged, or on a broken disk, makes SQLite and the reading of its rows raise.
_DAMAGED = (sqlite3.Error, OSError, ValueError, TypeError, AttributeError)
_PACKING = struct.Struct("=4q")
_SAVE_AT = 1000  # digests not yet on disk
# With twice as many as were left the last time, and so many more, files that are gone are forgotten.
_SWEEP_AFTER = 1000
MOST = 500_000  # digests that are remembered, of files that are there; each takes 0.1 KB on disk

_COLUMNS = "path, mtime, ctime, size, inode, digest"

Identity = tuple[int, int, int, int]  # mtime_ns, ctime_ns, size, inode
Known = tuple[Identity, str]  # with the sha256 hex of the content
Warn = Callable[[str], None]


def identity(status: os.stat_result) -> Identity:
    # SQLite's integers are signed: inodes of some file systems use all 64 bits, nanoseconds from before
    # 1678 or after 2262 more.
    return (
        min(max(status.st_mtime_ns, -_LARGEST), _LARGEST),
        min(max(status.st_ctime_ns, -_LARGEST), _LARGEST),
        status.st_size,
        status.st_ino & _LARGEST,
    )


def packed(status: os.stat_result) -> bytes:
    """The identity in a third of the memory that four numbers take."""
    return _PACKING.pack(*identity(status))


def is_settled(seen: Identity, read_at: int) -> bool:
    """Git's racy-clean rule: a file changed in the same tick in which it was read may change again
    without its stat showing it, so only a file that was older when it was read can be trusted."""
    newest = max(seen[0], seen[1])
    slack = _COARSE if newest % 1_000_000_000 == 0 else _TICK
    return newest + slack < read_at


class StatCache:
    """Digests by path and stat, on disk; in memory is only what is not written yet: a tree knows its own.
    Used by several threads. The file is private to one devloop."""

    def __init__(
        self, file: Path, *, warn: Warn = lambda _: None, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """`file`: kept in the state directory; `warn` is called once if it had to be restarted."""
        self._file, self._warn, self._now_ns = file, warn, now_ns
        self._unsaved: dict[str, Known] = {}
        self._lock = threading.Lock()
        self._left = 0  # digests after the last sweep
        self.reads = 0  # files whose bytes were read by this process
        self._try_file()

    def look(self, folder: str | None = None) -> Look:
        """For one look at what lies below the folder. None: no file is expected to be known on disk."""
        return Look(self, folder)

    def read(self, path: str, check: Check) -> tuple[str, bool]:
        """sha256 hex of the bytes, and whether the file's stat tells from now on that they are the same.

        Raises what `Look.digest` raises."""
        for _ in range(5):
            read_at = self._now_ns()
            try:
                before, digest, after = hash_file(path, check)
            except (FileNotFoundError, NotADirectoryError):
                raise
            except OSError as problem:
                raise FingerprintError(
                    f"cannot read {path}: {problem.strerror}",
                    reason="Unreadable",
                    hint="docker build reads it too: make it readable, or name it in .dockerignore",
                ) from problem
            self.reads += 1
            if before == after:
                break
        # Written to all the time: what was read last counts, and is not remembered.
        settled = before == after and is_settled(after, read_at)
        if settled:
            with self._lock:
                self._unsaved[path] = after, digest
        return digest, settled

    def unsaved(self, path: str) -> Known | None:
        """What is not on disk yet."""
        return self._unsaved.get(path)

    # --- on disk

    def below(self, folder: str) -> dict[str, Known]:
        """What is on disk of the files below the folder, by full path; nothing where it cannot be read."""
        if not is_there(self._file):
            return {}
        inside = os.fsencode(folder.rstrip("/"))
        wanted = inside + b"/", inside + b"0"  # the byte after a slash
        try:
            with closing(self._open()) as database:
                rows = database.execute(f"SELECT {_COLUMNS} FROM files WHERE path >= ? AND path < ?", wanted)
                return {os.fsdecode(row[0]): (row[1:5], row[5].hex()) for row in rows}
        except (sqlite3.OperationalError, OSError):
            return {}  # locked, or a disk that does not answer: another time
        except _DAMAGED as problem:
            self._restart(problem)
            return {}

    def save_if_many(self) -> None:
        if len(self._unsaved) >= _SAVE_AT:
            self.save()

    def save(self) -> None:
        """Write what is new. Trouble costs the next start some reading and is no error."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
        if not unsaved:
            return
        rows = [(os.fsencode(path), *seen, bytes.fromhex(digest)) for path, (seen, digest) in unsaved.items()]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # `opened` has made it already
            with closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._sweep(database)
        except _DAMAGED as problem:
            self._warn(f"could not write {self._file}: {problem}; the next start reads all inputs again")

    def _sweep(self, database: sqlite3.Connection) -> None:
        """Forget files that are gone, and some of more than MOST, once there are many new ones."""
        count = database.execute("SELECT count(*) FROM files").fetchone()[0]
        if count <= 2 * self._left + _SWEEP_AFTER:
            return
        paths = [row[0] for row in database.execute("SELECT path FROM files")]
        kept = set([path for path in paths if os.path.lexists(path)][-MOST:])
        database.executemany("DELETE FROM files WHERE path = ?", [(p,) for p in paths if p not in kept])
        self._left = len(kept)

    def _try_file(self) -> None:
        """Find out at the start whether the file is one of ours."""
        if not is_there(self._file):
            return
        try:
            with closing(self._open()) as database:
                database.execute(f"SELECT {_COLUMNS} FROM files LIMIT 1").fetchall()
        except _DAMAGED as problem:
            self._restart(problem)

    def _restart(self, problem: Exception) -> None:
        with self._lock:
            if not is_there(self._file):
                return  # another thread has done it
            for suffix in ("", "-wal", "-shm", "-journal"):
                with suppress(OSError):
                    self._file.with_name(self._file.name + suffix).unlink()
        self._warn(f"{self._file} is unreadable ({problem}); starting over")

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's would be open
        database = sqlite3.connect(self._file)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                database.execute("DROP TABLE IF EXISTS files")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, mtime INTEGER, ctime INTEGER, "
                "size INTEGER, inode INTEGER, digest BLOB) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_VERSION}")
            self._file.chmod(0o600)
        except _DAMAGED:
            database.close()
            raise
        return database


class Look:
    """The digests of one look at a folder: what is on disk is read at the first question and goes with it."""

    def __init__(self, cache: StatCache, folder: str | None) -> None:
        self._cache, self._folder = cache, folder
        self._known: dict[str, Known] | None = None if folder else {}

    def digest(self, path: str, status: os.stat_result, *, fresh: bool, check: Check) -> tuple[str, bool]:
        """sha256 hex of a regular file, and whether its stat can be trusted to show the next change.

        `fresh`: read it whatever its stat says. `check` is called between chunks and may raise.
        Raises FileNotFoundError or NotADirectoryError if it vanished, FingerprintError.
        """
        if not fresh:
            known = self._cache.unsaved(path) or self._on_disk(path)
            if known is not None and known[0] == identity(status):
                return known[1], True
        return self._cache.read(path, check)

    def _on_disk(self, path: str) -> Known | None:
        if self._known is None:
            self._known = self._cache.below(self._folder or "")
        return self._known.get(path)


def hash_file(path: str, check: Check) -> tuple[Identity, str, Identity]:
    """Identity before, sha256 hex, identity after. Never waits at a fifo that took the file's place."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        digest, left = hashlib.sha256(), status.st_size
        while left > 0 and (chunk := file.read(min(CHUNK, left))):  # never runs after one that grows
            digest.update(chunk)
            left -= len(chunk)
            check()
        return identity(status), digest.hexdigest(), identity(os.fstat(file.fileno()))
