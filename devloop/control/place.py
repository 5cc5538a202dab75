"""Where the control sockets of a project's watches are: beside the locks (S26), one per process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from devloop.adapters import private_folder
from devloop.config import load as configs

LONGEST_PATH = 100  # bytes: an address of a Unix socket holds 107, on macOS 103
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
