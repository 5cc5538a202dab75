"""A service's Dockerfile and ignore file as they are now."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from devloop.dockerfile.dockerignore import NO_RULES, IgnoreRules, candidates
from devloop.dockerfile.parser import Dockerfile
from devloop.errors import FingerprintError
from devloop.files import is_folder, read_bytes
from devloop.model import BuildSpec


@dataclass(frozen=True, slots=True)
class Recipe:
    """The Dockerfile and the ignore file as they are now."""

    dockerfile: Dockerfile
    dockerfile_digest: str
    rules: IgnoreRules
    ignore_digest: str


def read_recipe(spec: BuildSpec, last: Recipe | None) -> Recipe:
    """Both files, parsed again only if their text changed: then the same object comes back."""
    text = _text(spec.dockerfile)
    if text is None:
        folder = spec.dockerfile.parent
        gone = "" if is_folder(folder) else f"; there is no folder {folder.name} in {folder.parent}"
        raise FingerprintError(
            f"{spec.dockerfile}: no such file{gone}",
            reason="DockerfileMissing",
            hint="set build.context or build.dockerfile in config.yaml, relative to that file",
        )
    ignored, name = "", ""
    for candidate in candidates(spec.context, spec.dockerfile):
        found = _text(candidate)
        if found is not None:
            ignored, name = found, candidate.name
            break
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()
    ignore_digest = hashlib.sha256(os.fsencode(ignored)).hexdigest() if name else ""
    if last and (last.dockerfile_digest, last.ignore_digest) == (digest, ignore_digest):
        return last
    rules = IgnoreRules.parse(ignored, name) if name else NO_RULES
    return Recipe(Dockerfile.parse(text), digest, rules, ignore_digest)


def _text(path: Path) -> str | None:
    try:
        return read_bytes(path).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise FingerprintError(
            f"cannot read {path}: {problem.strerror}", reason="Unreadable", outside_tree=True
        ) from problem
