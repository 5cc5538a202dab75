"""Kustomizations as files: which folder is one, and every local file that rendering it reads.

Rendering itself is kubectl's work (adapters/kubernetes/kustomize.py). What is read here says when to render
again, and what the watcher has to report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devloop.errors import ConfigError
from devloop.files import is_file, is_folder, is_there, read_text
from devloop.kubernetes_yaml.documents import documents

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
# Their entries name files or folders, also ones that are yet to be made.
_NAMING = frozenset(
    {"resources", "bases", "components", "patchesStrategicMerge", "crds", "configurations"}
    | {"generators", "transformers", "validators", "files", "envs", "env", "path"}
)

_CONFIGURED = frozenset({"generators", "transformers", "validators"})  # files that name files in their turn


def is_kustomization(folder: Path) -> bool:
    """Whether `kubectl kustomize` would take it."""
    return any(is_file(folder / name) for name in FILE_NAMES)


def sources(folder: Path) -> tuple[Path, ...]:
    """The kustomization's file, and every local file that it and the ones below it name, in order, each once;
    also those that are not there (yet). What lies elsewhere on the network is not among them.
    """
    found: dict[Path, None] = {}
    _gather(Path(os.path.normpath(folder)), found, set())
    return tuple(found)


def _gather(folder: Path, found: dict[Path, None], visited: set[Path]) -> None:
    real = Path(os.path.realpath(folder))  # kubectl takes `..` from where a linked folder really lies
    if real != folder:
        found[folder] = None
        folder = real
    if folder in visited:
        return  # kubectl reports what is wrong with a circle
    visited.add(folder)
    for name in FILE_NAMES:
        found[folder / name] = None
    for name in FILE_NAMES:
        for path, key in _named(folder / name, folder).items():
            if is_kustomization(path):
                _gather(path, found, visited)
            elif not is_folder(path):
                found[path] = None
                if key in _CONFIGURED:
                    found.update(dict.fromkeys(one for one in _named(path, folder) if not is_folder(one)))


def _named(file: Path, folder: Path) -> dict[Path, str]:
    """What a file names, relative to the folder, with the key that it stands under.

    One that cannot be read names nothing: kubectl reports why.
    """
    try:
        values = [one.value for one in documents(read_text(file), str(file))]
    except (OSError, ConfigError):
        return {}
    found: dict[Path, str] = {}
    for key, text in _texts(values, ""):
        # "name=path" is how configMapGenerator renames a file.
        for candidate in (text, text.partition("=")[2]) if key == "files" else (text,):
            path = _local(folder, candidate)
            if path is not None and (key in _NAMING or is_there(path)):
                found[path] = key
    return found


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key it stands under, text) of every text."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)
    elif isinstance(value, str):
        yield key, value


def _local(folder: Path, text: str) -> Path | None:
    """The path that a text means, None for what cannot be one: several lines, a URL, a git repository."""
    if not text or len(text) > 255 or "\n" in text or "://" in text or "?" in text or ":" in text:
        return None
    path = Path(os.path.normpath(folder / text))
    upwards = folder.is_relative_to(path)  # a folder above, or this one: no source unless it is rendered
    return None if path == folder or (upwards and not is_kustomization(path)) else path
