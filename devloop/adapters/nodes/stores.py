"""The places where an image must arrive: one store per node, asked on its own (S2)."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.labels import PROJECT
from devloop.adapters.nodes.containers import Containers, EngineContainers, Looked
from devloop.adapters.nodes.images import StoredImage, ask_each, is_tagged, project_in
from devloop.adapters.nodes.shells.shell import last_line
from devloop.errors import PlatformError
from devloop.image_refs import familiar, full

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ABSENT = "devloop-absent"


class Store(Protocol):
    """One node's images."""

    @property
    def node(self) -> str: ...

    async def digest(self, ref: str) -> str | None:
        """The config digest under a reference, None if the node has none. Raises PlatformError."""
        ...

    async def look(self, ref: str) -> str | None:
        """As `digest`, before anything was sent: that a reference is absent may be known from before."""
        ...

    async def remove(self, ref: str) -> bool:
        """Take a reference away; False if it is gone already or in use. Raises PlatformError."""
        ...

    async def end(self, runtime: str, container: str, *, deaf: bool) -> bool:
        """Kill a container at once; with `deaf` only if its first process has no handler for SIGTERM: as the
        first of its PID namespace it does not get the signal at all. False where it was not killed, for one
        where the node's runtime, "docker" or "containerd", is not reached. Raises PlatformError."""
        ...

    def containers(self, runtime: str) -> Containers | None:
        """The node's running containers; None where nothing can be written into them from here."""
        ...

    async def own(self, project: str, repositories: Sequence[str]) -> Sequence[StoredImage]:
        """The project's images, by the label in their config (S25). A store that cannot list what it has
        looks at these repositories. Raises PlatformError."""
        ...


@dataclass(frozen=True, slots=True)
class EngineStore:
    """A node whose Docker engine can be asked over its API."""

    node: str
    engine: Engine
    digests: Digests
    looked: Looked = field(default_factory=Looked, compare=False)

    async def digest(self, ref: str) -> str | None:
        facts = await self.engine.inspect(ref)
        return None if facts is None else await self.digests.of(ref, facts)

    look = digest

    async def end(self, runtime: str, container: str, *, deaf: bool) -> bool:
        if runtime != "docker":
            return False
        try:
            caught = await self.engine.caught_signals(container) if deaf else 0
            if caught is None or caught & 1 << (signal.SIGTERM - 1):
                return False
            await self.engine.kill(container)
        except EngineRefusedError:
            return False  # it has ended
        return True

    def containers(self, runtime: str) -> Containers | None:
        return EngineContainers(self.engine, self.looked) if runtime == "docker" else None

    async def remove(self, ref: str) -> bool:
        return await self.engine.remove(ref)

    async def own(self, project: str, repositories: Sequence[str]) -> Sequence[StoredImage]:
        listed = await self.engine.images(f"{PROJECT}={project}")
        return [StoredImage(ref, image.id) for image in listed for ref in image.refs]


Shell = Callable[[str], Awaitable[tuple[int, str]]]  # a command line -> exit code and output


@dataclass(frozen=True, slots=True)
class ShellStore:
    """A node that is asked by a command line on it: docker's own, or crictl for containerd and CRI-O."""

    node: str
    shell: Shell
    docker: bool
    projects: dict[str, str] = field(default_factory=dict)  # of the images that were looked at, by id

    async def digest(self, ref: str) -> str | None:
        quoted = shlex.quote(ref)
        if self.docker:
            asked = f"docker image inspect --format '{{{{.Id}}}}' {quoted}"
        else:
            asked = f"{_CRICTL} inspecti -o json {quoted}"
        # minikube ssh exits 1 for whatever went wrong: the answer has to be in the output.
        code, output = await self.shell(f"{asked} 2>&1 || echo {_ABSENT}")
        if code != 0:
            raise PlatformError(
                f"node {self.node}: asking for {ref}: exit code {code}: {_last(output)}",
                reason="NodeGone",
                hint="is the node running? for Minikube: minikube status",
            )
        if _ABSENT in output:
            if _missing(output):
                return None
            raise PlatformError(f"node {self.node}: asking for {ref}: {_last(output)}", reason="NodeRefused")
        return _digest(output, self.docker)

    look = digest

    async def end(self, runtime: str, container: str, *, deaf: bool) -> bool:
        return False

    def containers(self, runtime: str) -> Containers | None:
        return None

    async def remove(self, ref: str) -> bool:
        quoted = shlex.quote(ref if self.docker else full(ref))
        asked = f"docker image rm {quoted}" if self.docker else f"{_CRICTL} rmi {quoted}"
        code, output = await self.shell(f"{asked} 2>&1 || echo {_ABSENT}")
        return code == 0 and _ABSENT not in output

    async def own(self, project: str, repositories: Sequence[str]) -> Sequence[StoredImage]:
        if self.docker:
            wanted = f"--filter label={PROJECT}={shlex.quote(project)} --no-trunc"
            output = await self._run(
                f"docker images {wanted} --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.ID}}}}'"
            )
            rows = [line.split() for line in output.splitlines()]
            return [StoredImage(row[0], row[1]) for row in rows if len(row) == 2 and is_tagged(row[0])]
        listed = _json(await self._run(f"{_CRICTL} images -o json"))
        refs: dict[str, list[str]] = {}
        for image in listed.get("images") or ():
            for ref in filter(is_tagged, image.get("repoTags") or ()):
                refs.setdefault(str(image["id"]), []).append(ref)
        ours = refs.keys()
        for gone in self.projects.keys() - ours:
            del self.projects[gone]
        inspected = await ask_each(self._run, f"{_CRICTL} inspecti -o json", ours - self.projects.keys())
        self.projects.update({image: project_in(one) for image, one in inspected.items()})
        return [
            StoredImage(familiar(ref), image)
            for image in ours
            if self.projects.get(image) == project
            for ref in refs[image]
        ]

    async def _run(self, line: str) -> str:
        code, output = await self.shell(line)
        if code != 0:
            raise PlatformError(f"node {self.node}: listing images: {_last(output)}", reason="NodeRefused")
        return output


_CRICTL = "$(id -u | grep -qx 0 || echo sudo) crictl"  # Minikube's user is none; kind's and k3d's is root


def _missing(output: str) -> bool:
    lowered = output.lower()
    return any(words in lowered for words in ("no such image", "not found", "does not exist", "not present"))


def _digest(output: str, docker: bool) -> str | None:
    """The config digest in what a node printed: docker's own words, or crictl's JSON."""
    if not docker:
        start = output.find("{")
        try:
            output = str(json.JSONDecoder().raw_decode(output[max(start, 0) :])[0]["status"]["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise PlatformError(
                f"crictl printed what is no image: {_last(output)}", reason="NodeRefused"
            ) from error
        output = output if output.startswith("sha256:") else f"sha256:{output}"
    found = _DIGEST.search(output)
    return found[0] if found else None


def _json(output: str) -> dict[str, Any]:
    """The first JSON object in an output, {} if there is none."""
    try:
        found = json.JSONDecoder().raw_decode(output[max(output.find("{"), 0) :])[0]
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last(output: str) -> str:
    return last_line(output.replace(_ABSENT, ""))


def names(stores: Sequence[Store]) -> tuple[str, ...]:
    return tuple(store.node for store in stores)
