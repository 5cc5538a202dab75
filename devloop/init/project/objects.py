"""Kubernetes objects of a text as workloads; what is half written is passed over, not refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from devloop.deploy.kubernetes_object import is_list
from devloop.init.found import WORKLOADS, Container, Json, Manifest, Workload


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
    return Manifest(path, tuple(workloads(objects, path)), tuple(identity(one) for one in objects))


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
