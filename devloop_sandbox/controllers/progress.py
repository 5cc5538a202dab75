"""A Deployment's status: its counters and its conditions, with the reasons that kubectl reads. Pure."""

from __future__ import annotations

from devloop_sandbox.controllers.owners import condition, seconds_since
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import now

_COUNTERS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def set_condition(status: Obj, kind: str, value: str, reason: str, message: str, since: str = "") -> None:
    """Add or replace; an equal status and reason changes nothing, an equal status keeps its time."""
    known: Obj = next((c for c in status.get("conditions") or [] if c["type"] == kind), {})
    if (known.get("status"), known.get("reason")) == (value, reason):
        return
    moment = now()
    kept = known.get("lastTransitionTime") if known.get("status") == value else None
    entry = {
        "type": kind,
        "status": value,
        "lastUpdateTime": moment,
        "lastTransitionTime": since or kept or moment,
        "reason": reason,
        "message": message,
    }
    drop_condition(status, kind)
    status["conditions"] = [*status.get("conditions", []), entry]


def drop_condition(status: Obj, kind: str) -> None:
    status["conditions"] = [c for c in status.get("conditions") or [] if c["type"] != kind]


def has_deadline(deployment: Obj) -> bool:
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != 2**31 - 1


def is_complete(deployment: Obj, status: Obj) -> bool:
    wanted = deployment["spec"]["replicas"]
    counts = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    return all(count == wanted for count in counts) and (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def counted(deployment: Obj, new: Obj | None, everything: list[Obj], unavailable: int) -> Obj:
    """Counters, observedGeneration and the Available condition, on the conditions that are there."""
    old = deployment.get("status", {})

    def total(name: str) -> int:
        return sum(one.get("status", {}).get(name, 0) for one in everything)

    replicas, available = total("replicas"), total("availableReplicas")
    updated = new.get("status", {}).get("replicas", 0) if new is not None else 0
    counts = (replicas, updated, total("readyReplicas"), available, max(0, replicas - available))
    status: Obj = {name: count for name, count in zip(_COUNTERS, counts, strict=True) if count}
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    status["conditions"] = list(old.get("conditions") or [])
    if available >= deployment["spec"]["replicas"] - unavailable:
        text = "Deployment has minimum availability."
        set_condition(status, "Available", "True", "MinimumReplicasAvailable", text)
    else:
        text = "Deployment does not have minimum availability."
        set_condition(status, "Available", "False", "MinimumReplicasUnavailable", text)
    return status


def judge(deployment: Obj, status: Obj, new: Obj | None, everything: list[Obj]) -> None:
    """Set Progressing and ReplicaFailure in `status` by what has moved since the stored one."""
    if has_deadline(deployment):
        _judge_progress(deployment, status, new)
    else:
        drop_condition(status, "Progressing")
    failures = [condition(one, "ReplicaFailure") for one in ([new] if new else []) + everything]
    failure = next((found for found in failures if found), None)
    if failure is not None:
        set_condition(status, "ReplicaFailure", "True", failure["reason"], failure["message"])
    else:
        drop_condition(status, "ReplicaFailure")


def _judge_progress(deployment: Obj, status: Obj, new: Obj | None) -> None:
    current = condition(deployment, "Progressing")
    done_before = current.get("reason") == "NewReplicaSetAvailable"
    if status.get("replicas", 0) == status.get("updatedReplicas", 0) and done_before:
        return
    meta = deployment["metadata"]
    what = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{meta["name"]}"'
    if is_complete(deployment, status):
        text = f"{what} has successfully progressed."
        set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", text)
    elif _moved(deployment.get("status", {}), status):
        since = current["lastTransitionTime"] if current.get("status") == "True" else ""
        drop_condition(status, "Progressing")
        text = f"{what} is progressing."
        set_condition(status, "Progressing", "True", "ReplicaSetUpdated", text, since)
    elif is_late(deployment):
        text = f"{what} has timed out progressing."
        set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", text)


def _moved(old: Obj, new: Obj) -> bool:
    def grew(name: str) -> bool:
        return bool(new.get(name, 0) > old.get(name, 0))

    def outdated(status: Obj) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    counters = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(map(grew, counters)) or outdated(new) < outdated(old)


def is_late(deployment: Obj) -> bool:
    """Nothing has moved for longer than progressDeadlineSeconds."""
    current = condition(deployment, "Progressing")
    if not current or current["reason"] == "NewReplicaSetAvailable":
        return False
    if current["reason"] == "ProgressDeadlineExceeded":
        return True
    deadline = deployment["spec"]["progressDeadlineSeconds"]
    return bool(seconds_since(current["lastUpdateTime"]) > deadline)


def look_again_after(deployment: Obj) -> float | None:
    """When the deadline will have passed if nothing moves; None if it is of no interest."""
    current = condition(deployment, "Progressing")
    settled = ("NewReplicaSetAvailable", "ProgressDeadlineExceeded")
    if not has_deadline(deployment) or not current or current["reason"] in settled:
        return None
    left = deployment["spec"]["progressDeadlineSeconds"] - seconds_since(current["lastUpdateTime"])
    return float(max(0.0, left) + 0.2)
