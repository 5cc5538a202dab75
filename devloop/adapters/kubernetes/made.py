"""What devloop made in a cluster, by the annotation on it, whatever config.yaml and manifests say now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.manifests import ORDER
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.views import MADE_BY

HELM_RECORD = "helm.sh/release.v1"
PASSING = frozenset({"Namespace", "Event", "Lease", "Endpoints", "EndpointSlice", "ComponentStatus"})


@dataclass(frozen=True, slots=True)
class Made:
    """One object that is there. `path` is its own."""

    kind: str
    name: str
    namespace: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"

    @property
    def rank(self) -> int:
        """In which order it was applied."""
        return ORDER.index(self.kind) if self.kind in ORDER else len(ORDER)


def noted(item: Json, project: str, there: Json | None) -> Json:
    """The object with the note of who makes it. `there`: what the cluster has. A Namespace that has been
    there before gets none, for others may live in it."""
    if not project or (item["kind"] == "Namespace" and not _makes(there, project)):
        return item
    meta = item["metadata"]
    return {
        **item,
        "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), MADE_BY: project}},
    }


def _makes(there: Json | None, project: str) -> bool:
    return there is None or (there["metadata"].get("annotations") or {}).get(MADE_BY) == project


def is_made(item: Json, project: str) -> bool:
    """Whether this project's devloop made it; one from before there was a note: whether any devloop did."""
    meta = item["metadata"]
    by = (meta.get("annotations") or {}).get(MADE_BY)
    if by is not None:
        return bool(by == project)
    return any(entry.get("manager") == MANAGER for entry in meta.get("managedFields") or ())


async def find_noted(client: Client, project: str, namespaces: Iterable[str]) -> list[Made]:
    """Every object of every kind that has the project's note. `namespaces` are looked at where the user may
    not list all. What a controller made from a noted object has a copy of the note, and does not count; nor
    does Helm's record of a release.

    Raises PlatformError.
    """
    found: dict[str, Made] = {}
    async for root in _groups(client):
        for resource in await _listed(client, root):
            for item in await _items(client, root, resource, namespaces):
                meta = item["metadata"]
                if (meta.get("annotations") or {}).get(MADE_BY) != project or is_controlled(item):
                    continue
                if resource["kind"] == "Secret" and item.get("type") == HELM_RECORD:
                    continue  # of a release, which is uninstalled as one
                namespace = str(meta.get("namespace") or "")
                inside = f"/namespaces/{namespace}" if namespace else ""
                path = f"{root}{inside}/{resource['name']}/{meta['name']}"
                uid = str(meta.get("uid") or path)  # one object may be served by several groups
                found.setdefault(uid, Made(str(resource["kind"]), str(meta["name"]), namespace, path))
    return list(found.values())


async def find_namespaces(client: Client, project: str, names: Iterable[str]) -> list[str]:
    """The namespaces that the project's devloop made; `names` are asked for where it may not list all."""
    try:
        items = (await client.get("/api/v1/namespaces")).get("items") or []
    except ApiRefusedError:
        asked = [await client.find(f"/api/v1/namespaces/{name}") for name in names]
        items = [item for item in asked if item is not None]
    notes = ((item["metadata"]["name"], item["metadata"].get("annotations") or {}) for item in items)
    return sorted(str(name) for name, note in notes if note.get(MADE_BY) == project)


async def objects_in(client: Client, namespace: str) -> AsyncIterator[tuple[str, str, Json]]:
    """(kind, path, object) of all that lies in the namespace, as far as the user may list it.

    Raises PlatformError.
    """
    async for root in _groups(client):
        for resource in await _listed(client, root):
            if not resource.get("namespaced"):
                continue
            path = f"{root}/namespaces/{namespace}/{resource['name']}"
            with suppress(ApiRefusedError):
                for item in (await _ask(client, path)).get("items") or ():
                    yield str(resource["kind"]), f"{path}/{item['metadata']['name']}", item


async def _groups(client: Client) -> AsyncIterator[str]:
    """The paths of all groups in the version that the server prefers."""
    yield "/api/v1"
    for group in (await client.get("/apis")).get("groups") or ():
        versions = [group.get("preferredVersion") or {}, *(group.get("versions") or ())]
        version = next((str(one["groupVersion"]) for one in versions if one.get("groupVersion")), "")
        if version:
            yield f"/apis/{version}"


async def _listed(client: Client, root: str) -> list[Json]:
    """What may have a note: kinds that can be listed and deleted."""
    found = await _ask(client, root)
    return [
        one
        for one in found.get("resources") or ()
        if {"list", "delete"} <= set(one.get("verbs") or ())
        and "/" not in one["name"]
        and one["kind"] not in PASSING
    ]


async def _items(client: Client, root: str, resource: Json, namespaces: Iterable[str]) -> list[Json]:
    with suppress(ApiRefusedError):
        return list((await _ask(client, f"{root}/{resource['name']}")).get("items") or ())
    items: list[Json] = []
    for namespace in sorted(set(namespaces)) if resource.get("namespaced") else ():
        with suppress(ApiRefusedError):  # what may not be read was not made by this user either
            items += (await client.get(f"{root}/namespaces/{namespace}/{resource['name']}")).get(
                "items"
            ) or ()
    return items


async def _ask(client: Client, path: str) -> Json:
    """{} where a part of the API is out of order, such as the metrics without a metrics server."""
    try:
        return await client.get(path)
    except ApiUnreachableError:
        await client.get("/version")  # raises where it is the whole server
        return {}


def is_controlled(item: Json) -> bool:
    """Whether a controller made it of another object, with which it goes."""
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences") or ())
