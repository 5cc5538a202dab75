"""What `devloop check` asks of the cluster and of the build engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devloop import state_file
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.image_files import suspicious_files
from devloop.adapters.kubernetes.api.client import Client, Refused
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.borders import LAYER
from devloop.checks.facts import BuiltImage, LayerFile, NodeCapacity
from devloop.checks.quantity import number
from devloop.errors import PlatformError

KEPT = 50  # images whose scan is remembered
RELEASE, SPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The cluster around what is deployed; fields as in `Facts`."""

    version: str  # "1.36"
    nodes: tuple[NodeCapacity, ...]
    taken_ports: Mapping[int, str]
    others: frozenset[tuple[str, str]]


async def look_around(client: Client, own: Iterable[tuple[str, str]]) -> Surroundings:
    """`own`: (namespace, name) of the releases: their present Services are not others.

    Raises PlatformError.
    """
    try:
        nodes = await client.get("/api/v1/nodes")
        services = await client.get("/api/v1/services")
        version = await client.get("/version")
    except Refused as error:
        raise PlatformError(
            f"looking at the cluster was refused: {error.message}",
            reason=error.reason,
            hint="the user needs `list` on nodes and services",
        ) from error
    releases = set(own)
    foreign = [one for one in services.get("items") or () if _release(one) not in releases]
    found = f"{version.get('major', '')}.{str(version.get('minor', '')).rstrip('+')}"
    return Surroundings(
        found,
        tuple(_capacity(one) for one in nodes.get("items") or ()),
        {
            port["nodePort"]: f"{one['metadata']['namespace']}/{one['metadata']['name']}"
            for one in foreign
            for port in (one.get("spec") or {}).get("ports") or ()
            if port.get("nodePort")
        },
        frozenset((one["metadata"]["namespace"], one["metadata"]["name"]) for one in foreign),
    )


async def nodes_without(loader: ClusterLoader, refs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Image -> the nodes that lack it, of those that any node lacks. Raises LoadError, PlatformError."""
    wanted = sorted(set(refs))
    if not wanted:
        return {}
    route = await loader.route()
    found: dict[str, tuple[str, ...]] = {}
    for ref in wanted:
        lacking = [store.node for store in route.stores if await store.digest(ref) is None]
        if lacking:
            found[ref] = tuple(lacking)
    return found


class Scans:
    """Which suspicious files an image has, by its id: a look through all layers reads the whole image.

    `memory` is a file in the state directory; one that cannot be read or written only costs time.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    async def files(self, engine: Engine, ref: str, image: str) -> tuple[LayerFile, ...]:
        known = self._read()
        if image not in known:
            with LAYER(f"the layers of {ref}"):
                found = await suspicious_files(engine, ref)
            known[image] = [[file.path, file.private_key] for file in found]
            with suppress(OSError):
                state_file.write(self._memory, json.dumps(dict([*known.items()][-KEPT:])).encode())
        with LAYER(f"what {self._memory} says of {ref}"):
            return tuple(LayerFile(str(path), bool(key)) for path, key in known[image])

    def _read(self) -> dict[str, list[list[Any]]]:
        try:
            known = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


async def built_image(engine: Engine, scans: Scans, ref: str, max_size: int | None) -> BuiltImage | None:
    """None if the engine does not have it. Raises PlatformError, EngineRefusal."""
    facts = await engine.inspect(ref)
    if facts is None:
        return None
    ports = frozenset(int(port.partition("/")[0]) for port in facts.ports if port.partition("/")[0].isdigit())
    files = await scans.files(engine, ref, facts.id)
    return BuiltImage(ref, facts.size, facts.user, ports, files, max_size)


def _capacity(node: Mapping[str, Any]) -> NodeCapacity:
    status = node.get("status") or {}
    room = status.get("allocatable") or status.get("capacity") or {}
    return NodeCapacity(
        node["metadata"]["name"], number(room.get("cpu")) or 0.0, number(room.get("memory")) or 0.0
    )


def _release(service: Mapping[str, Any]) -> tuple[str, str]:
    notes = service["metadata"].get("annotations") or {}
    return str(notes.get(SPACE, "")), str(notes.get(RELEASE, ""))
