"""The scale subresource: a workload's replicas seen as an autoscaling/v1 Scale."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from devloop_sandbox.api import negotiation
from devloop_sandbox.api.negotiation import Target, as_json
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.patching import ownership, patches
from devloop_sandbox.store.store import Store


async def answer(store: Store, request: web.Request, where: Target) -> web.Response:
    """GET, PUT and PATCH of `…/scale`."""
    kind = where.resource
    old = store.get(kind.plural, where.namespace, where.name)
    if request.method == "GET":
        return as_json(_view(old))
    body: Any = await negotiation.body(request)
    if request.method == "PATCH" and request.content_type == "application/json-patch+json":
        scale = patches.json_patch(_view(old), body)
    elif request.method == "PATCH":
        scale = patches.merge_patch(_view(old), body)
    elif request.method == "PUT":
        scale = body
    else:
        raise errors.method_not_allowed()
    wanted = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(wanted, int) or wanted < 0:
        text = f"Invalid value: {wanted}: must be greater than or equal to 0"
        error = errors.FieldError("spec.replicas", "FieldValueInvalid", text)
        raise errors.invalid(kind, where.name, [error])
    obj: Obj = clone(old)
    obj["spec"]["replicas"] = wanted
    version = (scale.get("metadata") or {}).get("resourceVersion")
    if version:
        obj["metadata"]["resourceVersion"] = version
    ownership.note_update(kind, obj, old, negotiation.manager(request), "scale")
    return as_json(_view(store.update(kind.plural, obj, dry_run=negotiation.dry_run(request), owned=True)))


def _view(obj: Obj) -> Obj:
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = obj["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }
