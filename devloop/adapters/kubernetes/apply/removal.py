"""What devloop made in a cluster, found and deleted: objects of manifests, and namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.api.answers import ApiRefusedError
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.apply.applier import Applier
from devloop.adapters.kubernetes.apply.marks import mark
from devloop.adapters.kubernetes.inhabitants import Claims, strangers
from devloop.adapters.kubernetes.made import Made, find_namespaces, find_noted, is_made
from devloop.adapters.kubernetes.manifests import gather_manifests
from devloop.errors import PatchError, PrerequisiteError
from devloop.model import Release

GONE_SECONDS = 60.0


class Removal:
    """An object counts as made if it has the project's note, whatever the manifests say now; without any
    note if it is in the manifests, `files`, and devloop manages fields of it. A Namespace counts only by its
    note, which it has if it was not there before. `namespaces` are looked at where not all may be listed, or
    where not `everywhere`."""

    def __init__(
        self,
        client: Client,
        applier: Applier,
        files: Callable[[], Sequence[Path]],
        project: str,
        namespaces: Iterable[str] = (),
        *,
        everywhere: bool = True,
    ) -> None:
        self._client, self._applier, self._files, self._project = client, applier, files, project
        self._namespaces, self._everywhere = tuple(namespaces), everywhere
        self._claims: Claims = set()

    async def find_made(self) -> Sequence[str]:
        return [str(one) for one in await self._made()]

    async def find_left(self) -> Sequence[Made]:
        """What this project made and its manifests have no more."""
        listed = {one.path for one in await self._listed()}
        noted = await find_noted(self._client, self._project, self._namespaces)
        return [
            one
            for one in noted
            if one.path not in listed and (self._everywhere or one.namespace in self._namespaces)
        ]

    async def delete_made(self) -> Sequence[str]:
        made = await self._made()
        for one in made:
            if one.kind in ("Deployment", "StatefulSet"):
                with suppress(ApiRefusedError):  # gone meanwhile
                    await mark(self._client, one.path, "uninstalling")
        for one in made:
            await self._delete(one.path)
        await self._wait_gone([one.path for one in made])
        return [str(one) for one in made]

    async def own_namespaces(
        self, names: Sequence[str], releases: Sequence[Release]
    ) -> Mapping[str, Sequence[str]]:
        asked = {*names, *self._namespaces}
        found = await find_namespaces(self._client, self._project, asked)
        paths = {one.path for one in await self._listed()}
        return {
            name: await strangers(
                self._client, name, self._project, releases=releases, paths=paths, claims=self._claims
            )
            for name in found
            if self._everywhere or name in asked
        }

    async def delete_namespaces(self, names: Sequence[str]) -> None:
        paths = [f"/api/v1/namespaces/{name}" for name in names]
        for path in paths:
            await self._delete(path)
        await self._wait_gone(paths)

    async def _made(self) -> list[Made]:
        """In the reverse of the order in which they were applied."""
        made = {one.path: one for one in await self._listed()}
        for one in await self.find_left():
            made.setdefault(one.path, one)
        backwards = list(reversed(made.values()))
        return sorted(backwards, key=lambda one: -one.rank)

    async def _listed(self) -> list[Made]:
        """Those of the manifests that are there, in the order of application."""
        found = []
        for manifest in await gather_manifests(self._files()):
            if manifest.item["kind"] == "Namespace":
                continue
            try:
                path = await self._applier.path_of(manifest)
            except PrerequisiteError:
                continue  # of a kind that is not served (any more), there is no object
            item = await self._client.find(path)
            if item is not None and is_made(item, self._project):
                meta = item["metadata"]
                namespace = str(meta.get("namespace") or "")
                found.append(Made(manifest.item["kind"], str(meta["name"]), namespace, path))
        return found

    async def _delete(self, path: str) -> None:
        try:
            body = {"propagationPolicy": "Background"}
            await self._client.request("DELETE", path, body=body)
        except ApiRefusedError as error:
            if error.status not in (404, 409):  # 409: a namespace that is going already
                raise

    async def _wait_gone(self, paths: Sequence[str]) -> None:
        with anyio.move_on_after(GONE_SECONDS):
            for path in paths:
                while await self._client.find(path) is not None:  # noqa: ASYNC110 - the API notifies nobody
                    await anyio.sleep(0.1)
            return
        raise PatchError(
            f"still there after {GONE_SECONDS:.0f} s: {', '.join(paths)}",
            reason="NotGone",
            hint="a finalizer may hold it: kubectl get -o yaml shows it",
        )


async def delete_pod(client: Client, namespace: str, pod: str, uid: str) -> None:
    """Delete the pod if it is still this one. A server that refuses leaves it as it is."""
    body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
    with suppress(ApiRefusedError):
        await client.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{pod}", body=body)
