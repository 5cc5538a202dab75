"""Plain manifests and kustomizations as objects in Helm's order, the live references put in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from devloop.adapters.kubernetes.kustomize import render
from devloop.deploy.kubernetes_object import is_list, what_is_wrong
from devloop.deploy.kustomization import FILE_NAMES
from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.image_refs import repository
from devloop.kubernetes_yaml.documents import each_document

Json = dict[str, Any]
# Helm's install order, as far as plain manifests go; a kind that is not here comes last.
ORDER = (
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object; `where` is "file:line" of its document, or the folder of its kustomization."""

    item: Json
    where: str

    @property
    def name(self) -> str:
        return f"{self.item['kind'].lower()}/{self.item['metadata']['name']}"

    @property
    def rank(self) -> int:
        kind = self.item["kind"]
        return ORDER.index(kind) if kind in ORDER else len(ORDER)


async def gather_manifests(paths: Sequence[Path]) -> list[Manifest]:
    """As `read_manifests`, also of folders: those are kustomizations. Raises ConfigError."""
    return sorted([one for path in paths for one in _sound(await _each(path))], key=lambda one: one.rank)


async def gather_each(paths: Sequence[Path]) -> tuple[list[Manifest], list[tuple[Path, ConfigError]]]:
    """As `gather_manifests`, and what cannot be read: one object's mistake is none of the others'."""
    found: list[Manifest] = []
    wrong: list[tuple[Path, ConfigError]] = []
    for path in paths:
        try:
            for one in await _each(path):
                if isinstance(one, ConfigError):
                    wrong.append((path, one))
                else:
                    found.append(one)
        except ConfigError as error:  # a kustomization that cannot be rendered
            wrong.append((path, error))
    return sorted(found, key=lambda manifest: manifest.rank), wrong


def read_manifests(paths: Sequence[Path]) -> list[Manifest]:
    """The objects of all files in the order in which to apply them. Raises ConfigError: file and line."""
    return sorted([one for path in paths for one in _sound(_read(path))], key=lambda one: one.rank)


def parsed(text: str, where: str) -> list[Manifest]:
    """The objects of a rendered text: its lines are in no file, so `where` alone says where they are from."""
    return [*_sound(_parsed(text, where))]


def _parsed(text: str, where: str) -> Iterator[Manifest | ConfigError]:
    for one in each_document(text, where):
        if isinstance(one, ConfigError):
            yield one
        else:
            yield from _objects(one.value, where)


async def _each(path: Path) -> Iterator[Manifest | ConfigError]:
    if await anyio.Path(path).is_dir():
        return _parsed(await render(path), str(path))
    return _read(path)


def _sound(found: Iterable[Manifest | ConfigError]) -> Iterator[Manifest]:
    """Raises the first error."""
    for one in found:
        if isinstance(one, ConfigError):
            raise one
        yield one


def put_refs(value: Any, refs: dict[str, str]) -> Any:
    """`value` with the images whose repository is in `refs` (repository -> reference) replaced, and
    `imagePullPolicy: Always` of those eased, for a node cannot pull them (S15)."""
    if isinstance(value, list):
        return [put_refs(one, refs) for one in value]
    if not isinstance(value, dict):
        return value
    result = {key: put_refs(one, refs) for key, one in value.items()}
    for kind in ("containers", "initContainers"):
        if isinstance(result.get(kind), list):
            result[kind] = [_put_ref(container, refs) for container in result[kind]]
    return result


def _put_ref(container: Any, refs: dict[str, str]) -> Any:
    if not isinstance(container, dict) or not isinstance(container.get("image"), str):
        return container
    ref = refs.get(repository(container["image"]))
    if ref is None:
        return container
    policy = container.get("imagePullPolicy")
    eased = {"imagePullPolicy": "IfNotPresent"} if policy == "Always" else {}
    return {**container, "image": ref, **eased}


def _read(path: Path) -> Iterator[Manifest | ConfigError]:
    if path.name in FILE_NAMES:
        yield ConfigError(
            f"{path}: this file belongs to a kustomization and is not a manifest",
            reason="InvalidManifest",
            hint=f"write its folder below manifests: in config.yaml, {path.parent}, without a wildcard",
        )
        return
    try:
        text = read_text(path)
    except OSError as error:
        yield ConfigError(
            f"{path} cannot be read: {error.strerror}", reason="InvalidManifest", hint=f"ls -l {path}"
        )
        return
    for one in each_document(text, str(path)):
        if isinstance(one, ConfigError):
            one.hint = one.hint or f"mend it; kubectl apply --dry-run=client -f {path} shows the same"
            yield one
        else:
            yield from _objects(one.value, f"{path}:{one.line}")


def _objects(value: Any, where: str) -> Iterator[Manifest | ConfigError]:
    if value is None:
        return
    if is_list(value) and isinstance(value["items"], list | None):
        for item in value["items"] or ():
            yield from _objects(item, where)
        return
    wrong = what_is_wrong(value)
    if wrong:
        yield ConfigError(
            f"{where}: not a Kubernetes object: {wrong}",
            reason="InvalidManifest",
            hint="mend it, or leave the file out: manifests: in config.yaml should match manifests alone",
        )
        return
    yield Manifest(value, where)
