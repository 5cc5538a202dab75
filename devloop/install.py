"""The `Installer` port: namespaces, plain manifests, releases, each when it changed or is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.errors import DevloopError, PrerequisiteError
from devloop.events import Applied, Emit, Notice
from devloop.kustomization import sources
from devloop.model import Service
from devloop.ports import Cluster
from devloop.releases import POLL_SECONDS, Releases
from devloop.text_file import read_bytes

Files = Callable[[], Sequence[Path]]
Step = Callable[[], Awaitable[bool]]


class Installation:
    """Manifests and releases together, in this order, for a manifest may hold what a chart needs."""

    def __init__(self, manifests: Manifests, releases: Releases) -> None:
        self.manifests, self.releases = manifests, releases

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As the port says."""
        await self.releases.make_namespaces()
        return await self._both(
            lambda: self.manifests.install(service, ref, missing=missing),
            lambda: self.releases.install(service, ref, missing=missing),
        )

    async def settle(self) -> bool:
        """Write what changed, as far as its images are loaded. Raises as `install`."""
        await self.releases.make_namespaces()
        return await self._both(self.manifests.settle, self.releases.settle)

    @asynccontextmanager
    async def writing(self, service: Service) -> AsyncIterator[None]:
        async with self.releases.writing(service):
            yield

    async def unblocked(self) -> None:
        """Returns as soon as one of those that lack something no longer does."""
        waiting = [part for part in (self.manifests, self.releases) if part.blocked]
        if not waiting:  # a namespace that goes away, for one
            await anyio.sleep(POLL_SECONDS)
            return
        async with anyio.create_task_group() as group:

            async def wait(part: Manifests | Releases) -> None:
                while True:
                    with suppress(DevloopError):  # no answer, or another error: what was missing still is
                        await part.unblocked()
                        group.cancel_scope.cancel()
                    await anyio.sleep(POLL_SECONDS)

            for part in waiting:
                group.start_soon(wait, part)

    async def _both(self, apply: Step, release: Step) -> bool:
        """Manifests, then releases; what manifests lack a release may bring."""
        try:
            applied = await apply()
        except PrerequisiteError:
            if not await release():
                raise
            return await self.manifests.settle() or True
        return await release() or applied


class Manifests:
    """Knows which images are loaded, and holds back every object whose image is not.

    `memory` is a file in the state directory that says what was applied last to `where` (server and
    namespace): what did not change is not applied again, so that hand-made changes stay.
    """

    def __init__(
        self,
        files: Files,
        services: Sequence[Service],
        cluster: Cluster,
        emit: Emit,
        memory: Path,
        where: str,
    ) -> None:
        self._files, self._cluster, self._emit = files, cluster, emit
        self._memory, self._where = memory, where
        self._images = {service.image for service in services}
        self._refs: dict[str, str] = {}
        self._lock = anyio.Lock()
        self._told = ""
        self.blocked = False  # something that must be there beforehand is not
        self.held = anyio.Event()  # set while blocked

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As the port says; also applies what another service's image held back."""
        self._refs[service.image] = ref
        try:
            return await self.settle(missing=missing)
        except PrerequisiteError as error:
            own = await self._cluster.prerequisite(service.image)
            if own is not None:
                raise own from error
            if self._told != error.message:  # another's: no reason to hold up this service
                self._told = error.message
                self._emit(Notice("", "error", error.message, error.hint))
            return True

    async def settle(self, *, missing: bool = False) -> bool:
        """Apply if the files changed since the last time, or if told that something is `missing`.

        Raises ConfigError, PatchError, PlatformError; PrerequisiteError, once all else is applied.
        """
        async with self._lock:
            files = tuple(self._files())
            if not files:
                return False
            digest = await anyio.to_thread.run_sync(_digest, files)
            if not missing and self._applied() == digest:
                return False
            withheld = tuple(self._images - self._refs.keys())
            changed = await self._cluster.apply(files, tuple(self._refs.values()), withheld)
            if changed:
                self._emit(Applied("manifests", changed))
            lacking = await self._cluster.prerequisite()
            self._block(lacking is not None)
            if lacking is not None:
                raise lacking
            if not withheld:
                self._remember(digest)
            return bool(changed)

    async def unblocked(self) -> None:
        """Wait until what was missing is there. Raises PlatformError."""
        while self.blocked:
            await anyio.sleep(POLL_SECONDS)
            self._block(await self._cluster.prerequisite() is not None)

    def _block(self, blocked: bool) -> None:
        self.blocked = blocked
        if blocked:
            self.held.set()
        elif self.held.is_set():
            self.held, self._told = anyio.Event(), ""

    def forget(self) -> None:
        """They were deleted: what is to come is applied whether it changed or not."""
        self._remember("")

    def _applied(self) -> str:
        return self._read().get(self._where, "")

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, digest: str) -> None:
        known = {**self._read(), self._where: digest}
        with suppress(OSError):  # a full disk costs one more time of applying, not a trip
            self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = self._memory.with_suffix(".new")
            beside.write_text(json.dumps(known))
            beside.replace(self._memory)


def _digest(files: Sequence[Path]) -> str:
    """Of files; a kustomization's folder counts by all that rendering it reads."""
    total = hashlib.sha256()
    for entry in files:
        for file in sources(entry) if entry.is_dir() else (entry,):
            total.update(str(file).encode(errors="surrogateescape") + b"\0")
            total.update(hashlib.sha256(_content(file)).digest())
    return total.hexdigest()


def _content(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except OSError:
        return b""  # gone, or yet to come: reading it for real says what is wrong
