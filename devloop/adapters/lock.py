"""One writer per target on this host: a lock file that the kernel frees when its holder ends (S26)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from devloop import state_file
from devloop.adapters import private_folder
from devloop.errors import HeldError, PlatformError
from devloop.model import Target

LOOKS = 3  # somebody who only asks who holds a lock has it for a moment,
PAUSE = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Owner:
    """Which devloop: the content of the lock file and of the annotation `dev.devloop/owner`."""

    host: str
    pid: int
    path: str  # of config.yaml

    @classmethod
    def here(cls, path: Path) -> Self:
        return cls(socket.gethostname(), os.getpid(), str(path))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for anything that no devloop wrote."""
        return state_file.parsed(text, cls._of, None)

    @classmethod
    def _of(cls, data: Any) -> Self:
        host, path = state_file.text(data["host"]), state_file.text(data["path"])
        return cls(host, state_file.count(data["pid"]), path)

    def dump(self) -> str:
        return json.dumps({"host": self.host, "pid": self.pid, "path": self.path}, separators=(",", ":"))


class TargetLocks:
    """The targets that this process works for. Each is locked once, for all services that write to it."""

    def __init__(self, folder: Path, server: str, owner: Owner) -> None:
        self._folder, self._server, self._owner = folder, server, owner
        self._held: dict[str, tuple[int, int]] = {}  # file name -> (descriptor, how many hold it)

    @contextmanager
    def hold(self, target: Target) -> Iterator[None]:
        """Keep every other devloop away from the target for as long as the block runs.

        Raises HeldError that names the other one, PlatformError where no lock can be had.
        """
        name = file_name(self._server, target)
        handle, users = self._held.get(name) or (self._take(name, target), 0)
        self._held[name] = handle, users + 1
        try:
            yield
        finally:
            handle, users = self._held.pop(name)
            if users > 1:
                self._held[name] = handle, users - 1
            else:
                os.close(handle)

    def holder(self, target: Target) -> Owner | None:
        """Who holds the target on this host now, None if nobody. Raises PlatformError."""
        name = file_name(self._server, target)
        if name in self._held:
            return self._owner
        with _usable(self._folder / name), private_folder.opened(self._folder) as folder:
            try:
                handle = private_folder.open_file(self._folder, folder, name, os.O_RDWR)
            except FileNotFoundError:
                return None
            try:
                return None if _locked(handle) else _owner_in(handle) or Owner("this host", 0, "?")
            finally:
                os.close(handle)

    def sweep(self) -> None:
        """Remove the lock files that nobody holds: a devloop leaves one for each target it ever had."""
        with private_folder.opened(self._folder) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 - of the descriptor
                if not name.endswith(".lock") or name in self._held:
                    continue
                with suppress(OSError, PlatformError):
                    handle = private_folder.open_file(self._folder, folder, name, os.O_RDWR)
                    try:
                        if _locked(handle) and _is_named(folder, name, handle):
                            os.unlink(name, dir_fd=folder)
                    finally:
                        os.close(handle)

    def _take(self, name: str, target: Target) -> int:
        handle = take(self._folder, name, LOOKS)
        if handle is None:
            other = self.holder(target)
            who = f"pid {other.pid} on {other.host}, {other.path}" if other else "another devloop"
            raise HeldError(
                f"{target} in namespace {target.namespace} is held by another devloop: {who}",
                hint=f"stop it first: kill {other.pid}" if other and other.pid else "end it first",
            )
        try:
            with _usable(self._folder / name):
                os.ftruncate(handle, 0)
                os.pwrite(handle, self._owner.dump().encode(), 0)
        except PlatformError:
            os.close(handle)  # or it would stay locked by ourselves
            raise
        return handle


def file_name(server: str, target: Target) -> str:
    """The lock file of a workload, whichever of its containers is meant."""
    text = f"{_same(server)}\n{target.namespace}\n{target}\n{_machine()}"
    return f"{target.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.lock"


def take(folder: Path, name: str, looks: int = 1) -> int | None:
    """The descriptor of the lock file, locked until it is closed; None while somebody else has it.

    More than one look takes a moment. Raises PlatformError where no lock can be had.
    """
    with _usable(folder / name), private_folder.opened(folder) as inside:
        for look in range(looks):
            if look:
                time.sleep(PAUSE)
            handle = private_folder.open_file(folder, inside, name, os.O_RDWR | os.O_CREAT)
            try:
                if _locked(handle) and _is_named(inside, name, handle):
                    return handle
            except OSError:
                os.close(handle)
                raise
            os.close(handle)
    return None


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """A disk that is full, a file system that locks nothing: no lock can be had, for now."""
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be locked: {error.strerror or error}",
            reason="NoLock",
            hint="is the disk full, or mounted read-only? devloop keeps its lock files there",
        ) from error


def _locked(handle: int) -> bool:
    """Lock it if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(folder: int, name: str, handle: int) -> bool:
    """Whether the file still has its name: whoever swept it away in between made place for another."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _owner_in(handle: int) -> Owner | None:
    return Owner.parse(os.pread(handle, 4096, 0).decode(errors="replace"))


def _same(server: str) -> str:
    """One spelling of an address: two kubeconfigs of one cluster may write it differently."""
    parts = urlsplit(server)
    host = (parts.hostname or "").rstrip(".")
    host = "127.0.0.1" if host in ("localhost", "::1", "0.0.0.0") else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _machine() -> str:
    """A home folder may be shared by several hosts, and 127.0.0.1 is another server on each."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""
