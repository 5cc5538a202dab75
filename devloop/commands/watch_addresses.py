"""Where the running watches of a config.yaml answer: each announces itself in a file of its own.

Two may run, for different services, and the port of each may be another than that of config.yaml. The file is
named by the process: one that is refused, or was killed, takes no other's announcement away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from devloop import state_file
from devloop.config import load as configs
from devloop.config.load import Config

FOLDER = "watches"


@dataclass(frozen=True, slots=True)
class Address:
    """`url`: where /api/status is served, None where metrics.enabled is false. `pid` 0: of config.yaml."""

    pid: int
    url: str | None


@contextmanager
def announced(config: Config, url: str | None) -> Iterator[None]:
    """Within the block other commands on the config find this process. A disk that cannot be written leaves
    them with the address in config.yaml."""
    file = _folder(config) / f"{os.getpid()}.json"
    _remove_leftovers(config)
    with suppress(OSError):
        state_file.write(file, json.dumps({"url": url}).encode())
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def addresses(config: Config) -> tuple[Address, ...]:
    """Of the watches that live, the one that began first in front; else that of config.yaml."""
    found = []
    for file in _files(config):
        address = state_file.read(file, partial(_address, int(file.stem)), None)
        with suppress(OSError):
            if address is not None and _lives(address.pid):
                found.append((file.stat().st_mtime_ns, address))
    return tuple(address for _, address in sorted(found, key=lambda one: one[0])) or (_configured(config),)


def _address(pid: int, announced: Any) -> Address:
    url = announced["url"]
    return Address(pid, None if url is None else state_file.text(url))


def _configured(config: Config) -> Address:
    host, port = config.metrics.address
    host = f"[{host}]" if ":" in host else host
    return Address(0, f"http://{host}:{port}" if config.metrics.enabled else None)


def _folder(config: Config) -> Path:
    return configs.state_dir(config.path) / FOLDER


def _files(config: Config) -> list[Path]:
    return [file for file in _folder(config).glob("*.json") if file.stem.isdecimal() and file.stem.isascii()]


def _remove_leftovers(config: Config) -> None:
    for file in _files(config):
        if not _lives(int(file.stem)):
            with suppress(OSError):
                file.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # another user's
    except (OSError, OverflowError):
        return False
    return True
