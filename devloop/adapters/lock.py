"""One writer per target on this host: a lock file that the kernel frees when its holder ends (S26)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devloop.errors import HeldError
from devloop.model import Target


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
        try:
            data = json.loads(text)
            return cls(str(data["host"]), int(data["pid"]), str(data["path"]))
        except (ValueError, KeyError, TypeError):
            return None

    def dump(self) -> str:
        return json.dumps({"host": self.host, "pid": self.pid, "path": self.path}, separators=(",", ":"))


def lock_path(runtime_dir: Path, server: str, target: Target) -> Path:
    text = f"{server}\n{target.namespace}\n{target}"
    return runtime_dir / "locks" / f"{target.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.lock"


def holder(runtime_dir: Path, server: str, target: Target) -> Owner | None:
    """Who holds the target on this host now, None if nobody."""
    path = lock_path(runtime_dir, server, target)
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Owner.parse(file.read()) or Owner("this host", 0, "?")
    except FileNotFoundError:
        pass
    return None


@contextmanager
def hold(runtime_dir: Path, server: str, target: Target, owner: Owner) -> Iterator[None]:
    """Hold the target for as long as the block runs. Raises HeldError that names the other devloop.

    A file that a killed devloop left is no lock: the kernel freed it.
    """
    path = lock_path(runtime_dir, server, target)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            other = Owner.parse(file.read())
            who = f"pid {other.pid} on {other.host}, {other.path}" if other else "another devloop"
            raise HeldError(
                f"{target} in namespace {target.namespace} is held by another devloop: {who}",
                hint=f"end it first: kill {other.pid}" if other else "end it first",
            ) from error
        file.truncate(0)
        file.write(owner.dump())
        file.flush()
        yield
