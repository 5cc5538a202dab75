"""What a request asks for: its target, its options, its body, and the form of the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from devloop_sandbox.api import protobuf, tables
from devloop_sandbox.objects import errors, selectors
from devloop_sandbox.objects.resources import RESOURCES, Obj, Resource
from devloop_sandbox.objects.selectors import Test

_BY_PATH = {(r.group, r.version, r.plural): r for r in RESOURCES}
_JSON_TYPES = ("application/json", "application/yaml", protobuf.MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class Target:
    """`/apis/apps/v1/namespaces/x/deployments/y/scale`; name and subresource may be ""."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


def target(path: str) -> Target:
    """The target of a path, or 404."""
    match path.strip("/").split("/"):
        case ["api", "v1", *rest]:
            group, version = "", "v1"
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise errors.no_such_path()
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and (group, version, rest[2]) in _BY_PATH:
        namespace, rest = rest[1], rest[2:]
    resource = _BY_PATH.get((group, version, rest[0] if rest else ""))
    if resource is None or len(rest) > 3:
        raise errors.no_such_path()
    name, part = (*rest[1:], "", "")[:2]
    if (part and part not in resource.subresources) or (resource.namespaced and name and not namespace):
        raise errors.no_such_path()
    if namespace and not resource.namespaced:
        raise errors.no_such_path()
    return Target(resource, namespace, name, part)


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


def number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise errors.bad_request(f'invalid value for {name}: "{text}"') from None


def version(request: web.Request) -> int | None:
    """The query's resourceVersion; None for unset and 0, which both mean "whatever is there"."""
    text = request.query.get("resourceVersion", "")
    if text and not text.isdigit():
        raise errors.bad_request(f'Invalid value: "{text}": resource version must be a number')
    return int(text or 0) or None


def test(request: web.Request, where: Target) -> Test | None:
    """Both selectors of the query and, in a list or watch of one name, that name."""
    labels = selectors.label_selector(request.query.get("labelSelector", ""))
    fields = selectors.field_selector(where.resource, request.query.get("fieldSelector", ""))
    if labels is None or fields is None:
        return labels or fields
    return lambda obj: labels(obj) and fields(obj)


_OPTIONS = {
    "POST": "CreateOptions",
    "PUT": "UpdateOptions",
    "PATCH": "PatchOptions",
    "DELETE": "DeleteOptions",
}


def refuse_option(request: web.Request, name: str, reason: str, text: str) -> errors.ApiError:
    error = errors.FieldError(name, f"FieldValue{reason}", text)
    return errors.invalid_options(_OPTIONS.get(request.method, "ListOptions"), error)


def dry_run(request: web.Request, body: Obj | None = None) -> bool:
    """Whether nothing may be stored; asked for in the query or, by a delete, in the body."""
    asked = [*request.query.getall("dryRun", []), *((body or {}).get("dryRun") or [])]
    for value in asked:
        if value != "All":
            text = f'Unsupported value: "{value}": supported values: "All"'
            raise refuse_option(request, "dryRun", "NotSupported", text)
    return bool(asked)


def manager(request: web.Request) -> str:
    """The field manager: named, or the first word of the user agent; 422 for a bad name."""
    named = request.query.get("fieldManager", "")
    if len(named) > 128:
        raise refuse_option(request, "fieldManager", "TooLong", "Too long: may not be more than 128 bytes")
    if not named.isprintable():
        why = "should only contain printable characters"
        raise refuse_option(request, "fieldManager", "Invalid", f"Invalid value: {json.dumps(named)}: {why}")
    agent = request.headers.get("User-Agent", "unknown").split("/")[0].split(" ")[0]
    return named or agent


class Doubled(dict[str, Any]):
    """A JSON object in which these keys stood twice; the last value won."""

    keys_twice: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = Doubled(found)
    names = [name for name, _ in pairs]
    doubled.keys_twice = tuple(name for name in found if names.count(name) > 1)
    return doubled


async def body(request: web.Request) -> Any:
    """JSON, YAML or (Secrets, DeleteOptions) protobuf; None if empty; 400 and 415 for the rest."""
    raw = await request.read()
    if not raw:
        return None
    try:
        if request.content_type == protobuf.MEDIA_TYPE:
            return protobuf.decode(raw)
        if "yaml" in request.content_type:
            return yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if request.content_type in ("application/json", "application/octet-stream") or (
            "json" in request.content_type
        ):
            return json.loads(raw, object_pairs_hook=_pairs)
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"the body could not be decoded: {error}") from error
    raise errors.unsupported_media_type(request.content_type, ", ".join(_JSON_TYPES))


def as_json(document: Obj, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    answer = web.Response(body=raw, status=status, content_type="application/json")
    for text in warnings or []:
        answer.headers.add("Warning", f'299 - "{text.replace(chr(34), chr(92) + chr(34))}"')
    return answer


def wants(request: web.Request) -> str:
    """The first form in Accept that is served: "Table", "PartialObjectMetadata" or "" (the object)."""
    for offer in request.headers.get("Accept", "").split(","):
        parts = dict(part.strip().partition("=")[::2] for part in offer.split(";"))
        if "application/json" in parts and parts.get("v", "v1") == "v1":
            form = parts.get("as", "")
            if form in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList", ""):
                return form.removesuffix("List")
    return ""


def one(request: web.Request, where: Target, obj: Obj) -> Obj:
    """One object in the form the client wants."""
    form = wants(request)
    if form == "Table":
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return tables.table(where.resource, [obj], meta, include=_include(request))
    return tables.partial(obj) if form else obj


def many(request: web.Request, where: Target, objects: list[Obj], meta: Obj) -> Obj:
    """A list in the form the client wants. Items of a list carry no kind, as on a real server."""
    form = wants(request)
    if form == "Table":
        return tables.table(where.resource, objects, meta, include=_include(request))
    if form:
        kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return kind | {"metadata": meta, "items": [tables.partial(obj) for obj in objects]}
    bare = [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in objects]
    kind = {"kind": where.resource.kind + "List", "apiVersion": where.resource.api_version}
    return kind | {"metadata": meta, "items": bare}


def _include(request: web.Request) -> str:
    return request.query.get("includeObject", "Metadata")


class RowView:
    """A watch's objects as tables: the columns are sent once."""

    def __init__(self, request: web.Request, where: Target) -> None:
        self._include, self._where, self._header = _include(request), where, True

    def __call__(self, obj: Obj) -> Obj:
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        first, self._header = self._header, False
        return tables.table(self._where.resource, [obj], meta, include=self._include, header=first)
