"""Who controls what: ownerReferences, adoption by selector, pods from a template."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import BY_KIND, Obj, clone
from devloop_sandbox.objects.selectors import matches
from devloop_sandbox.store.store import Store


def controller_of(obj: Obj) -> Obj | None:
    """The reference to the one owner that manages it."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def controller_key(obj: Obj, kind: str) -> tuple[str, str] | None:
    """(namespace, name) of its controller if that is of `kind`."""
    reference = controller_of(obj)
    if reference is None or reference["kind"] != kind:
        return None
    return obj["metadata"].get("namespace", ""), reference["name"]


def reference_to(owner: Obj) -> Obj:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owner_exists(store: Store, reference: Obj, namespace: str) -> bool:
    resource = BY_KIND.get((reference["apiVersion"], reference["kind"]))
    if resource is None:
        return True  # a kind the sandbox does not serve is nobody's garbage
    found = store.find(resource.plural, namespace if resource.namespaced else "", reference["name"])
    return found is not None and found["metadata"]["uid"] == reference["uid"]


def claimed(store: Store, resource: str, owner: Obj) -> list[Obj]:
    """The owner's objects of a kind; matching ones without a controller are adopted, others let go."""
    meta, mine = owner["metadata"], []
    for obj in store.list(resource, meta["namespace"]):
        reference = controller_of(obj)
        fits = matches(owner["spec"]["selector"], obj["metadata"].get("labels") or {})
        if reference is None:
            free = fits and "deletionTimestamp" not in obj["metadata"] and "deletionTimestamp" not in meta
            if free:
                mine.append(_adopt(store, resource, obj, owner))
        elif reference["uid"] == meta["uid"]:
            if fits:
                mine.append(obj)
            elif "deletionTimestamp" not in meta:
                _release(store, resource, obj, meta["uid"])
    return mine


def _adopt(store: Store, resource: str, obj: Obj, owner: Obj) -> Obj:
    def change(copy: Obj) -> None:
        copy["metadata"].setdefault("ownerReferences", []).append(reference_to(owner))

    return store.mutate(resource, obj["metadata"]["namespace"], obj["metadata"]["name"], change)


def _release(store: Store, resource: str, obj: Obj, uid: str) -> None:
    def change(copy: Obj) -> None:
        left = [entry for entry in copy["metadata"]["ownerReferences"] if entry["uid"] != uid]
        copy["metadata"]["ownerReferences"] = left

    store.mutate(resource, obj["metadata"]["namespace"], obj["metadata"]["name"], change)


def pod_from(owner: Obj, template: Obj, name: str = "") -> Obj:
    """A pod object of the owner's template; without `name` one is generated."""
    meta = clone(template.get("metadata") or {})
    meta = {key: meta[key] for key in ("labels", "annotations", "finalizers") if key in meta}
    meta |= {"namespace": owner["metadata"]["namespace"], "ownerReferences": [reference_to(owner)]}
    meta |= {"name": name} if name else {"generateName": f"{owner['metadata']['name']}-"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": clone(template["spec"])}


def is_active(pod: Obj) -> bool:
    """Neither over nor on its way out."""
    phase = pod.get("status", {}).get("phase")
    return phase not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def condition(obj: Obj, kind: str) -> Obj:
    """The status condition, {} if there is none."""
    found = obj.get("status", {}).get("conditions") or []
    return next((entry for entry in found if entry["type"] == kind), {})


def is_ready(pod: Obj) -> bool:
    return bool(condition(pod, "Ready").get("status") == "True")


def seconds_since(moment: str) -> float:
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (datetime.now(UTC) - then).total_seconds()


def until_available(pod: Obj, min_ready_seconds: int) -> float | None:
    """0 when available, the seconds until it will be, None while it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_seconds:
        return 0.0
    return max(0.0, min_ready_seconds - seconds_since(condition(pod, "Ready")["lastTransitionTime"]))


def delete_quietly(store: Store, resource: str, obj: Obj) -> bool:
    """Delete this very object; False if it has gone or been replaced."""
    meta = obj["metadata"]
    try:
        store.delete(resource, meta.get("namespace", ""), meta["name"], uid=meta["uid"])
    except ApiError as error:
        if error.status in (404, 409):
            return False
        raise
    return True


def ordinal(name: str) -> int:
    """The number at the end of a StatefulSet's pod name, -1 if there is none."""
    found = re.search(r"-(\d+)$", name)
    return int(found[1]) if found else -1
