"""Plain manifests and kustomizations as objects in Helm's order, the live references put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from devloop.adapters.kubernetes.api.answers import Json
from devloop.adapters.kubernetes.kustomize import render
from devloop.deploy.kubernetes_object import is_list, what_is_wrong
from devloop.deploy.kustomization import FILE_NAMES
from devloop.errors import ConfigError
from devloop.files import read_text
from devloop.image_refs import repository
from devloop.kubernetes_yaml.documents import documents

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
    found: list[Manifest] = []
    for path in paths:
        if await anyio.Path(path).is_dir():
            found += parsed(await render(path), str(path))
        else:
            found += _read(path)
    return sorted(found, key=lambda manifest: manifest.rank)


def read_manifests(paths: Sequence[Path]) -> list[Manifest]:
    """The objects of all files in the order in which to apply them. Raises ConfigError: file and line."""
    found = [manifest for path in paths for manifest in _read(path)]
    return sorted(found, key=lambda manifest: manifest.rank)


def parsed(text: str, where: str) -> list[Manifest]:
    """The objects of a rendered text: its lines are in no file, so `where` alone says where they are from."""
    return [manifest for one in documents(text, where) for manifest in _objects(one.value, where)]


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


def _read(path: Path) -> Iterator[Manifest]:
    if path.name in FILE_NAMES:
        raise ConfigError(
            f"{path}: this file belongs to a kustomization and is not a manifest",
            reason="InvalidManifest",
            hint=f"write its folder below manifests: in config.yaml, {path.parent}, without a wildcard",
        )
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", reason="InvalidManifest") from error
    for one in documents(text, str(path)):
        yield from _objects(one.value, f"{path}:{one.line}")


def _objects(value: Any, where: str) -> Iterator[Manifest]:
    if value is None:
        return
    if is_list(value) and isinstance(value["items"], list | None):
        for item in value["items"] or ():
            yield from _objects(item, where)
        return
    wrong = what_is_wrong(value)
    if wrong:
        raise ConfigError(
            f"{where}: not a Kubernetes object: {wrong}",
            reason="InvalidManifest",
            hint="manifests: in config.yaml should match the manifests alone",
        )
    yield Manifest(value, where)
