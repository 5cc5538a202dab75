"""Applies manifests server-side as one manager, marks the workloads meanwhile, holds back what would hang."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.api.client import APPLY_PATCH, MERGE_PATCH, Client, Json, Refused
from devloop.adapters.kubernetes.inventory import images_of
from devloop.adapters.kubernetes.made import noted
from devloop.adapters.kubernetes.manifests import Manifest, gather_manifests, put_refs
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.prerequisites import asked_by, missing_of, told, unmet
from devloop.adapters.kubernetes.views import STATE
from devloop.concurrency import gather
from devloop.deploy.diff import Preview, diff
from devloop.deploy.needs import Need
from devloop.errors import ConfigError, DevloopError, PatchError, PlatformError, PrerequisiteError
from devloop.image_refs import repository
from devloop.ports import Application, Trouble

# Managers whose fields the user's own file may take back: the same file, applied by hand, and our PATCH.
OURS = frozenset({MANAGER, "kubectl-client-side-apply", "kubectl", "before-first-apply"})
MARKED = frozenset({"Deployment", "StatefulSet"})
SIDE_BY_SIDE = 8  # objects that are applied at once: a server that has too much to do says 429
DEFINED_SECONDS = 10.0  # how long a kind is waited for whose definition is applied with it
UNMARK_SECONDS = 5.0  # how long marks are taken off after a cancellation


@dataclass(frozen=True, slots=True)
class Resource:
    """How the server serves a kind."""

    plural: str
    namespaced: bool


class Applier:
    """Applies manifests to one cluster; what the server serves is asked once per group.

    As long as it writes, the workloads that it makes or changes carry the annotation `dev.devloop/state`:
    `installing` or `upgrading`. All that it applies bears the id of the `project`, for `down`.
    """

    def __init__(self, client: Client, namespace: str, project: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._project = project
        self._served: dict[str, dict[str, Resource]] = {}
        self._held: list[Json] = []  # the objects that the last `apply` left
        self._missing: list[Need] = []  # and what they wait for
        self._free = anyio.Semaphore(SIDE_BY_SIDE)
        self._left: set[tuple[str, str]] = set()  # name and namespace of all that was left
        self._unserved: list[Manifest] = []  # those whose kind the cluster does not serve (yet)

    async def apply(
        self,
        paths: Sequence[Path],
        refs: Sequence[str],
        withheld: Sequence[str] = (),
        only: Collection[Trouble] | None = None,
    ) -> Application:
        """As the port says: each object for itself, those of one rank side by side, for one may hang."""
        manifests, troubles = await _read_all(paths)
        table = {repository(ref): ref for ref in refs}
        waiting = {repository(name) for name in withheld}
        due = [m for m in manifests if waiting.isdisjoint(map(repository, images_of(m.item)))]
        if only is not None:  # and what was left until something else is there
            again = {(trouble.what, trouble.namespace) for trouble in only} | self._left
            due = [m for m in due if (m.name, self._namespace_of(m)) in again]
        objects = [manifest.item for manifest in due]
        everything = [manifest.item for manifest in manifests]
        self._missing = await missing_of(self._client, objects, everything, self._namespace)
        self._held = [item for item in objects if asked_by(item, self._missing, self._namespace)]
        self._unserved = []
        free = [manifest for manifest in due if manifest.item not in self._held]
        self._left = {(m.name, self._namespace_of(m)) for m in due if m.item in self._held}
        results: list[str | Trouble] = []
        async with self._marks() as marked:
            for _, group in groupby(free, key=lambda manifest: manifest.rank):
                results += await gather(lambda one: self._try(one, table, everything, marked), list(group))
        troubles += [one for one in results if isinstance(one, Trouble)]
        changed = tuple(one for one in results if isinstance(one, str) and one)
        return Application(changed, tuple(troubles))

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        """What objects that the last `apply` left wait for, asked anew; `image`: only those that name it.

        Raises PlatformError.
        """
        self._missing = await unmet(self._client, self._missing)
        held = [
            item for item in self._held if not image or repository(image) in map(repository, images_of(item))
        ]
        wanted = [need for item in held for need in asked_by(item, self._missing, self._namespace)]
        unique = [need for need in self._missing if need in wanted]
        if unique:
            return told(unique, self._client.access.context.name)
        return await self._still_unserved(image)

    async def preview(self, manifests: Sequence[Manifest], manager: str) -> list[Preview]:
        """What applying them as `manager` would make of each: a dry run on the server, nothing is written.

        Raises ConfigError, PatchError, PlatformError.
        """
        found = []
        for manifest in manifests:
            try:
                path, item = await self._locate(manifest)
            except PrerequisiteError:  # of a kind whose definition is yet to come
                found.append(Preview(manifest.name, self._namespace_of(manifest), None, manifest.item))
                continue
            if manager == MANAGER:
                item = noted(item, self._project)
            old = await self._client.find(path)
            params = {"fieldManager": manager, "force": "true", "dryRun": "All"}
            try:
                new = await self._send(path, params, item)
            except Refused as error:
                namespace = item["metadata"].get("namespace")
                if (
                    error.status != 404
                    or await self._client.find(f"/api/v1/namespaces/{namespace}") is not None
                ):
                    raise _conflict(manifest, error) from error
                new = item  # its namespace is yet to be made
            found.append(Preview(manifest.name, str(item["metadata"].get("namespace") or ""), old, new))
        return found

    async def path_of(self, manifest: Manifest) -> str:
        """Where the API serves the object. Raises PatchError, PlatformError."""
        return (await self._locate(manifest))[0]

    def forget(self) -> None:
        """After an outage: the server may be another one."""
        self._served.clear()

    @asynccontextmanager
    async def _marks(self) -> AsyncIterator[set[str]]:
        """The paths of what was marked; the marks go when the block ends, however it ends."""
        marked: set[str] = set()
        try:
            yield marked
        finally:
            with anyio.move_on_after(UNMARK_SECONDS, shield=True):
                for path in marked:
                    with suppress(PlatformError, Refused):  # the next apply takes it off
                        await mark(self._client, path, None)

    async def _mark(
        self, path: str, item: Json, old: Json | None, marked: set[str]
    ) -> tuple[Json, Json | None]:
        """(the object to apply, the present one), one of them with the mark if applying changes anything."""
        if item["kind"] not in MARKED:
            return item, old
        if old is None:
            marked.add(path)
            meta = item["metadata"]
            notes = {**(meta.get("annotations") or {}), STATE: "installing"}
            return {**item, "metadata": {**meta, "annotations": notes}}, None
        if STATE in (old["metadata"].get("annotations") or {}):  # of an apply that was killed
            marked.add(path)
        params = {"fieldManager": MANAGER, "force": "true", "dryRun": "All"}
        with suppress(Refused):  # applying it says what is wrong
            if diff([Preview("", "", old, await self._send(path, params, item))]):
                marked.add(path)
                old = await mark(self._client, path, "upgrading")
        return item, old

    async def _try(
        self, manifest: Manifest, table: dict[str, str], everything: Sequence[Json], marked: set[str]
    ) -> str | Trouble:
        """What applying it changed, or what stood in its way. Raises PlatformError where nothing answers."""
        try:
            async with self._free:
                await self._await_kind(manifest, everything)
                return await self._apply(manifest, table, marked)
        except PrerequisiteError:  # its kind is not served: `prerequisite` tells of it
            self._unserved.append(manifest)
            self._left.add((manifest.name, self._namespace_of(manifest)))
            return ""
        except PatchError as error:
            return self._trouble(manifest, error)
        except PlatformError as error:
            with suppress(Refused):  # does it answer otherwise? a webhook may hang for this object only
                await self._client.get(f"/api/v1/namespaces/{self._namespace}")
            return self._trouble(manifest, _hangs(manifest, error))

    def _trouble(self, manifest: Manifest, error: DevloopError) -> Trouble:
        images = frozenset(map(repository, images_of(manifest.item)))
        return Trouble(manifest.name, self._namespace_of(manifest), images, error)

    def _namespace_of(self, manifest: Manifest) -> str:
        return str(manifest.item["metadata"].get("namespace") or self._namespace)

    async def _await_kind(self, manifest: Manifest, everything: Sequence[Json]) -> None:
        """A kind that the manifests bring themselves is served some time after its definition."""
        if not any(_defines(item, manifest.item) for item in everything):
            return
        with anyio.move_on_after(DEFINED_SECONDS):
            while True:
                with suppress(PrerequisiteError):
                    await self._locate(manifest)
                    return
                await anyio.sleep(0.1)

    async def _still_unserved(self, image: str) -> PrerequisiteError | None:
        """The first of the objects whose kind is not served, looked for anew."""
        found: PrerequisiteError | None = None
        for manifest in list(self._unserved):
            try:
                await self._locate(manifest)
            except PrerequisiteError as error:
                if not image or repository(image) in map(repository, images_of(manifest.item)):
                    found = found or error
            except PatchError:
                continue  # applying it says what is wrong
            else:
                self._unserved.remove(manifest)
        return found

    async def _apply(self, manifest: Manifest, table: dict[str, str], marked: set[str]) -> str:
        path, item = await self._locate(manifest)
        item = noted(put_refs(item, table), self._project)
        there = await self._client.find(path)
        item, old = await self._mark(path, item, there, marked)
        params = {"fieldManager": MANAGER, "force": "false"}
        try:
            new = await self._send(path, params, item)
        except Refused as error:
            if error.status != 409 or not _only_ours(error):
                raise _conflict(manifest, error) from error
            try:
                new = await self._send(path, {**params, "force": "true"}, item)
            except Refused as second:
                raise _conflict(manifest, second) from second
        if old is None:
            return f"{manifest.name} created"
        changed = old["metadata"].get("resourceVersion") != new["metadata"].get("resourceVersion")
        return f"{manifest.name} configured" if changed else ""

    async def _send(self, path: str, params: dict[str, str], item: Json) -> Json:
        return await self._client.request("PATCH", path, params=params, body=item, content_type=APPLY_PATCH)

    async def _locate(self, manifest: Manifest) -> tuple[str, Json]:
        """(path of the object, the object with its namespace)."""
        item = manifest.item
        version, kind, meta = str(item["apiVersion"]), str(item["kind"]), dict(item["metadata"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resource = (await self._discover(root, version, manifest)).get(kind)
        if resource is None:
            self._served.pop(root)  # its definition may come later
            raise PrerequisiteError(
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
                if error.status != 404:
                    raise _conflict(manifest, error) from error
                raise PrerequisiteError(
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


async def mark(client: Client, path: str, word: str | None) -> Json:
    """Write, or with None take away, the annotation that says what devloop does with the workload; the object
    as it is then. Raises Refused, PlatformError."""
    return await client.request(
        "PATCH",
        path,
        params={"fieldManager": MANAGER},
        body={"metadata": {"annotations": {STATE: word}}},
        content_type=MERGE_PATCH,
    )


async def _read_all(paths: Sequence[Path]) -> tuple[list[Manifest], list[Trouble]]:
    """The objects of all files in the order in which to apply them, and the files that say none."""
    manifests: list[Manifest] = []
    troubles: list[Trouble] = []
    for path in paths:
        try:
            manifests += await gather_manifests([path])
        except ConfigError as error:
            troubles.append(Trouble(str(path), "", frozenset(), error))
    return sorted(manifests, key=lambda manifest: manifest.rank), troubles


def _defines(definition: Json, item: Json) -> bool:
    """Whether the one is the CustomResourceDefinition of the other's kind."""
    spec = definition.get("spec")
    if definition["kind"] != "CustomResourceDefinition" or not isinstance(spec, dict):
        return False
    names = spec.get("names")
    kind = names.get("kind") if isinstance(names, dict) else None
    return (spec.get("group"), kind) == (str(item["apiVersion"]).partition("/")[0], item["kind"])


def _hangs(manifest: Manifest, error: PlatformError) -> PlatformError:
    """The API server answers, but not for this object."""
    return PlatformError(
        f"{manifest.where}: {manifest.name} could not be applied: {error.message}",
        reason=error.reason,
        hint="the API server answers otherwise: does an admission webhook hang or fail?"
        " kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
    )


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


def _conflict(manifest: Manifest, error: Refused) -> PatchError:
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
