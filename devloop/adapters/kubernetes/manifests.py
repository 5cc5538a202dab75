"""Plain manifests and kustomizations: the live references put in, applied server-side in Helm's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import yaml

from devloop.adapters.kubernetes.client import APPLY_PATCH, Client, Json, Refused
from devloop.adapters.kubernetes.inventory import images_of
from devloop.adapters.kubernetes.kustomize import render
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.diffing import Preview
from devloop.errors import ConfigError, PatchError
from devloop.kustomization import FILE_NAMES
from devloop.references import repository

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
# Managers whose fields the user's own file may take back: the same file, applied by hand, and our PATCH.
OURS = frozenset({MANAGER, "kubectl-client-side-apply", "kubectl", "before-first-apply"})


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


@dataclass(frozen=True, slots=True)
class Resource:
    """How the server serves a kind."""

    plural: str
    namespaced: bool


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
    try:
        values = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: {error}", reason="InvalidManifest") from error
    return [manifest for value in values for manifest in _objects(value, where)]


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


class Applier:
    """Applies manifests to one cluster; what the server serves is asked once per group."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._served: dict[str, dict[str, Resource]] = {}

    async def apply(
        self, paths: Sequence[Path], refs: Sequence[str], withheld: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """ "deployment/web created" or "… configured" for each object that changed. Objects that name an
        image of the `withheld` repositories are left for a later call.

        Raises ConfigError, PatchError, PlatformError.
        """
        manifests = await gather_manifests(paths)
        table = {repository(ref): ref for ref in refs}
        waiting = {repository(name) for name in withheld}
        due = [m for m in manifests if waiting.isdisjoint(map(repository, images_of(m.item)))]
        results = [await self._apply(manifest, table) for manifest in due]
        return tuple(result for result in results if result)

    async def preview(self, manifests: Sequence[Manifest], manager: str) -> list[Preview]:
        """What applying them as `manager` would make of each: a dry run on the server, nothing is written.

        Raises ConfigError, PatchError, PlatformError.
        """
        found = []
        for manifest in manifests:
            path, item = await self._locate(manifest)
            old = await self._find(path)
            params = {"fieldManager": manager, "force": "true", "dryRun": "All"}
            try:
                new = await self._send(path, params, item)
            except Refused as error:
                namespace = item["metadata"].get("namespace")
                if error.status != 404 or await self._find(f"/api/v1/namespaces/{namespace}") is not None:
                    raise _conflict(manifest, error, path) from error
                new = item  # its namespace is yet to be made
            found.append(Preview(manifest.name, str(item["metadata"].get("namespace") or ""), old, new))
        return found

    async def path_of(self, manifest: Manifest) -> str:
        """Where the API serves the object. Raises PatchError, PlatformError."""
        return (await self._locate(manifest))[0]

    def forget(self) -> None:
        """After an outage: the server may be another one."""
        self._served.clear()

    async def _apply(self, manifest: Manifest, table: dict[str, str]) -> str:
        path, item = await self._locate(manifest)
        item = put_refs(item, table)
        old = await self._find(path)
        params = {"fieldManager": MANAGER, "force": "false"}
        try:
            new = await self._send(path, params, item)
        except Refused as error:
            if error.status != 409 or not _only_ours(error):
                raise _conflict(manifest, error, path) from error
            try:
                new = await self._send(path, {**params, "force": "true"}, item)
            except Refused as second:
                raise _conflict(manifest, second, path) from second
        if old is None:
            return f"{manifest.name} created"
        changed = old["metadata"].get("resourceVersion") != new["metadata"].get("resourceVersion")
        return f"{manifest.name} configured" if changed else ""

    async def _send(self, path: str, params: dict[str, str], item: Json) -> Json:
        return await self._client.request("PATCH", path, params=params, body=item, content_type=APPLY_PATCH)

    async def _find(self, path: str) -> Json | None:
        try:
            return await self._client.get(path)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def _locate(self, manifest: Manifest) -> tuple[str, Json]:
        """(path of the object, the object with its namespace)."""
        item = manifest.item
        version, kind, meta = str(item["apiVersion"]), str(item["kind"]), dict(item["metadata"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resource = (await self._discover(root, version, manifest)).get(kind)
        if resource is None:
            raise PatchError(
                f"{manifest.where}: context {self._client.access.context.name} serves no {kind} in {version}",
                reason="UnknownKind",
                hint=f"is it spelt right? kubectl api-resources --api-group="
                f"{version.rpartition('/')[0]!r}; a custom kind needs its CRD first",
            )
        if resource.namespaced:
            meta["namespace"] = str(meta.get("namespace") or self._namespace)
            root += f"/namespaces/{meta['namespace']}"
        return f"{root}/{resource.plural}/{meta['name']}", {**item, "metadata": meta}

    async def _discover(self, root: str, version: str, manifest: Manifest) -> dict[str, Resource]:
        if root not in self._served:
            try:
                data = await self._client.get(root)
            except Refused as error:
                raise PatchError(
                    f"{manifest.where}: context {self._client.access.context.name} serves no {version}",
                    reason="UnknownKind",
                    hint="kubectl api-versions lists what it serves",
                ) from error
            self._served[root] = {
                one["kind"]: Resource(one["name"], bool(one.get("namespaced")))
                for one in data.get("resources") or ()
                if "/" not in one["name"]
            }
        return self._served[root]


def _read(path: Path) -> Iterator[Manifest]:
    if path.name in FILE_NAMES:
        raise ConfigError(
            f"{path}: the file of a kustomization is no manifest",
            reason="InvalidManifest",
            hint=f"write its folder below manifests: in config.yaml, {path.parent}, without a wildcard",
        )
    try:
        text = path.read_text()
        nodes = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", reason="InvalidManifest") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{line}: {error.problem or error.context or 'not valid YAML'}", reason="InvalidManifest"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}", reason="InvalidManifest") from error
    constructor = yaml.SafeLoader("")
    for node in nodes:
        where = f"{path}:{node.start_mark.line + 1}"
        try:
            value = constructor.construct_document(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{where}: {error}", reason="InvalidManifest") from error
        yield from _objects(value, where)


def _objects(value: Any, where: str) -> Iterator[Manifest]:
    if value is None:
        return
    if isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and "items" in value:
        for item in value["items"] or ():
            yield from _objects(item, where)
        return
    missing = next((key for key in ("apiVersion", "kind") if not _text(value, key)), None)
    if missing is None and not _text(value.get("metadata"), "name"):
        missing = "metadata.name"
    if missing:
        raise ConfigError(
            f"{where}: not a Kubernetes object: {missing} is missing",
            reason="InvalidManifest",
            hint="manifests: in config.yaml should match the manifests alone",
        )
    yield Manifest(value, where)


def _text(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), str) and bool(value[key])


def _only_ours(error: Refused) -> bool:
    managers = [manager for manager, _ in _conflicts(error)]
    return bool(managers) and all(manager in OURS for manager in managers)


def _conflicts(error: Refused) -> list[tuple[str, str]]:
    """(manager, field) of each conflict. The Status says: conflict with "helm" using apps/v1."""
    found = []
    for cause in error.details.get("causes") or ():
        if cause.get("reason") == "FieldManagerConflict":
            quoted = str(cause.get("message", "")).split('"')
            found.append((quoted[1] if len(quoted) > 1 else "?", str(cause.get("field", "?"))))
    return found


def _conflict(manifest: Manifest, error: Refused, path: str) -> PatchError:
    conflicts = _conflicts(error)
    if error.status == 409 and conflicts:
        managers = sorted({manager for manager, _ in conflicts if manager not in OURS})
        fields = ", ".join(f"{field} ({manager})" for manager, field in conflicts if manager not in OURS)
        return PatchError(
            f"{manifest.where}: {manifest.name} has fields that belong to {', '.join(managers)}: {fields}",
            reason="Conflict",
            hint=f"leave these fields out of the file, or let {managers[0]} manage the object alone",
        )
    return PatchError(
        f"{manifest.where}: {manifest.name} was refused: {error.message}",
        reason=error.reason,
        hint="the namespace does not exist: add it to the manifests, or create it"
        if error.status == 404 and "namespace" in error.message
        else None,
    )
