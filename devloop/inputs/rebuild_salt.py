"""What `--rebuild` adds to a fingerprint (S3), kept: else the next run would go back to the old image."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from devloop import state_file
from devloop.borders import disk
from devloop.errors import PlatformError

FILE = "rebuilds.json"
OLD_FILE = "salts.json"  # its name in the first versions


def read(folder: Path) -> dict[str, str]:
    """Service -> salt, from the state directory; {} where there is no file, or none that can be read."""
    file = folder / FILE if (folder / FILE).exists() else folder / OLD_FILE
    return state_file.read(file, state_file.by_name(state_file.text), {})


class RebuildSalts:
    """Those of one project. `by_service` is one and the same mapping, always current."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.by_service = read(folder)

    def renew(self, services: Iterable[str], rebuild_salt: str) -> None:
        """Give these services a new salt, and remember it. Blocking. Raises PlatformError."""
        kept = {**read(self._folder), **dict.fromkeys(services, rebuild_salt)}
        with disk("what --rebuild has to remember", PlatformError):
            state_file.write(self._folder / FILE, json.dumps(kept).encode())
        self.by_service.update(kept)
