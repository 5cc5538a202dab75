"""One Helm release as config.yaml means it: its values put together, and the digest that shows a change.

Pure but for reading the chart's folder and the values files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from devloop.errors import ConfigError
from devloop.files import is_file, is_folder, read_bytes, read_text
from devloop.image_refs import split
from devloop.kubernetes_yaml.documents import document
from devloop.model import Release, Values, ValuesFile

IGNORED = re.compile(r"(^|/)(\.git|\.DS_Store|[^/]*~|\.[^/]*\.sw[a-z]|4913|#[^/]*#)(/|$)")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """`above` over `below`, mapping by mapping, as Helm merges values files."""
    result = dict(below)
    for key, value in above.items():
        known = result.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        result[key] = merged(known, value) if both else value  # type: ignore[arg-type]
    return result


def nested(path: str, value: Any) -> Values:
    r"""{"a": {"b": value}} of "a.b"; `\.` is a dot within a key, as in --set."""
    keys = [key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", path)]
    for key in reversed(keys):
        value = {key: value}
    result: Values = value
    return result


def base_values(release: Release, environ: Mapping[str, str]) -> Values:
    """Everything but the images: files, then set, then set_env. Raises ConfigError."""
    result: Values = {}
    for file in release.values:
        result = merged(result, _read(file, release))
    for path, value in release.set.items():
        result = merged(result, nested(path, value))
    for path, name in release.set_env.items():
        if name not in environ:
            raise ConfigError(
                f"{release}: {path} takes its value from {name}, which is not in the environment",
                reason="MissingVariable",
                hint=f"{name}=… devloop watch",
            )
        result = merged(result, nested(path, environ[name]))
    return result


def with_images(release: Release, values: Values, refs: Mapping[str, str]) -> Values:
    """`values` with the references in place; `refs`: service -> "repository:tag" (S22).

    pullPolicy stays Never where the chart or the values say so, else it is IfNotPresent: never Always.
    """
    chart_values = _read(ValuesFile(release.chart / "values.yaml", optional=True), release)
    known = merged(chart_values, values)
    for service, path in release.images.items():
        if service in refs:
            repository, tag = split(refs[service])
            policy = "Never" if _dig(known, path, "pullPolicy") == "Never" else "IfNotPresent"
            image = {"repository": repository, "tag": tag, "pullPolicy": policy}
            values = merged(values, nested(path, image))
    return values


def digest(release: Release, values: Values) -> str:
    """16 hex of the chart's files and the values without images: what an upgrade is due for. Blocking.

    Raises ConfigError if the chart cannot be read.
    """
    total = hashlib.sha256()
    if not is_folder(release.chart):
        raise ConfigError(f"{release}: {release.chart} is not a folder", reason="NoChart")
    try:
        for name, path in sorted(_files(release.chart)):
            content = hashlib.sha256(read_bytes(path)).digest()
            total.update(name.encode(errors="surrogateescape") + b"\0" + content)
    except OSError as error:
        raise ConfigError(f"{release}: {error.filename}: {error.strerror}", reason="NoChart") from error
    total.update(json.dumps([values, dict(release.images)], sort_keys=True, default=str).encode())
    return total.hexdigest()[:16]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    entered: set[str] = set()
    for where, folders, names in os.walk(folder, followlinks=True):  # as Helm does
        real = os.path.realpath(where)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not IGNORED.search(name)]
        for name in names:
            path = Path(where, name)
            if not IGNORED.search(name) and is_file(path):
                yield path.relative_to(folder).as_posix(), path


def _read(file: ValuesFile, release: Release) -> Values:
    try:
        value = document(read_text(file.path), str(file.path), reason="InvalidValues")
    except FileNotFoundError as error:
        if file.optional:
            return {}
        raise ConfigError(
            f"{release}: values file {file.path} does not exist",
            reason="MissingValues",
            hint="write {file: PATH, optional: true} for one that may be absent",
        ) from error
    except OSError as error:
        message = f"{release}: values file {file.path}: {error.strerror}"
        raise ConfigError(message, reason="InvalidValues") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{file.path}: a mapping is expected", reason="InvalidValues")
    return value


def _dig(values: Any, path: str, key: str) -> Any:
    for part in [*re.split(r"(?<!\\)\.", path), key]:
        values = values.get(part.replace("\\.", ".")) if isinstance(values, dict) else None
    return values
