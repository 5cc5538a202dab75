"""What rendered objects need and do not bring: Secrets and ConfigMaps by name, and how to make each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from devloop.deploy.kubernetes_object import is_list, what_is_wrong_below, wrong_below
from devloop.errors import ReleaseError
from devloop.kubernetes_yaml.documents import documents
from devloop.model import Release

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


def objects_of(manifest: str, name: str = "the chart") -> list[Json]:
    """The objects of a rendered manifest; lists are opened. `name` says what was rendered.

    Raises ConfigError, ReleaseError for what is none: a chart that is being written.
    """
    found: list[Json] = []
    for one in documents(manifest, f"{name}, rendered"):
        items = [one.value]
        if is_list(one.value) and isinstance(one.value["items"], list | None):
            items = one.value["items"] or []
        for item in items:
            wrong = what_is_wrong_below(item)
            if wrong:
                source = _source(manifest, one.line)
                raise ReleaseError(
                    f"{name}: {source}not a Kubernetes object: {wrong}", reason="InvalidManifest"
                )
            found.append(item)
    return found


def _source(manifest: str, line: int) -> str:
    """The template that a line of a rendered manifest came from, as Helm notes it above."""
    above = "\n".join(manifest.splitlines()[:line])
    marks = re.findall(r"^# Source: (\S+)$", above, re.MULTILINE)
    return f"{marks[-1]}: " if marks else ""


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
        (item["kind"], item["metadata"].get("name"), item["metadata"].get("namespace") or namespace)
        for item in objects
        if item["kind"] in ("Secret", "ConfigMap")
    }
    found: dict[tuple[str, str, str], Need] = {}
    for item in objects:
        where = str(item["metadata"].get("namespace") or namespace)
        by = f"{item['kind'].lower()}/{item['metadata'].get('name') or item['metadata'].get('generateName')}"
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
    if wrong_below(item):
        return
    spec = item.get("spec") or {}
    if item["kind"] == "Ingress":
        if any(key.startswith("cert-manager.io/") for key in item["metadata"].get("annotations") or ()):
            return  # its certificate is made once the Ingress is there
        for tls in spec.get("tls") or ():
            if _text(tls, "secretName"):
                yield "Secret", tls["secretName"], (), "tls"
        return
    if item["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    pod = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec")
    if isinstance(pod, dict):
        yield from _of_pod(pod)


def _of_pod(pod: Json) -> Iterator[Mention]:
    for one in pod.get("imagePullSecrets") or ():
        if _text(one, "name"):
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
    if _text(value, "name") and not value.get("optional"):
        yield kind, value["name"], (value["key"],) if _text(value, "key") else (), ""


def _volume(value: Any, kind: str, key: str) -> Iterator[Mention]:
    if _text(value, key) and not value.get("optional"):
        keys = (item["key"] for item in value.get("items") or () if _text(item, "key"))
        yield kind, value[key], tuple(keys), ""


def _text(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), str) and bool(value[key])
