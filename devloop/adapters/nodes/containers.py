"""Files into running containers of a Docker node, by its engine's archive calls, each read back (S36).

No shell and no tar is needed in the container. The engine unpacks over the root as processes in it see it,
mounts included, and takes whiteouts for names: what must not be written is found out before.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import signal
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import ContainerFacts
from devloop.concurrency import gather
from devloop.errors import SyncError
from devloop.model import Refusal, SyncedFile, SyncFiles

# What the runtime mounts into each container, whatever its pod says.
OF_THE_RUNTIME = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
AT_ONCE = 8  # files that are read back side by side


class Containers(Protocol):
    """The running containers of one node, by the id that its runtime gives them."""

    async def refuse(self, container: str, files: SyncFiles, reload: str) -> Refusal | None:
        """Why these files cannot be synced into this container; None: they can. Raises PlatformError."""
        ...

    async def put(self, container: str, files: SyncFiles) -> None:
        """Write the files and read each back. Raises SyncError, PlatformError; what it holds is open then."""
        ...

    async def send(self, container: str, reload: str) -> None:
        """Send a signal to its first process. Raises SyncError, PlatformError."""
        ...

    async def runs(self, container: str) -> bool:
        """Whether it is running. Raises PlatformError."""
        ...


@dataclass(slots=True)
class Looked:
    """What was found out about containers, and does not change: what is mounted where. And what was in order:
    (container, a directory that is one, or a signal that is handled)."""

    facts: dict[str, ContainerFacts] = field(default_factory=dict)
    good: set[tuple[str, str]] = field(default_factory=set)


class EngineContainers:
    """`Containers` of a Docker engine. Whether one still runs is asked when it was written into (`runs`)."""

    def __init__(self, engine: Engine, looked: Looked) -> None:
        self._engine, self._facts, self._known = engine, looked.facts, looked.good

    async def refuse(self, container: str, files: SyncFiles, reload: str) -> Refusal | None:
        facts = self._facts.get(container) or await self._engine.container(container)
        if facts is not None and facts.running:
            self._facts[container] = facts
        refusal = refuse_container(facts, files.paths)
        return refusal or await self._refuse_link(container, files) or await self._refuse(container, reload)

    async def put(self, container: str, files: SyncFiles) -> None:
        try:
            await self._engine.put_archive(container, files.archive)
            places = anyio.CapacityLimiter(AT_ONCE)

            async def check(file: SyncedFile) -> None:
                async with places:
                    await self._check(container, file)

            await gather(check, files.files)
        except EngineRefusedError as refusal:
            raise SyncError(f"writing into {container[:12]}: {refusal.message}") from refusal

    async def send(self, container: str, reload: str) -> None:
        try:
            await self._engine.kill(container, reload)
        except EngineRefusedError as refusal:
            raise SyncError(f"sending {reload} to {container[:12]}: {refusal.message}") from refusal

    async def runs(self, container: str) -> bool:
        facts = await self._engine.container(container)
        if facts is None:  # nobody will ask for it again
            self._facts.pop(container, None)
        return facts is not None and facts.running

    async def _refuse_link(self, container: str, files: SyncFiles) -> Refusal | None:
        """A directory that the process has replaced by a link: it may lead into a mount."""

        async def look(folder: str) -> str:
            if (container, folder) in self._known:
                return ""
            try:
                link = await self._engine.link_at(container, folder)
            except EngineRefusedError:
                return "nothing"
            if not link:
                self._known.add((container, folder))
            return link

        for folder, link in zip(files.folders, await gather(look, files.folders), strict=True):
            if link:
                return Refusal("moved", f"/{folder} of the image is {link} in the container")
        return None

    async def _refuse(self, container: str, reload: str) -> Refusal | None:
        number = getattr(signal, f"SIG{reload}", None)
        if number is None or (container, reload) in self._known:
            return None
        try:
            caught = await self._engine.caught_signals(container)
        except EngineRefusedError:
            return Refusal("not_running", "the container has ended")
        if caught is not None and not caught & 1 << (number - 1):
            return Refusal("signal_ignored", f"the container's first process does not handle SIG{reload}")
        self._known.add((container, reload))
        return None

    async def _check(self, container: str, file: SyncedFile) -> None:
        content = io.BytesIO()
        async for piece in self._engine.archive(container, file.path):
            content.write(piece)
        content.seek(0)
        try:
            found = _read(content)
        except (tarfile.TarError, OSError) as error:
            raise SyncError(f"/{file.path} of {container[:12]} could not be read back: {error}") from error
        if found != (file.digest, file.link):
            raise SyncError(
                f"/{file.path} of {container[:12]} is not what was written: somebody else writes it"
            )


def refuse_container(facts: ContainerFacts | None, paths: Iterable[str]) -> Refusal | None:
    """Why these paths (without leading slash) cannot be written in such a container. Pure."""
    if facts is None or not facts.running:
        return Refusal("not_running", "the container is not running")
    if facts.read_only:
        return Refusal("read_only", "its root file system is read-only")
    mounts = [posixpath.normpath(mount) for mount in (*facts.mounts, *OF_THE_RUNTIME)]
    for path in paths:
        mount = next((mount for mount in mounts if is_below(f"/{path}", mount)), None)
        if mount is not None:
            return Refusal("mounted", f"/{path} lies in a volume that is mounted at {mount}")
    return None


def is_below(path: str, mount: str) -> bool:
    """Whether a path is a mount's own, or in it."""
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _read(archive: io.BytesIO) -> tuple[str, str]:
    """(sha256, "") of a file, ("", target) of a link: the only entry of the tar."""
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        member = tar.next()
        if member is not None and member.issym():
            return "", member.linkname
        opened = tar.extractfile(member) if member is not None and member.isreg() else None
        return (hashlib.sha256(opened.read()).hexdigest(), "") if opened is not None else ("", "")
