"""Commands of the user's own that run with the trips of a service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Hook:
    """A command and the folder that it runs in. `timeout`: seconds; then it is ended with its children."""

    command: tuple[str, ...]
    timeout: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Hooks:
    """`before_build`: before the tree is read that an image is built of; `after_live`: after a trip that made
    the service live."""

    before_build: Hook | None = None
    after_live: Hook | None = None


NO_HOOKS = Hooks()
