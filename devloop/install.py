"""The `Installer` port: namespaces, plain manifests, releases, each when it changed or is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.events import Applied, Emit
from devloop.kustomization import sources
from devloop.model import Service
from devloop.ports import Cluster
from devloop.releases import Releases

Files = Callable[[], Sequence[Path]]


class Installation:
    """Manifests and releases together, in this order, for a manifest may hold what a chart needs."""

    def __init__(self, manifests: Manifests, releases: Releases) -> None:
        self.manifests, self.releases = manifests, releases

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As the port says."""
        await self.releases.make_namespaces()
        applied = await self.manifests.install(service, ref, missing=missing)
        released = await self.releases.install(service, ref, missing=missing)
        return applied or released

    async def settle(self) -> bool:
        """Write what changed, as far as its images are loaded. Raises as `install`."""
        await self.releases.make_namespaces()
        applied = await self.manifests.settle()
        released = await self.releases.settle()
        return applied or released

    @asynccontextmanager
    async def writing(self, service: Service) -> AsyncIterator[None]:
        async with self.releases.writing(service):
            yield

    async def unblocked(self) -> None:
        await self.releases.unblocked()


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

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As the port says; also applies what another service's image held back."""
        self._refs[service.image] = ref
        return await self.settle(missing=missing)

    async def settle(self, *, missing: bool = False) -> bool:
        """Apply if the files changed since the last time, or if told that something is `missing`.

        Raises ConfigError, PatchError, PlatformError.
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
            if not withheld:
                self._remember(digest)
            if changed:
                self._emit(Applied("manifests", changed))
            return bool(changed)

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
        return file.read_bytes()
    except OSError:
        return b""  # gone, or yet to come: reading it for real says what is wrong
