"""Where the control sockets of a project's watches are: beside the locks (S26), one per process."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from devloop.adapters import private_folder
from devloop.clock import Clock
from devloop.config import load as configs

CLOCK = Clock()

LONGEST_PATH = 100  # bytes: an address of a Unix socket holds 107, on macOS 103
BEING_MADE = 10.0  # seconds: a socket that is bound and refuses may be about to listen
_LONGEST_NAME = 12 + 1 + 10 + 5  # ID-PID.sock


def folder() -> Path:
    """This user's alone. Raises PlatformError where it cannot be used."""
    found = private_folder.private_folder()
    if len(os.fsencode(found)) + 1 + _LONGEST_NAME > LONGEST_PATH:
        found = Path(f"/tmp/devloop-{os.geteuid()}")
        with private_folder.opened(found):
            pass
    return found


def own_socket(config_path: Path) -> Path:
    """Of this process. Raises PlatformError."""
    return folder() / f"{configs.project_id(config_path)}-{os.getpid()}.sock"


def sockets(config_path: Path) -> Sequence[Path]:
    """Of the watches of this config.yaml, those of dead ones among them: the oldest process first.

    Raises PlatformError.
    """
    found = []
    for file in folder().glob(f"{configs.project_id(config_path)}-*.sock"):
        with suppress(OSError):
            found.append((file.stat().st_mtime_ns, file))
    return [file for _, file in sorted(found)]


def remove_dead() -> None:
    """Of watches, of any project, that were killed: nobody listens there any more. Raises PlatformError."""
    for file in folder().glob("*.sock"):
        with suppress(OSError):
            if CLOCK.now() - file.stat().st_mtime > BEING_MADE and _is_dead(file):
                file.unlink()


def _is_dead(file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(file))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # its queue is full, say
    return False
