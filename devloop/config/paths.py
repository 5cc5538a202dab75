"""Paths of config.yaml as files and folders: relative to the file, except a bare Dockerfile."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devloop.deploy.kustomization import is_kustomization
from devloop.errors import ConfigError
from devloop.files import exists, is_file, is_folder


def absolute(root: Path, text: str) -> Path:
    """Without "..", with symlinks left as they are: the watcher reports paths as they were given."""
    return Path(os.path.normpath(root / os.path.expanduser(text)))  # noqa: PTH111 - Path.expanduser raises on ~nobody


def dockerfile_path(root: Path, context: Path, text: str) -> Path:
    """A bare name is looked for in the context first, a path with "/" beside config.yaml first."""
    inside, beside = absolute(context, text), absolute(root, text)
    first, second = (beside, inside) if "/" in text else (inside, beside)
    return second if not (is_file(first) or is_folder(first)) and is_file(second) else first


def matching(root: Path, pattern: str) -> list[Path]:
    """Files; an entry without a wildcard may also be the folder of a kustomization."""
    path = absolute(root, pattern)
    if not re.search(r"[*?\[]", pattern):
        return [path] if is_file(path) or is_kustomization(path) else []
    try:
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        # A FIFO too: reading it is an error.
        return [one for one in found if exists(one) and not is_folder(one)]
    except (
        ValueError,
        OSError,
        RecursionError,
    ) as error:  # a link in a circle
        raise ConfigError(f"manifests: {pattern}: {error}", reason="InvalidPattern") from error


def check_pattern(pattern: str) -> str:
    """The pattern, or ValueError with what to write instead."""
    if any("**" in part and part != "**" for part in pattern.split("/")):
        better = re.sub(r"\*\*(?=[^/])", "**/*", pattern)
        raise ValueError(f'"**" stands alone between two "/"; write {better}')
    if not pattern.strip("/. "):
        raise ValueError("write a file, a glob of files, or the folder of a kustomization")
    return pattern
