"""Kustomizations without kubectl: the workloads that they bring, with their names and images as rendered."""

from __future__ import annotations

from collections.abc import Mapping
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

_DEEPEST = 50  # kustomizations on each other


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that is known: kustomization.yaml by folder, manifests by path."""

    kustomizations: Mapping[str, Json]
    manifests: Mapping[str, Manifest]


def read_kustomizations(files: Files) -> list[Kustomization]:
    known: dict[str, tuple[Workload, ...]] = {}
    return [_read(folder, files, known) for folder in sorted(files.kustomizations)]


def _read(folder: str, files: Files, known: dict[str, tuple[Workload, ...]]) -> Kustomization:
    value = files.kustomizations[folder]
    workloads = tuple(replace(one, where=folder) for one in _workloads(folder, files, known))
    return Kustomization(
        folder,
        tuple({(one.kind, one.namespace, one.name): one for one in workloads}.values()),
        tuple(_files(folder, files)),
        tuple(one for one in _below(folder, files) if one != folder),
        value.get("kind") == "Component",
    )


def _resources(folder: str, every: Mapping[str, Json]) -> list[str]:
    value = every.get(folder, {})
    listed = [one for key in ("resources", "bases", "components") for one in _list(value.get(key))]
    return [join(folder, one) for one in listed if isinstance(one, str) and "://" not in one]


def _below(folder: str, files: Files) -> list[str]:
    """Every kustomization that it names, and that those name in turn."""
    found: dict[str, None] = {}
    waiting = [folder]
    while waiting:
        for one in _resources(waiting.pop(), files.kustomizations):
            if one in files.kustomizations and one not in found:
                found[one] = None
                waiting.append(one)
    return list(found)


def _files(folder: str, files: Files) -> list[str]:
    value = files.kustomizations[folder]
    patches = [
        one.get("path") if isinstance(one, dict) else one for key in _PATCHES for one in _list(value.get(key))
    ]
    named = [join(folder, one) for one in patches if isinstance(one, str) and "\n" not in one]
    return [*(join(folder, name) for name in FILE_NAMES), *_resources(folder, files.kustomizations), *named]


def _workloads(
    folder: str, files: Files, known: dict[str, tuple[Workload, ...]], depth: int = 0
) -> tuple[Workload, ...]:
    """Each folder is read once: what one brings that leads back to itself is cut off there."""
    value = files.kustomizations.get(folder)
    if value is None or folder in known or depth > _DEEPEST:
        return known.get(folder, ())
    known[folder] = ()
    found: dict[tuple[str, str, str], Workload] = {}
    for path in dict.fromkeys(_resources(folder, files.kustomizations)):
        plain = files.manifests.get(path)
        for one in plain.workloads if plain else _workloads(path, files, known, depth + 1):
            made = _transformed(one, value)
            found[made.kind, made.namespace, made.name] = made
    known[folder] = tuple(found.values())
    return known[folder]


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
