"""What `devloop check` asks of the cluster: nodes, ports that are taken, and images that nodes lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from devloop.adapters.kubernetes.api.answers import ApiRefusedError
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.borders import API_ANSWER
from devloop.checks.facts import NodeCapacity
from devloop.checks.quantity import number
from devloop.errors import PlatformError

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
    except ApiRefusedError as error:
        raise PlatformError(
            f"looking at the cluster was refused: {error.message}",
            reason=error.reason,
            hint="the user needs `list` on nodes and services",
        ) from error
    with API_ANSWER("looking at the cluster"):
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


def _capacity(node: Mapping[str, Any]) -> NodeCapacity:
    status = node.get("status") or {}
    capacity = status.get("allocatable") or status.get("capacity") or {}
    return NodeCapacity(
        node["metadata"]["name"], number(capacity.get("cpu")) or 0.0, number(capacity.get("memory")) or 0.0
    )


def _release(service: Mapping[str, Any]) -> tuple[str, str]:
    notes = service["metadata"].get("annotations") or {}
    return str(notes.get(SPACE, "")), str(notes.get(RELEASE, ""))
