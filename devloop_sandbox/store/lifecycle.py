"""The rules of one object's life: what a write may change, what counts as a change, how it is deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, Resource

SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)


def now(later: int = 0) -> str:
    """The API's time: whole seconds, UTC; `later` seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_identity(kind: Resource, old: Obj, uid: str | None, version: str | None, prefix: str = "") -> None:
    """409 when the writer meant another incarnation or an older version of the object."""
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        raise errors.conflict(kind, meta["name"], why)
    if version and version != meta["resourceVersion"]:
        why = prefix and (
            f"{prefix}ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {meta['resourceVersion']}"
        )
        raise errors.conflict(kind, meta["name"], why)


def merged(kind: Resource, obj: Obj, old: Obj, subresource: str) -> Obj:
    """What the write may change, on top of what it may not."""
    fixed: Obj = {"apiVersion": kind.api_version, "kind": kind.kind}
    if subresource == "status":
        meta: Obj = {**old["metadata"]}
        for name in ("labels", "annotations", "managedFields", "finalizers"):
            if name in obj["metadata"]:
                meta[name] = obj["metadata"][name]
        return {**old, **fixed, "metadata": meta, "status": obj.get("status", {})}
    obj |= fixed
    if kind.has_status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = old["status"]
    for name in (*SERVER_OWNED, "selfLink"):
        obj["metadata"].pop(name, None)
        if name in old["metadata"]:
            obj["metadata"][name] = old["metadata"][name]
    return obj


def counted(obj: Obj) -> Obj:
    """Everything that counts for metadata.generation; that a pod is bound to a node does not."""
    kept = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    if obj.get("kind") == "Pod":
        kept["spec"] = {key: value for key, value in obj["spec"].items() if key != "nodeName"}
    return kept


def timeless(obj: Obj) -> Obj:
    """The object without the times of its field managers, which alone do not make a write."""
    meta: Obj = obj["metadata"]
    managers = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in meta.get("managedFields") or []
    ]
    return {**obj, "metadata": {**meta, "managedFields": managers}}


def held(obj: Obj) -> bool:
    """Finalizers keep an object; a namespace's own stand in its spec."""
    own = obj["kind"] == "Namespace" and obj.get("spec", {}).get("finalizers")
    return bool(obj["metadata"].get("finalizers") or own)


def set_propagation(meta: Obj, propagation: str) -> None:
    wanted = {"Foreground": ["foregroundDeletion"], "Orphan": ["orphan"]}.get(propagation, [])
    if not wanted and "deletionTimestamp" in meta:
        return  # a second, plain delete does not lift what the first one asked for
    ours = ("foregroundDeletion", "orphan")
    finalizers = [name for name in meta.get("finalizers", []) if name not in ours] + wanted
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


def grace_seconds(kind: Resource, obj: Obj, grace: int | None) -> int:
    """How long a pod on a node may take to stop; 0 for everything else."""
    if kind.plural != "pods" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    default: int = obj["spec"].get("terminationGracePeriodSeconds", 30)
    return default if grace is None else grace
