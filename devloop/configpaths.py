"""Paths of config.yaml as files and folders: relative to the file, except a bare Dockerfile."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devloop.kustomization import is_kustomization


def absolute(root: Path, text: str) -> Path:
    """Without "..", with symlinks left as they are: the watcher reports paths as they were given."""
    return Path(os.path.normpath(root / os.path.expanduser(text)))  # noqa: PTH111 - Path.expanduser raises on ~nobody


def dockerfile_path(root: Path, context: Path, text: str) -> Path:
    """A bare name is looked for in the context first, a path with "/" beside config.yaml first."""
    inside, beside = absolute(context, text), absolute(root, text)
    first, second = (beside, inside) if "/" in text else (inside, beside)
    return second if not first.exists() and second.is_file() else first


def matching(root: Path, pattern: str) -> list[Path]:
    """Files; an entry without a wildcard may also be the folder of a kustomization."""
    path = absolute(root, pattern)
    if not re.search(r"[*?\[]", pattern):
        return [path] if path.is_file() or is_kustomization(path) else []
    return [found for found in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if found.is_file()]
