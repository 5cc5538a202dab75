"""Values that must not be shown: builders print build args and secrets, devloop does not (S30)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devloop.files import read_bytes
from devloop.model import Service

SHORTEST = 4  # shorter values would blot out half of every line
LONGEST = 1 << 16  # of a secret file


class Redaction:
    """Puts `[NAME]` in the place of each value."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """`values`: what must not be shown -> its name."""
        found = [(value, f"[{name}]") for value, name in values.items() if len(value) >= SHORTEST]
        self._values = sorted(found, key=lambda pair: -len(pair[0]))

    def __call__(self, text: str) -> str:
        for value, name in self._values:
            text = text.replace(value, name)
        return text


NOTHING = Redaction({})


def of(service: Service, environment: Mapping[str, str]) -> Redaction:
    """What a build of the service may print. Reads the secrets' files: blocking."""
    values = {value: name for name, value in service.build.args.items()}
    for secret in service.build.secrets:
        text = _file(secret.file) if secret.file is not None else environment.get(secret.env or "", "")
        values |= {line.strip(): secret.id for line in text.splitlines()}
    return Redaction(values)


def _file(path: Path) -> str:
    try:
        return read_bytes(path, LONGEST).decode(errors="replace")
    except OSError:
        return ""
