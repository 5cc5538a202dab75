"""The Releaser port: a helm of either kind, its records in the cluster, and what must be there beforehand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from devloop.adapters.helm import records
from devloop.adapters.helm.runner import Runner
from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.informer import ObjectListener
from devloop.adapters.kubernetes.patch import matching, read_workload
from devloop.adapters.kubernetes.views import MADE_BY, image_writer
from devloop.adapters.lock import take
from devloop.borders import disk
from devloop.deploy.needs import Need, needs_of, objects_of
from devloop.errors import HeldError, PatchError, PlatformError, PrerequisiteError, TargetMissingError
from devloop.model import LiveImage, Release, ReleaseView, Target, Values

Observe = Callable[[str, ObjectListener], Coroutine[Any, Any, None]]
Seen = Callable[[Release, str], None]
Wake = Callable[[], None]
LOCK_SECONDS = 320.0  # a helm that outlived its devloop may wait this long for a hook


class HelmReleaser:
    """`runner` is called on first use: a config without releases needs no Helm. `project` marks namespaces
    that are made; `locks` is the folder of lock files (S26)."""

    def __init__(self, runner: Callable[[], Runner], client: Client, locks: Path, project: str) -> None:
        self._choose, self._client, self._locks, self._project = runner, client, locks, project
        self._chosen: Runner | None = None
        self._held: dict[str, int] = {}  # release -> descriptor of its lock file

    @property
    def _runner(self) -> Runner:
        self._chosen = self._chosen or self._choose()
        return self._chosen

    def require(self) -> str:
        """Which Helm it is. Raises ConfigError where there is none, before anything is built."""
        return str(self._runner)

    @property
    def _context(self) -> str:
        return self._client.access.context.name

    @asynccontextmanager
    async def exclusive(self, release: Release) -> AsyncIterator[None]:
        """Raises HeldError if another helm of devloop's holds the release for longer than a hook may last."""
        server = self._client.access.server
        text = f"{server}\n{release.namespace}\n{release.name}"
        name = f"release-{release.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.lock"
        with disk(f"the lock of {release}", PlatformError):
            handle = await _lock(self._locks, name, release)
        try:
            self._held[release.name] = handle
            yield
        finally:
            self._held.pop(release.name, None)
            os.close(handle)

    async def find(self, release: Release) -> ReleaseView | None:
        return await records.find(self._client, release)

    async def watch(
        self, observe: Observe, releases: Callable[[], Sequence[Release]], seen: Seen, woken: Wake
    ) -> None:
        """Tell `seen` of each status, and call `woken` at every revision that is no longer pending: somebody
        else may have made it. Ends when cancelled."""

        def listen(old: Json | None, new: Json | None, at: float, *, live: bool) -> None:
            item = new if new is not None else old
            assert item is not None
            meta = item["metadata"]
            labels = meta.get("labels") or {}
            name, status = str(labels.get("name")), str(labels.get("status"))
            known = {(one.namespace, one.name): one for one in releases()}
            release = known.get((meta["namespace"], name))
            if release is None or status == "superseded":
                return
            seen(release, status if new is not None else "")
            at_work = status.startswith("pending-") or status == "uninstalling"
            if live and (new is None or not at_work):
                woken()

        async with anyio.create_task_group() as group:
            for namespace in sorted({release.namespace for release in releases()}):
                path = f"{records.SECRETS.format(namespace)}?labelSelector=owner%3Dhelm"
                group.start_soon(observe, path, listen)

    async def give_up(self, release: Release, view: ReleaseView) -> None:
        await records.give_up(self._client, release, view)

    async def live(self, targets: Sequence[Target], image: str) -> Sequence[LiveImage | None]:
        return [await self._live(target, image) for target in targets]

    async def _live(self, target: Target, image: str) -> LiveImage | None:
        try:
            item = await read_workload(self._client, target)
        except TargetMissingError:
            return None
        try:
            found = matching(item, target, image)
        except PatchError:  # it runs another image: nothing of ours to keep
            return LiveImage("", "")
        return LiveImage(str(found[0][2].get("image") or ""), image_writer(item))

    async def ensure_namespace(self, release: Release) -> bool:
        path = f"/api/v1/namespaces/{release.namespace}"
        item = await self._get(path)
        if item is not None and not item["metadata"].get("deletionTimestamp"):
            return False
        if item is not None:
            raise PrerequisiteError(
                f"{release}: namespace {release.namespace} is being deleted", reason="NamespaceTerminating"
            )
        if release.create_namespace is None:
            raise PrerequisiteError(
                f"{release}: namespace {release.namespace} does not exist",
                hint=f"kubectl --context {self._context} create namespace {release.namespace}, or write "
                f"create_namespace: true below releases.{release.name} in config.yaml",
            )
        body: Json = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": release.namespace,
                "labels": dict(release.create_namespace),
                "annotations": {MADE_BY: self._project},
            },
        }
        try:
            await self._client.request(
                "POST", "/api/v1/namespaces", params={"fieldManager": "devloop"}, body=body
            )
        except ApiRefusedError as error:
            if error.reason != "AlreadyExists":
                raise PrerequisiteError(
                    f"{release}: namespace {release.namespace} was refused: {error.message}",
                    reason=error.reason,
                ) from error
            return False
        return True

    async def made(self, namespaces: Iterable[str]) -> list[Release]:
        """What this project's devloop installed, whatever config.yaml names now: for `uninstall` alone."""
        found = await records.noted(self._client, self._project, namespaces)
        return [Release(name, Path(), namespace) for name, namespace in found]

    async def render(self, release: Release, values: Values, *, upgrade: bool) -> str:
        return await self._runner.render(release, values, upgrade=upgrade)

    async def check_needs(self, release: Release, manifest: str) -> None:
        missing: list[Need] = [
            need
            for need in needs_of(objects_of(manifest, str(release)), release.namespace)
            if await self._get(need.path) is None
        ]
        if missing:
            named = ", ".join(f"{need.kind} {need.name} (asked for by {need.wanted_by})" for need in missing)
            raise PrerequisiteError(
                f"{release}: not in namespace {missing[0].namespace}: {named}",
                reason=f"Missing{missing[0].kind}",
                hint="\n     ".join(need.make(self._context) for need in missing),
            )

    async def install(self, release: Release, values: Values, note: str) -> None:
        await self._runner.install(release, values, note, self._fds(release))
        await records.note(self._client, release, self._project)

    async def upgrade(self, release: Release, values: Values, note: str) -> None:
        await self._runner.upgrade(release, values, note, self._fds(release))
        await records.note(self._client, release, self._project)

    async def uninstall(self, release: Release) -> None:
        await self._runner.uninstall(release, self._fds(release))

    def _fds(self, release: Release) -> tuple[int, ...]:
        return (self._held[release.name],) if release.name in self._held else ()

    async def _get(self, path: str) -> Json | None:
        try:
            return await self._client.get(path)
        except ApiRefusedError as error:
            if error.status == 404:
                return None
            if error.status == 403:  # may not be looked at: then it cannot be missed either
                return {"metadata": {}}
            raise


async def _lock(folder: Path, name: str, release: Release) -> int:
    with anyio.move_on_after(LOCK_SECONDS):
        while (handle := take(folder, name)) is None:  # noqa: ASYNC110 - the kernel notifies nobody
            await anyio.sleep(0.05)
        return handle
    raise HeldError(
        f"{release} in namespace {release.namespace} is being written by another helm that devloop started",
        hint="ps shows it: python -m devloop.adapters.helm.worker, or helm",
    )
