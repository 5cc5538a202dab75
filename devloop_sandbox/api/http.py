"""The HTTPS front: who may speak, what answers a request, and the form of a refusal."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from aiohttp import web

from devloop_sandbox.api import discovery, negotiation, openapi, reading, scale, streams, tunnels, writing
from devloop_sandbox.api.kubelet import Kubelet
from devloop_sandbox.api.negotiation import Target, as_json
from devloop_sandbox.api.writing import Cluster
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store

_OPEN_PATHS = ("/livez", "/readyz", "/healthz")
_STREAMS = {"log": streams.log, "exec": streams.execute, "portforward": streams.forward}
_NO_WEBSOCKET = "exec and port-forward need a WebSocket upgrade: kubectl 1.31 or newer, which asks for one"
_MAX_BODY = 3 * 1024 * 1024


class ApiServer:
    """Answers requests on `store`; `kubelet` is put in when the node has started."""

    def __init__(self, store: Store, token: str, warn: Callable[[Obj], list[str]]) -> None:
        self._store = store
        self._cluster = Cluster(store, warn)
        self._authorization = f"Bearer {token}".encode()
        self.kubelet: Kubelet | None = None
        self.port = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            self._admit(request)
            return await self._route(request)
        except ApiError as error:
            return as_json(error.status_object(), error.status)
        except web.HTTPException as error:  # aiohttp's own: a body that is too large, say
            refusal = ApiError(error.status, error.reason.replace(" ", ""), error.reason)
            return as_json(refusal.status_object(), error.status)

    def _admit(self, request: web.Request) -> None:
        """No page of a browser (DNS rebinding, foreign origin), no stranger without the token."""
        own = (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        if request.headers.get("Host", "") not in own:
            raise ApiError(403, "Forbidden", "the Host header is not this server's address")
        origin = request.headers.get("Origin")
        if origin is not None and origin.removeprefix("https://") not in own:
            raise ApiError(403, "Forbidden", "requests from web pages are refused")
        if request.path in _OPEN_PATHS:
            return
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not secrets.compare_digest(given, self._authorization):
            raise errors.unauthorized()

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in _OPEN_PATHS:
            started = self.kubelet is None or self.kubelet.started
            if path == "/livez" or (started and self._store.list("nodes")):
                return web.Response(text="ok")
            return web.Response(text="the node has not started yet", status=503)
        if path == "/openapi/v2":
            return web.Response(body=openapi.V2, content_type=openapi.V2_TYPE)
        document = discovery.answer(path) if request.method == "GET" else None
        if document is not None:
            return as_json(document)
        if request.method == "POST" and discovery.is_review(path):
            return as_json(discovery.review(await negotiation.body(request) or {}), 201)
        where = negotiation.target(path)
        if not where.name:
            return await _on_collection(self._cluster, request, where)
        if where.subresource == "scale":
            return await scale.answer(self._store, request, where)
        if where.subresource in _STREAMS:
            return await self._stream(request, where)
        return await _on_item(self._cluster, request, where)

    async def _stream(self, request: web.Request, where: Target) -> web.StreamResponse:
        if self.kubelet is None:
            raise ApiError(503, "ServiceUnavailable", "the node is not running")
        handler = _STREAMS[where.subresource]
        if where.subresource != "log":
            if request.headers.get("Upgrade", "").lower() != "websocket":
                raise errors.bad_request(_NO_WEBSOCKET)
            if tunnels.is_asked_for(request):
                handler = tunnels.forward
        return await handler(self._store, self.kubelet, request, where)


async def _on_collection(cluster: Cluster, request: web.Request, where: Target) -> web.StreamResponse:
    """A request without a name."""
    match request.method:
        case "GET" if negotiation.flag(request, "watch"):
            return await reading.watch(cluster.store, request, where)
        case "GET":
            return reading.list_of(cluster.store, request, where)
        case "POST" if where.namespace or not where.resource.namespaced:
            return await writing.create(cluster, request, where)
    raise errors.method_not_allowed()


async def _on_item(cluster: Cluster, request: web.Request, where: Target) -> web.StreamResponse:
    """A request on one named object, or its status."""
    match request.method:
        case "GET" if negotiation.flag(request, "watch"):
            return await reading.watch(cluster.store, request, where)
        case "GET":
            return reading.one(cluster.store, request, where)
        case "PUT":
            return await writing.update(cluster, request, where)
        case "PATCH":
            return await writing.patch(cluster, request, where)
        case "DELETE" if not where.subresource:
            return await writing.delete(cluster, request, where)
    raise errors.method_not_allowed()
