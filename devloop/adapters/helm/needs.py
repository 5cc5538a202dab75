"""What rendered objects need and do not bring: Secrets and ConfigMaps by name, and how to make each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from devloop.release import Release

Json = dict[str, Any]
HELM = "helm"  # the manager that Helm writes as


@dataclass(frozen=True, slots=True)
class Need:
    """One object that must exist. `keys`: those that pods ask for; `type`: of a Secret."""

    kind: str
    name: str
    namespace: str
    wanted_by: str  # "deployment/web"
    keys: tuple[str, ...] = field(default=())
    type: str = ""

    @property
    def path(self) -> str:
        if self.kind == "Namespace":
            return f"/api/v1/namespaces/{self.name}"
        plural = "secrets" if self.kind == "Secret" else "configmaps"
        return f"/api/v1/namespaces/{self.namespace}/{plural}/{self.name}"

    def make(self, context: str) -> str:
        """The kubectl line that makes it, with the values left open."""
        if self.kind == "Namespace":
            return f"kubectl --context {context} create namespace {self.name}"
        start = f"kubectl --context {context} -n {self.namespace} create"
        literals = "".join(f" --from-literal={key}=…" for key in self.keys) or " --from-literal=KEY=…"
        if self.kind == "ConfigMap":
            return f"{start} configmap {self.name}{literals}"
        if self.type == "tls":
            return f"{start} secret tls {self.name} --cert=tls.crt --key=tls.key"
        if self.type == "docker-registry":
            return (
                f"{start} secret docker-registry {self.name} --docker-server=… --docker-username=… "
                "--docker-password=…"
            )
        return f"{start} secret generic {self.name}{literals}"


def objects_of(manifest: str) -> list[Json]:
    """The objects of a rendered manifest; lists are opened."""
    found: list[Json] = []
    for item in yaml.load_all(manifest, Loader=yaml.CSafeLoader):
        if isinstance(item, dict) and str(item.get("kind", "")).endswith("List") and "items" in item:
            found += [one for one in item["items"] or () if isinstance(one, dict)]
        elif isinstance(item, dict) and item.get("kind"):
            found.append(item)
    return found


def owned(item: Json, release: Release) -> Json:
    """The object as Helm writes it: with its namespace, and the marks of the release that it belongs to."""
    meta = dict(item["metadata"])
    meta["labels"] = {**(meta.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
    meta["annotations"] = {
        **(meta.get("annotations") or {}),
        "meta.helm.sh/release-name": release.name,
        "meta.helm.sh/release-namespace": release.namespace,
    }
    meta.setdefault("namespace", release.namespace)
    return {**item, "metadata": meta}


def needs_of(objects: Sequence[Json], namespace: str) -> list[Need]:
    """What must be there beforehand: named, not optional, and not among `objects`. In order of mention."""
    brought = {
        (item["kind"], item["metadata"]["name"], item["metadata"].get("namespace") or namespace)
        for item in objects
        if item["kind"] in ("Secret", "ConfigMap")
    }
    found: dict[tuple[str, str, str], Need] = {}
    for item in objects:
        where = str(item["metadata"].get("namespace") or namespace)
        by = f"{item['kind'].lower()}/{item['metadata']['name']}"
        for kind, name, keys, secret_type in _named(item):
            key = (kind, name, where)
            if key in brought:
                continue
            old = found.get(key)
            together = tuple(dict.fromkeys((*(old.keys if old else ()), *keys)))
            found[key] = Need(kind, name, where, old.wanted_by if old else by, together, secret_type)
    return list(found.values())


Mention = tuple[str, str, tuple[str, ...], str]  # kind, name, keys, type of Secret


def _named(item: Json) -> Iterator[Mention]:
    spec = item.get("spec") or {}
    if item["kind"] == "Ingress":
        if any(key.startswith("cert-manager.io/") for key in item["metadata"].get("annotations") or ()):
            return  # its certificate is made once the Ingress is there
        for tls in spec.get("tls") or ():
            if tls.get("secretName"):
                yield "Secret", tls["secretName"], (), "tls"
        return
    if item["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    pod = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec")
    if isinstance(pod, dict):
        yield from _of_pod(pod)


def _of_pod(pod: Json) -> Iterator[Mention]:
    for one in pod.get("imagePullSecrets") or ():
        if one.get("name"):
            yield "Secret", one["name"], (), "docker-registry"
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        for source in container.get("envFrom") or ():
            yield from _reference(source.get("secretRef"), "Secret")
            yield from _reference(source.get("configMapRef"), "ConfigMap")
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            yield from _reference(source.get("secretKeyRef"), "Secret")
            yield from _reference(source.get("configMapKeyRef"), "ConfigMap")
    for volume in pod.get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        yield from _volume(volume.get("secret"), "Secret", "secretName")
        yield from _volume(volume.get("configMap"), "ConfigMap", "name")
        for source in sources:
            yield from _volume(source.get("secret"), "Secret", "name")
            yield from _volume(source.get("configMap"), "ConfigMap", "name")


def _reference(value: Any, kind: str) -> Iterator[Mention]:
    if isinstance(value, dict) and value.get("name") and not value.get("optional"):
        yield kind, value["name"], (value["key"],) if value.get("key") else (), ""


def _volume(value: Any, kind: str, key: str) -> Iterator[Mention]:
    if isinstance(value, dict) and value.get(key) and not value.get("optional"):
        yield kind, value[key], tuple(item["key"] for item in value.get("items") or ()), ""
