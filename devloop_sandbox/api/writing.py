"""create, update, patch, apply and delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from devloop_sandbox.admission import defaults
from devloop_sandbox.api import decoding, negotiation
from devloop_sandbox.api.negotiation import Target, as_json
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.objects.schema import root
from devloop_sandbox.patching import apply, ownership, patches
from devloop_sandbox.store.store import Store

_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_RETURNS_OBJECT = ("pods", "services", "serviceaccounts", "namespaces")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the verbs work on; `warn` names what of an object will have no effect."""

    store: Store
    warn: Callable[[Obj], list[str]]


def _checked(request: web.Request, where: Target, body: Any) -> tuple[Obj, list[str]]:
    """The decoded body with its namespace, and the warnings for fields that are not known."""
    kind = where.resource
    if body is None:
        raise errors.bad_request("the request body is empty")
    obj, unknown = decoding.decode(kind, body)
    given = (obj.get("apiVersion", kind.api_version), obj.get("kind", kind.kind))
    if given != (kind.api_version, kind.kind):
        raise errors.bad_request(
            f"{given[0]}, Kind={given[1]} in the body does not match {kind.api_version}, Kind={kind.kind}"
        )
    meta = obj.setdefault("metadata", {})
    if kind.namespaced and meta.setdefault("namespace", where.namespace) != where.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    mode = request.query.get("fieldValidation", "Warn")
    if unknown and mode == "Strict":
        if request.method == "PATCH" and request.content_type != "application/apply-patch+yaml":
            text = f"Invalid value: strict decoding error: {', '.join(unknown)}"
            raise errors.invalid(kind, where.name, [errors.FieldError("patch", "FieldValueInvalid", text)])
        raise decoding.strict(kind, unknown)
    return obj, unknown if mode == "Warn" else []


async def create(cluster: Cluster, request: web.Request, where: Target) -> web.Response:
    obj, warnings = _checked(request, where, await negotiation.body(request))
    obj["metadata"].pop("managedFields", None)
    defaults.fill(where.resource, obj)
    ownership.note_update(where.resource, obj, None, negotiation.manager(request))
    made = cluster.store.create(where.resource.plural, obj, dry_run=negotiation.dry_run(request), owned=True)
    return as_json(negotiation.one(request, where, made), 201, warnings + cluster.warn(made))


async def update(cluster: Cluster, request: web.Request, where: Target) -> web.Response:
    obj, warnings = _checked(request, where, await negotiation.body(request))
    old = cluster.store.get(where.resource.plural, where.namespace, where.name)
    return _write(cluster, request, where, obj, old, warnings)


def _write(
    cluster: Cluster, request: web.Request, where: Target, obj: Obj, old: Obj, warnings: list[str]
) -> web.Response:
    if obj["metadata"].get("name") != where.name:
        name = obj["metadata"].get("name", "")
        raise errors.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({where.name})"
        )
    if where.resource.plural == "namespaces":
        obj["spec"] = old.get("spec", {})  # its finalizers are the controller's
    defaults.fill(where.resource, obj)
    if obj["metadata"].get("managedFields") == [{}]:
        obj["metadata"]["managedFields"] = []
    else:
        ownership.note_update(where.resource, obj, old, negotiation.manager(request), where.subresource)
    made = cluster.store.update(
        where.resource.plural,
        obj,
        subresource=where.subresource,
        dry_run=negotiation.dry_run(request),
        owned=True,
    )
    return as_json(negotiation.one(request, where, made), 200, warnings + cluster.warn(made))


async def patch(cluster: Cluster, request: web.Request, where: Target) -> web.Response:
    kind, body = where.resource, await negotiation.body(request)
    if request.content_type == "application/apply-patch+yaml":
        return _apply(cluster, request, where, body)
    if "force" in request.query:
        why = "Forbidden: may not be specified for non-apply patch"
        raise negotiation.refuse_option(request, "force", "Forbidden", why)
    recipes: dict[str, Callable[[Obj, Any], Any]] = {
        "application/json-patch+json": patches.json_patch,
        "application/merge-patch+json": patches.merge_patch,
        "application/strategic-merge-patch+json": lambda o, p: patches.strategic_merge(root(kind), o, p),
    }
    recipe = recipes.get(request.content_type)
    if recipe is None:
        raise errors.unsupported_media_type(request.content_type, ", ".join(_PATCH_TYPES))
    old = cluster.store.get(kind.plural, where.namespace, where.name)
    if request.content_type != "application/json-patch+json" and not isinstance(body, dict):
        raise errors.bad_request("the patch is no object")
    obj, warnings = _checked(request, where, clone(recipe(old, body)))
    return _write(cluster, request, where, obj, old, warnings)


def _apply(cluster: Cluster, request: web.Request, where: Target, body: Any) -> web.Response:
    kind, named = where.resource, negotiation.manager(request)
    if not request.query.get("fieldManager"):
        why = "Required value: is required for apply patch"
        raise negotiation.refuse_option(request, "fieldManager", "Required", why)
    config, warnings = _checked(request, where, body)
    if config["metadata"].pop("managedFields", None):
        raise errors.bad_request("metadata.managedFields must be nil")
    config["metadata"].setdefault("name", where.name)
    live = cluster.store.find(kind.plural, where.namespace, where.name)
    force, dry_run = negotiation.flag(request, "force"), negotiation.dry_run(request)
    merged = apply.apply(kind, live, config, named, force=force, part=where.subresource)
    if live is None:
        made = cluster.store.create(kind.plural, merged, dry_run=dry_run, owned=True)
        return as_json(negotiation.one(request, where, made), 201, warnings + cluster.warn(made))
    made = cluster.store.update(
        kind.plural, merged, subresource=where.subresource, dry_run=dry_run, owned=True
    )
    return as_json(negotiation.one(request, where, made), 200, warnings + cluster.warn(made))


async def delete(cluster: Cluster, request: web.Request, where: Target) -> web.Response:
    options = await negotiation.body(request) or {}
    known = cluster.store.get(where.resource.plural, where.namespace, where.name)
    gone = _delete_one(cluster, request, where, known, options)
    kind = where.resource
    if kind.plural in _RETURNS_OBJECT or cluster.store.find(kind.plural, where.namespace, where.name):
        return as_json(negotiation.one(request, where, gone))
    details = {"name": where.name, "kind": kind.plural, "uid": known["metadata"]["uid"]}
    if kind.group:
        details["group"] = kind.group
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return as_json(status | {"details": details})


def _delete_one(cluster: Cluster, request: web.Request, where: Target, obj: Obj, options: Obj) -> Obj:
    query = request.query
    policy = options.get("propagationPolicy") or query.get("propagationPolicy", "Background")
    orphan = options.get("orphanDependents", query.get("orphanDependents"))
    if orphan is not None and str(orphan).lower() == "true":
        policy = "Orphan"
    if policy not in ("Background", "Foreground", "Orphan"):
        choice = '"Background", "Foreground", "Orphan"'
        why = f'Unsupported value: "{policy}": supported values: {choice}, "nil"'
        raise negotiation.refuse_option(request, "propagationPolicy", "NotSupported", why)
    grace = options.get("gracePeriodSeconds")
    known = options.get("preconditions") or {}
    return cluster.store.delete(
        where.resource.plural,
        where.namespace,
        obj["metadata"]["name"],
        grace=negotiation.number(request, "gracePeriodSeconds") if grace is None else int(grace),
        propagation=policy,
        uid=known.get("uid"),
        version=known.get("resourceVersion"),
        dry_run=negotiation.dry_run(request, options),
    )
