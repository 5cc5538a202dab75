"""What devloop made in a cluster, found and deleted: objects of manifests, and namespaces of releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from devloop.adapters.kubernetes.applier import Applier, mark
from devloop.adapters.kubernetes.client import Client, Json, Refused
from devloop.adapters.kubernetes.manifests import gather_manifests
from devloop.adapters.kubernetes.patch import MANAGER
from devloop.errors import PatchError, PrerequisiteError

MADE_BY = "dev.devloop/created-by"  # annotation of a namespace that devloop made: the project's id
GONE_SECONDS = 60.0


class Removal:
    """`files` are the manifests. An object counts as made if devloop manages fields of it; a Namespace never:
    others may live in it."""

    def __init__(
        self, client: Client, applier: Applier, files: Callable[[], Sequence[Path]], project: str
    ) -> None:
        self._client, self._applier, self._files, self._project = client, applier, files, project

    async def find_made(self) -> Sequence[str]:
        return [name for name, _ in await self._made()]

    async def delete_made(self) -> Sequence[str]:
        made = await self._made()
        for name, path in made:
            if name.partition("/")[0] in ("deployment", "statefulset"):
                with suppress(Refused):  # gone meanwhile
                    await mark(self._client, path, "uninstalling")
        for _, path in made:
            await self._delete(path)
        await self._wait_gone([path for _, path in made])
        return [name for name, _ in made]

    async def own_namespaces(self, names: Sequence[str]) -> Sequence[str]:
        found = []
        for name in names:
            item = await self._client.find(f"/api/v1/namespaces/{name}")
            notes = (item or {"metadata": {}})["metadata"].get("annotations") or {}
            if notes.get(MADE_BY) == self._project:
                found.append(name)
        return found

    async def delete_namespaces(self, names: Sequence[str]) -> None:
        paths = [f"/api/v1/namespaces/{name}" for name in names]
        for path in paths:
            await self._delete(path)
        await self._wait_gone(paths)

    async def _made(self) -> list[tuple[str, str]]:
        """(name, path) of each, in the reverse of the order in which they were applied."""
        found = []
        for manifest in reversed(await gather_manifests(self._files())):
            if manifest.item["kind"] == "Namespace":
                continue
            try:
                path = await self._applier.path_of(manifest)
            except PrerequisiteError:
                continue  # of a kind that is not served (any more), there is no object
            item = await self._client.find(path)
            if item is not None and _is_ours(item):
                found.append((manifest.name, path))
        return found

    async def _delete(self, path: str) -> None:
        try:
            body = {"propagationPolicy": "Background"}
            await self._client.request("DELETE", path, body=body)
        except Refused as error:
            if error.status not in (404, 409):  # 409: a namespace that is going already
                raise

    async def _wait_gone(self, paths: Sequence[str]) -> None:
        with anyio.move_on_after(GONE_SECONDS):
            for path in paths:
                while await self._client.find(path) is not None:  # noqa: ASYNC110 - the API tells nobody else
                    await anyio.sleep(0.1)
            return
        raise PatchError(
            f"still there after {GONE_SECONDS:.0f} s: {', '.join(paths)}",
            reason="NotGone",
            hint="a finalizer may hold it: kubectl get -o yaml shows it",
        )


def _is_ours(item: Json) -> bool:
    return any(entry.get("manager") == MANAGER for entry in item["metadata"].get("managedFields") or ())
