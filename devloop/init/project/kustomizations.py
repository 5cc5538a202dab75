"""Kustomizations without kubectl: the workloads that they bring, with their names and images as rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from devloop.deploy.kustomization import FILE_NAMES
from devloop.image_refs import split
from devloop.init.found import Container, Json, Kustomization, Manifest, Workload
from devloop.init.paths import join

_PATCHES = (
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "replacements",
    "transformers",
    "configurations",
)
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that is known: kustomization.yaml by folder, manifests by path."""

    kustomizations: Mapping[str, Json]
    manifests: Mapping[str, Manifest]


def read_kustomizations(files: Files) -> list[Kustomization]:
    return [_read(folder, files) for folder in sorted(files.kustomizations)]


def _read(folder: str, files: Files) -> Kustomization:
    value = files.kustomizations[folder]
    workloads = tuple(replace(one, where=folder) for one in _workloads(folder, files, 0))
    return Kustomization(
        folder,
        tuple({(one.kind, one.namespace, one.name): one for one in workloads}.values()),
        tuple(_files(folder, files)),
        tuple(one for one in _below(folder, files) if one != folder),
        value.get("kind") == "Component",
    )


def _resources(folder: str, value: Json) -> list[str]:
    listed = [one for key in ("resources", "bases", "components") for one in _list(value.get(key))]
    return [join(folder, one) for one in listed if isinstance(one, str) and "://" not in one]


def _below(folder: str, files: Files, seen: set[str] | None = None) -> list[str]:
    seen = set() if seen is None else seen
    found: list[str] = []
    for one in _resources(folder, files.kustomizations.get(folder, {})):
        if one in files.kustomizations and one not in seen:
            seen.add(one)
            found += [one, *_below(one, files, seen)]
    return found


def _files(folder: str, files: Files) -> list[str]:
    value = files.kustomizations[folder]
    patches = [
        one.get("path") if isinstance(one, dict) else one for key in _PATCHES for one in _list(value.get(key))
    ]
    named = [join(folder, one) for one in patches if isinstance(one, str) and "\n" not in one]
    return [*(join(folder, name) for name in FILE_NAMES), *_resources(folder, value), *named]


def _workloads(folder: str, files: Files, depth: int) -> Iterable[Workload]:
    value = files.kustomizations.get(folder)
    if value is None or depth > _DEEPEST:
        return
    for path in _resources(folder, value):
        if path in files.manifests:
            own: Iterable[Workload] = files.manifests[path].workloads
        else:
            own = _workloads(path, files, depth + 1)
        for one in own:
            yield _transformed(one, value)


def _transformed(one: Workload, value: Json) -> Workload:
    name = f"{value.get('namePrefix') or ''}{one.name}{value.get('nameSuffix') or ''}"
    images = [image for image in _list(value.get("images")) if isinstance(image, dict)]
    boxes = tuple(_retagged(box, images) for box in one.containers)
    return replace(one, name=name, namespace=str(value.get("namespace") or one.namespace), containers=boxes)


def _retagged(box: Container, images: list[Json]) -> Container:
    repository, tag = split(box.image)
    found = next((image for image in images if image.get("name") == repository), None)
    if found is None:
        return box
    name, tag = str(found.get("newName") or repository), str(found.get("newTag") or tag)
    return replace(box, image=f"{name}:{tag}" if tag else name)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
