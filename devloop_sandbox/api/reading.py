"""get, list and watch."""

from __future__ import annotations

import base64
import json

from aiohttp import web

from devloop_sandbox.api import negotiation, tables
from devloop_sandbox.api.negotiation import Target, as_json
from devloop_sandbox.api.watch import View, Watch
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store


def one(store: Store, request: web.Request, where: Target) -> web.Response:
    found = store.get(where.resource.plural, where.namespace, where.name)
    return as_json(negotiation.one(request, where, found))


def list_of(store: Store, request: web.Request, where: Target) -> web.Response:
    test = negotiation.test(request, where)
    found = store.list(where.resource.plural, where.namespace, test)
    meta: Obj = {"resourceVersion": str(store.resource_version)}
    limit, token = negotiation.number(request, "limit"), request.query.get("continue", "")
    if token:
        meta["resourceVersion"], start = _resume(token)
        found = _as_of(store, found, where, int(meta["resourceVersion"]))
        found = [obj for obj in found if _place(obj) > start and (test is None or test(obj))]
    if limit and len(found) > limit:
        rest, found = len(found) - limit, found[:limit]
        mark = [meta["resourceVersion"], *_place(found[-1])]
        meta["continue"] = base64.urlsafe_b64encode(json.dumps(mark).encode()).decode()
        if test is None:
            meta["remainingItemCount"] = rest
    return as_json(negotiation.many(request, where, found, meta))


def _as_of(store: Store, found: list[Obj], where: Target, version: int) -> list[Obj]:
    """The same list at an earlier version: later pages belong to the first. 410 if that is forgotten."""
    then = {tuple(_place(obj)): obj for obj in found}
    for event in reversed(store.since(version)):
        place = tuple(_place(event.obj))
        if event.resource != where.resource.plural or where.namespace not in ("", place[0]):
            continue
        then.pop(place, None)
        if event.old is not None:
            then[place] = event.old
    return [then[place] for place in sorted(then)]


def _place(obj: Obj) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _resume(token: str) -> tuple[str, list[str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return str(int(version)), [str(namespace), str(name)]
    except (ValueError, TypeError) as error:
        raise errors.bad_request("continue key is not valid") from error


async def watch(store: Store, request: web.Request, where: Target) -> web.StreamResponse:
    test = negotiation.test(request, where)
    if where.name:
        name, inner = where.name, test
        test = lambda obj: obj["metadata"]["name"] == name and (inner is None or inner(obj))  # noqa: E731
    form = negotiation.wants(request)
    view: View | None = None
    if form:
        view = negotiation.RowView(request, where) if form == "Table" else tables.partial
    initial = negotiation.flag(request, "sendInitialEvents")
    changes = Watch(
        resource=where.resource.plural,
        namespace=where.namespace,
        test=test,
        version=None if initial else negotiation.version(request),
        bookmarks=negotiation.flag(request, "allowWatchBookmarks"),
        initial_end=initial,
        timeout=negotiation.number(request, "timeoutSeconds"),
        view=view,
    )
    answer = web.StreamResponse(
        headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
    )
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    async for line in changes.lines(store):
        await answer.write(line)
    await answer.write_eof()
    return answer
