"""What an earlier process of this sandbox left on the engine: pods go on with it, the rest is removed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from devloop_sandbox.engine.client import Engine, EngineError
from devloop_sandbox.engine.holders import TYPE, Holder, inspect_holder
from devloop_sandbox.engine.oom import correct_oom
from devloop_sandbox.node.container import ATTEMPT, CONTAINER, POD_UID
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """By the pod's uid: its running holder, and its containers as entries of the engine's list."""

    holders: dict[str, Holder] = field(default_factory=dict)
    containers: dict[str, list[Obj]] = field(default_factory=dict)


async def find(parts: Parts, pods: set[str], label: str) -> Left:
    """What belongs to the pods with these uids; warm holders go to the pool, the rest is removed."""
    found = await parts.engine.containers(label)
    users = {_network_of(entry): entry["Labels"].get(POD_UID, "") for entry in found}
    left = Left()
    for entry in found:
        labels = entry["Labels"]
        uid = labels.get(POD_UID) or users.get(entry["Id"], "")
        holder = None
        if labels[TYPE] == "podsandbox" and entry["State"] == "running":
            holder = await inspect_holder(parts.engine, entry["Id"], parts.network)
        if holder is not None and not uid:
            parts.pool.adopt(holder)
        elif holder is not None and uid in pods:
            left.holders[uid] = holder
        elif labels[TYPE] == "container" and uid in pods:
            left.containers.setdefault(uid, []).append(entry)
        else:
            await _discard(parts.engine, entry["Id"])
    return left


async def adopt_containers(engine: Engine, pod: Obj, records: list[Record], containers: list[Obj]) -> None:
    """Give each record its last two attempts, with what the pod's status says of their readiness."""
    attempts = sorted(containers, key=lambda entry: int(entry["Labels"][ATTEMPT]))
    reported = {
        entry.get("containerID"): entry for entry in pod.get("status", {}).get("containerStatuses") or []
    }
    for record in records:
        for entry in attempts:
            if entry["Labels"][CONTAINER] == record.name:
                found = await engine.inspect(entry["Id"])
                if found["State"]["Status"] == "created" and not found["State"]["Error"]:
                    await engine.remove(entry["Id"])  # its start was cut short
                    continue
                record.previous, record.current = record.current, found
        for found in filter(None, (record.previous, record.current)):
            correct_oom(found)
        if record.current is not None:
            known = reported.get(f"docker://{record.current['Id']}", {})
            record.ready, record.started = bool(known.get("ready")), bool(known.get("started"))


async def _discard(engine: Engine, container: str) -> None:
    try:
        await engine.remove(container)
    except EngineError as error:
        # A dead one that the engine cannot remove is no reason not to start; the next start tries again.
        logger.warning("container %s stays: %s", container, error.message)


def _network_of(entry: Obj) -> str:
    """The holder whose network a container of the engine's list is in."""
    return str(entry["HostConfig"]["NetworkMode"]).removeprefix("container:")
