"""What kinds a cluster serves, and where: asked once per API group."""

from __future__ import annotations

from dataclasses import dataclass

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.conflicts import refusal_of
from devloop.adapters.kubernetes.manifests import Manifest
from devloop.errors import PrerequisiteError


@dataclass(frozen=True, slots=True)
class Resource:
    """How the server serves a kind."""

    plural: str
    namespaced: bool


class Served:
    """Finds the path of an object; `namespace` is that of objects that name none."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._served: dict[str, dict[str, Resource]] = {}

    def forget(self) -> None:
        """After an outage: the server may be another one."""
        self._served.clear()

    async def locate(self, manifest: Manifest) -> tuple[str, Json]:
        """(path of the object, the object with its namespace). Raises PrerequisiteError, PatchError."""
        item = manifest.item
        version, kind, meta = str(item["apiVersion"]), str(item["kind"]), dict(item["metadata"])
        here = f"{manifest.where}: {manifest.name}: context {self._client.access.context.name}"
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resource = (await self._discover(root, version, manifest, here)).get(kind)
        if resource is None:
            self._served.pop(root)  # its definition may come later
            raise PrerequisiteError(
                f"{here} serves no {kind} in {version}",
                reason="UnknownKind",
                hint=f"is it spelt right? kubectl api-resources --api-group="
                f"{version.rpartition('/')[0]!r}; a custom kind needs its CRD first",
            )
        if resource.namespaced:
            meta["namespace"] = str(meta.get("namespace") or self._namespace)
            root += f"/namespaces/{meta['namespace']}"
        return f"{root}/{resource.plural}/{meta['name']}", {**item, "metadata": meta}

    async def _discover(self, root: str, version: str, manifest: Manifest, here: str) -> dict[str, Resource]:
        if root not in self._served:
            try:
                data = await self._client.get(root)
            except ApiRefusedError as error:
                if error.status != 404:
                    raise refusal_of(manifest, error) from error
                raise PrerequisiteError(
                    f"{here} serves no {version}",
                    reason="UnknownKind",
                    hint="kubectl api-versions lists what it serves",
                ) from error
            self._served[root] = {
                one["kind"]: Resource(one["name"], bool(one.get("namespaced")))
                for one in data.get("resources") or ()
                if "/" not in one["name"]
            }
        return self._served[root]
