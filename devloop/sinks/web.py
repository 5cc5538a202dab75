"""/metrics, /healthz and /api/status on metrics.listen: starlette on uvicorn, inside our own loop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from devloop.errors import PlatformError
from devloop.local_ports import IN_USE, listen

PORTS = 100  # how many are tried after one that is in use
# Names that containers on this machine know it by; nobody can register them.
OWN_NAMES = frozenset({"localhost", "host.docker.internal", "host.minikube.internal"})


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PlatformError that names who holds the port already."""
    other = f'set another port in config.yaml: metrics: {{listen: "{host}:{port + 1}"}}'
    return listen(
        host,
        port,
        "the metrics cannot be served there",
        (
            f"stop it, or {other}",
            'write an address of this machine in config.yaml: metrics: {listen: "127.0.0.1:9100"}',
        ),
    )


def listener_near(host: str, port: int) -> socket.socket:
    """A listening socket on this port, or on the next one that is free. Raises PlatformError."""
    try:
        return open_listener(host, port)
    except PlatformError as error:
        if error.reason != IN_USE:
            raise
        for other in range(port + 1, min(port + PORTS, 65535) + 1):
            with suppress(PlatformError):
                return open_listener(host, other)
        raise


class Web:
    """Serves until cancelled, then closes at once, requests in flight included."""

    def __init__(
        self,
        listener: socket.socket,
        host: str,
        metrics: Callable[[], bytes],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._listener = listener
        own, self.port = self._address = listener.getsockname()[:2]
        self.url = f"http://[{own}]:{self.port}" if ":" in own else f"http://{own}:{self.port}"
        self._metrics, self._status = metrics, status
        routes = [
            Route("/metrics", self._serve_metrics),
            Route("/healthz", self._serve_health),
            Route("/api/status", self._serve_status),
        ]
        self._app = HostCheck(Starlette(routes=routes), host)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        if self._listener.fileno() < 0:  # it is started again, after a fault
            self._listener = open_listener(*self._address)
        config = uvicorn.Config(
            self._app,
            http=ClosingProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            date_header=False,
        )
        config.load()
        # Not `serve()`: that takes the signals, wakes ten times a second, and is slow to close.
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[self._listener])
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            for listening in server.servers:
                listening.close()
            for connection in tuple(server.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            for task in tuple(server.server_state.tasks):
                task.cancel()
            self._listener.close()

    async def _serve_metrics(self, _: Request) -> Response:
        from devloop.sinks.metrics import CONTENT_TYPE

        return Response(self._metrics(), headers={"content-type": CONTENT_TYPE})

    async def _serve_health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _serve_status(self, _: Request) -> Response:
        return JSONResponse(self._status())


class ClosingProtocol(H11Protocol):
    """Closes the connection on what is no HTTP: the answer that uvicorn would give to a broken HEAD has a
    body, which h11 refuses to send."""

    def send_400_response(self, msg: str) -> None:
        self.transport.close()


class HostCheck:
    """Refuses requests whose Host is a name that somebody else could own: DNS rebinding (S30)."""

    def __init__(self, app: ASGIApp, own_name: str) -> None:
        self._app = app
        self._names = OWN_NAMES | {own_name.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and (len(hosts) != 1 or not self._is_own(hosts[0].decode("latin-1"))):
            text = "devloop answers under its address, not under this Host\n"
            await PlainTextResponse(text, 421)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        name = _without_port(host).lower().rstrip(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host
