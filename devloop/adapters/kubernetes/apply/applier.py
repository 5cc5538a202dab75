"""Applies manifests server-side as one manager, marks the workloads meanwhile, holds back what would hang."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.conflicts import hangs, only_ours, refusal_of
from devloop.adapters.kubernetes.apply.marks import marked_for, marks, send
from devloop.adapters.kubernetes.apply.served import Served
from devloop.adapters.kubernetes.inventory import images_of
from devloop.adapters.kubernetes.made import noted
from devloop.adapters.kubernetes.manifests import Manifest, gather_each, put_refs
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.adapters.kubernetes.prerequisites import asked_by, missing_error, missing_of, unmet
from devloop.concurrency import gather
from devloop.deploy.diff import Preview, content
from devloop.deploy.needs import Need
from devloop.errors import DevloopError, PatchError, PlatformError, PrerequisiteError
from devloop.image_refs import TAG_PREFIX, repository, split
from devloop.model import Application, Trouble

SIDE_BY_SIDE = 8  # objects that are applied at once: a server that has too much to do says 429
DEFINED_SECONDS = 10.0  # how long a kind is waited for whose definition is applied with it


class Applier:
    """Applies manifests to one cluster; what the server serves is asked once per group.

    As long as it writes, the workloads that it makes or changes carry the annotation `dev.devloop/state`:
    `installing` or `upgrading`. All that it applies has the id of the `project`, for `down`.
    """

    def __init__(self, client: Client, namespace: str, project: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._project = project
        self._served = Served(client, namespace)
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
        """As in the port: each object for itself, those of one rank side by side, for one may hang."""
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
        async with marks(self._client) as marked:
            for _, group in groupby(free, key=lambda manifest: manifest.rank):
                results += await gather(lambda one: self._try(one, table, everything, marked), list(group))
        troubles += [one for one in results if isinstance(one, Trouble)]
        changed = tuple(one for one in results if isinstance(one, str) and one)
        names = frozenset((one.name, self._namespace_of(one)) for one in manifests)
        return Application(changed, tuple(troubles), names)

    async def prerequisite(self, image: str = "") -> PrerequisiteError | None:
        """What objects that the last `apply` left wait for, asked again; `image`: only those that name it.

        Raises PlatformError.
        """
        self._missing = await unmet(self._client, self._missing)
        held = [
            item for item in self._held if not image or repository(image) in map(repository, images_of(item))
        ]
        wanted = [need for item in held for need in asked_by(item, self._missing, self._namespace)]
        unique = [need for need in self._missing if need in wanted]
        if unique:
            return missing_error(unique, self._client.access.context.name)
        return await self._still_unserved(image)

    async def preview(
        self,
        manifests: Sequence[Manifest],
        manager: str,
        table: Mapping[str, str],
        unknown: Collection[str] = (),
    ) -> list[Preview]:
        """What applying them as `manager` would make of each: a dry run on the server, nothing is written.
        `table`: repository -> reference to put in; `unknown`: repositories of services without a target that
        says what is live: there the object keeps the reference of devloop's that it has.

        Raises ConfigError, PatchError, PlatformError.
        """
        found = []
        for manifest in manifests:
            try:
                path, item = await self._served.locate(manifest)
            except PrerequisiteError:  # of a kind whose definition is yet to come
                item = put_refs(manifest.item, dict(table))
                found.append(Preview(manifest.name, self._namespace_of(manifest), None, item))
                continue
            old = await self._client.find(path)
            refs = {**_kept(old, unknown), **_refs_for(item, old, table)}
            if manager == MANAGER:
                refs = {**_of_no_service(item, old), **refs}
            item = put_refs(item, refs)
            if manager == MANAGER:
                item = noted(item, self._project, old)
            params = {"fieldManager": manager, "force": "true", "dryRun": "All"}
            try:
                new = await send(self._client, path, params, item)
            except ApiRefusedError as error:
                namespace = item["metadata"].get("namespace")
                if (
                    error.status != 404
                    or await self._client.find(f"/api/v1/namespaces/{namespace}") is not None
                ):
                    raise refusal_of(manifest, error) from error
                new = item  # its namespace is yet to be made
            found.append(Preview(manifest.name, str(item["metadata"].get("namespace") or ""), old, new))
        return found

    async def path_of(self, manifest: Manifest) -> str:
        """Where the API serves the object. Raises PatchError, PlatformError."""
        return (await self._served.locate(manifest))[0]

    def forget(self) -> None:
        """After an outage: the server may be another one."""
        self._served.forget()

    async def _try(
        self, manifest: Manifest, table: dict[str, str], everything: Sequence[Json], marked: set[str]
    ) -> str | Trouble:
        """What applying it changed, or what refused it. Raises PlatformError where nothing answers."""
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
            with suppress(
                ApiRefusedError
            ):  # does it answer otherwise? a webhook may hang for this object only
                await self._client.get(f"/api/v1/namespaces/{self._namespace}")
            return self._trouble(manifest, hangs(manifest, error))

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
                    await self._served.locate(manifest)
                    return
                await anyio.sleep(0.1)

    async def _still_unserved(self, image: str) -> PrerequisiteError | None:
        """The objects whose kind is not served, looked for again: one error with a line for each."""
        found: list[PrerequisiteError] = []
        for manifest in list(self._unserved):
            try:
                await self._served.locate(manifest)
            except PrerequisiteError as error:
                if not image or repository(image) in map(repository, images_of(manifest.item)):
                    found.append(error)
            except PatchError:
                continue  # applying it reports what is wrong
            else:
                self._unserved.remove(manifest)
        if len(found) < 2:
            return found[0] if found else None
        lines = "\n".join(error.message for error in found)
        return PrerequisiteError(lines, reason=found[0].reason, hint=found[0].hint)

    async def _apply(self, manifest: Manifest, table: dict[str, str], marked: set[str]) -> str:
        path, item = await self._served.locate(manifest)
        there = await self._client.find(path)
        table = {**_of_no_service(item, there), **_refs_for(item, there, table)}
        item = noted(put_refs(item, table), self._project, there)
        item, old = await marked_for(self._client, path, item, there, marked)
        params = {"fieldManager": MANAGER, "force": "false"}
        try:
            new = await send(self._client, path, params, item)
        except ApiRefusedError as error:
            if error.status != 409 or not only_ours(error, item, table.values()):
                raise refusal_of(manifest, error) from error
            try:
                new = await send(self._client, path, {**params, "force": "true"}, item)
            except ApiRefusedError as second:
                raise refusal_of(manifest, second) from second
        if old is None:
            return f"{manifest.name} created"
        # Not by resourceVersion: a controller may have written the status since the object was read.
        return f"{manifest.name} configured" if content(old) != content(new) else ""


def _refs_for(item: Json, there: Json | None, table: Mapping[str, str]) -> dict[str, str]:
    """`table`, for an object that is `there` already: a Job has run, and its template cannot change."""
    if there is None or item["kind"] != "Job":
        return dict(table)
    ran = {repository(ref): ref for ref in images_of(there)}
    return {name: ran.get(name, ref) for name, ref in table.items()}


def _of_no_service(item: Json, there: Json | None) -> dict[str, str]:
    """What the object runs of devloop's where its manifest names no tag: the image of a service that was
    taken out of config.yaml exists under no other name."""
    return _kept(there, {repository(ref) for ref in images_of(item) if not split(ref)[1] and "@" not in ref})


def _kept(there: Json | None, names: Collection[str]) -> dict[str, str]:
    found = {repository(ref): ref for ref in images_of(there)} if there else {}
    return {
        name: ref for name, ref in found.items() if name in names and split(ref)[1].startswith(TAG_PREFIX)
    }


async def _read_all(paths: Sequence[Path]) -> tuple[list[Manifest], list[Trouble]]:
    """The objects of all files in the order in which to apply them, and what of them cannot be read."""
    manifests, wrong = await gather_each(paths)
    return manifests, [Trouble(str(path), "", frozenset(), error) for path, error in wrong]


def _defines(definition: Json, item: Json) -> bool:
    """Whether the one is the CustomResourceDefinition of the other's kind."""
    spec = definition.get("spec")
    if definition["kind"] != "CustomResourceDefinition" or not isinstance(spec, dict):
        return False
    names = spec.get("names")
    kind = names.get("kind") if isinstance(names, dict) else None
    return (spec.get("group"), kind) == (str(item["apiVersion"]).partition("/")[0], item["kind"])
