"""The very end of a pod: nothing of it stays on the engine, on the disk or in the API."""

from __future__ import annotations

import asyncio

from devloop_sandbox.engine.client import EngineError
from devloop_sandbox.node.container import POD_UID
from devloop_sandbox.node.housing import Housing
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.volumes import Volumes
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj

AWAY = 2.0  # seconds until an engine, or a disk, that refused is tried again


async def remove(parts: Parts, pod: Obj, housing: Housing, volumes: Volumes) -> None:
    """Return when all of it is gone; an engine that is away and a full disk are waited for."""
    await housing.settle()
    mine = f"{POD_UID}={pod['metadata']['uid']}"
    while True:
        try:
            await parts.engine.remove_all(mine)
            await housing.release()
            await parts.engine.remove_all(mine)  # a start that was cut short may have come late
            break
        except EngineError:
            await asyncio.sleep(AWAY)
    volumes.remove()
    while not _forget(parts, pod):  # noqa: ASYNC110  a full disk sends no event
        await asyncio.sleep(AWAY)


def _forget(parts: Parts, pod: Obj) -> bool:
    """Take the object out of the API; False if the disk is full."""
    meta = pod["metadata"]
    try:
        parts.store.delete("pods", meta["namespace"], meta["name"], grace=0, uid=meta["uid"])
    except ApiError as error:
        return error.status in (404, 409)  # gone, or another of its name
    return True
