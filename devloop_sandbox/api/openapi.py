"""The OpenAPI v3 documents that kubectl asks before `diff` and a dry run: which PATCH takes which option.

They hold no schemas: kubectl then leaves validation to the server.
"""

from __future__ import annotations

from functools import cache

from devloop_sandbox.objects.resources import RESOURCES, Obj, Resource

# kubectl asks the older document for kinds that it does not find: one of version 2.0 that names nothing.
V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2 = b"\x0a\x032.0"
_OPTIONS = ("dryRun", "fieldManager", "fieldValidation", "force")


def answer(path: str) -> Obj | None:
    """The index at `openapi/v3`, the document of one group version below it, or None."""
    if path == "openapi/v3":
        urls = {where: {"serverRelativeURL": f"/openapi/v3/{where}"} for where in _documents()}
        return {"paths": urls}
    return _documents().get(path.removeprefix("openapi/v3/"))


@cache
def _documents() -> dict[str, Obj]:
    """`apis/apps/v1` -> what can be patched there."""
    found: dict[str, Obj] = {}
    for resource in RESOURCES:
        info = {"title": "Kubernetes", "version": resource.version}
        empty: Obj = {"openapi": "3.0.0", "info": info, "paths": {}, "components": {"schemas": {}}}
        root = f"apis/{resource.api_version}" if resource.group else "api/v1"
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        paths = found.setdefault(root, empty)["paths"]
        paths[f"/{root}{scope}/{resource.plural}/{{name}}"] = {"patch": _operation(resource)}
    return found


def _operation(resource: Resource) -> Obj:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _OPTIONS]
    return {"parameters": parameters, "responses": {}, "x-kubernetes-group-version-kind": kind}
