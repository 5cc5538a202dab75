"""Kubernetes objects of a text as workloads; what is half written is passed over, not refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from devloop.config.schema_cluster import LABEL
from devloop.deploy.kubernetes_object import is_list
from devloop.image_refs import split
from devloop.init.found import WORKLOADS, Container, Json, Manifest, Workload

# In no name of Kubernetes: ${NAME}, {{ name }}, <name>, %NAME%.
_BLANK = re.compile(r"[${}<>%\s]|^$")


def flat(values: Iterable[Any]) -> Iterator[Json]:
    """The objects, those of Lists too; whatever is none is left out."""
    for value in values:
        if is_list(value):
            yield from flat(value["items"] if isinstance(value["items"], list) else ())
        elif is_object(value):
            yield value


def is_object(value: Any) -> bool:
    """Whether it looks like a Kubernetes object: the three words that each has."""
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return False
    named = value["metadata"].get("name") or value["metadata"].get("generateName")
    return all(isinstance(one, str) and one for one in (value.get("apiVersion"), value.get("kind"), named))


def manifest_of(path: str, values: Iterable[Any]) -> Manifest:
    objects = list(flat(values))
    found = tuple(workloads(objects, path))
    named = tuple(identity(one) for one in objects)
    return Manifest(path, found, named, next(_troubles(named, found), ""))


def _troubles(named: Iterable[tuple[str, str, str]], found: Iterable[Workload]) -> Iterator[str]:
    """Why the cluster would refuse it: most often a file that another tool fills in first."""
    for kind, namespace, name in named:
        if _BLANK.search(name):
            yield f'"{name}" is no name for a {kind}: a file to be filled in first?'
        if namespace and not re.match(LABEL, namespace):
            yield f'namespace "{namespace}" of {kind} {name} is none: a file to be filled in first?'
    for one in found:
        for box in one.containers:
            if _BLANK.search(split(box.image)[0]):
                yield f'image "{box.image}" of {one} is none: a file to be filled in first?'


def identity(one: Json) -> tuple[str, str, str]:
    """(kind, namespace or "", name)."""
    meta = one["metadata"]
    return (
        str(one["kind"]),
        str(meta.get("namespace") or ""),
        str(meta.get("name") or meta.get("generateName")),
    )


def workloads(objects: Iterable[Json], where: str) -> Iterator[Workload]:
    for one in objects:
        kind, namespace, name = identity(one)
        if kind in WORKLOADS:
            yield Workload(kind, name, namespace, tuple(_containers(_pod(one, kind))), where)


def _pod(one: Json, kind: str) -> Any:
    path = {"Pod": ("spec",), "CronJob": ("spec", "jobTemplate", "spec", "template", "spec")}
    value: Any = one
    for key in path.get(kind, ("spec", "template", "spec")):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _containers(pod: Any) -> Iterator[Container]:
    for key in ("initContainers", "containers"):
        listed = pod.get(key) if isinstance(pod, dict) else None
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("image"), str):
                yield Container(str(one.get("name") or ""), one["image"])
