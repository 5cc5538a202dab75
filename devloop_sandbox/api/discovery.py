"""What the server says of itself: versions, groups, resources, and the OpenAPI that clients insist on."""

from __future__ import annotations

from typing import Any

from devloop_sandbox.api import openapi
from devloop_sandbox.objects.resources import GROUPS, RESOURCES, Obj, Resource

VERSION: Obj = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+devloop-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-11-22T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "devloop/sandbox",
}
_REVIEWS = {
    "authorization.k8s.io": ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    "authentication.k8s.io": ("selfsubjectreviews", "SelfSubjectReview"),
}
_SUB_VERBS = {
    "log": ["get"],
    "exec": ["create", "get"],
    "portforward": ["create", "get"],
}


def answer(path: str) -> Obj | None:
    """The document at `path` (no trailing slash), or None if it is no discovery path."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in _named()]}
        case ["api", "v1"]:
            return _resource_list("")
        case ["apis", group] if group in _named():
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}
        case ["apis", group, "v1"] if group in _named():
            return _resource_list(group)
        case ["openapi", *_]:
            return openapi.answer(path.strip("/"))
        case _:
            return None


def _named() -> list[str]:
    return [group for group in GROUPS if group] + list(_REVIEWS)


def _group(group: str) -> Obj:
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> Obj:
    rows: list[Obj] = []
    for resource in RESOURCES:
        if resource.group == group:
            rows.append(_row(resource))
            rows += [_part(resource, part) for part in resource.subresources]
    if group in _REVIEWS:
        plural, kind = _REVIEWS[group]
        rows.append(
            {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind}
            | {"verbs": ["create"]}
        )
    version = f"{group}/v1" if group else "v1"
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": rows,
    }


def _row(resource: Resource) -> Obj:
    row: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short:
        row["shortNames"] = list(resource.short)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


def _part(resource: Resource, part: str) -> Obj:
    row: dict[str, Any] = {
        "name": f"{resource.plural}/{part}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _SUB_VERBS.get(part, ["get", "patch", "update"]),
    }
    if part == "scale":
        row |= {"kind": "Scale", "group": "autoscaling", "version": "v1"}
    return row


def is_review(path: str) -> bool:
    """Whether a POST here asks what the client may do or who it is."""
    return any(path == f"/apis/{group}/v1/{row[0]}" for group, row in _REVIEWS.items())


def review(body: Obj) -> Obj:
    """The one user of a sandbox may do everything."""
    if body.get("kind") == "SelfSubjectReview":
        user = {"username": "devloop-sandbox", "groups": ["system:masters", "system:authenticated"]}
        return body | {"status": {"userInfo": user}}
    return body | {"status": {"allowed": True}}
