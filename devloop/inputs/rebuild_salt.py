"""What `--rebuild` adds to a fingerprint (S3), kept: else the next run would go back to the old image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from devloop import state_file
from devloop.borders import disk
from devloop.errors import PlatformError


def read(file: Path) -> dict[str, str]:
    """Service -> salt; {} where there is no file, or none that can be read."""
    try:
        known = json.loads(file.read_text())
        return {str(name): str(salt) for name, salt in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def renew(file: Path, services: Iterable[str], salt: str) -> Mapping[str, str]:
    """Give these services a new salt, and remember it."""
    salts = {**read(file), **dict.fromkeys(services, salt)}
    with disk("what --rebuild has to remember", PlatformError):
        state_file.write(file, json.dumps(salts).encode())
    return salts
