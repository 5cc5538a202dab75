"""The bridge that all pods of a sandbox are on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from devloop_sandbox.engine.client import Engine, EngineError

LABEL = "dev.devloop.sandbox"  # on everything that a sandbox makes on the engine


@dataclass(frozen=True, slots=True)
class Network:
    """The bridge that all pods are on; the sandbox's host has the gateway's address."""

    name: str
    subnet: str
    gateway: str


_making = asyncio.Lock()  # node and network both ask at start, and an engine makes two of one name


def network_name(project: str) -> str:
    return f"devloop-sandbox-{project}"


async def ensure_network(engine: Engine, project: str) -> Network:
    """The pods' bridge, made if absent."""
    async with _making:
        return await _ensure_network(engine, project)


async def _ensure_network(engine: Engine, project: str) -> Network:
    name = network_name(project)
    try:
        found = await engine.call("GET", f"/networks/{name}")
    except EngineError as error:
        if error.status != 404:
            raise
        body = {"Name": name, "Driver": "bridge", "CheckDuplicate": True, "Labels": {LABEL: project}}
        try:
            await engine.call("POST", "/networks/create", body=body)
        except EngineError as late:
            if late.status != 409:
                raise
        found = await engine.call("GET", f"/networks/{name}")
    config = found["IPAM"]["Config"][0]
    return Network(name, config["Subnet"], config["Gateway"].split("/")[0])
