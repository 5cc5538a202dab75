"""A lean JSON client for one API server: warm connections, time-outs, errors in devloop's own words.

It knows paths and bodies, no kinds. docs/adr tells why it is not the generated client.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
import anyio

from devloop import __version__
from devloop.adapters.kubernetes.api.access import Access
from devloop.adapters.kubernetes.api.answers import (
    UNAUTHORIZED,
    ApiRefusedError,
    ApiUnreachableError,
    Json,
    Translated,
    decoded,
    problem_of,
)
from devloop.adapters.kubernetes.api.sockets import open_socket

Params = Mapping[str, str]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 10.0
CLOSE_SECONDS = 0.25  # that a server may take to agree to the end of a WebSocket
WebSocket: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"


class RedirectedError(aiohttp.ClientError):
    """aiohttp has no other way not to follow the redirect of a WebSocket's request (S29)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"redirected by {status}")
        self.status = status


async def _refuse_redirect(_: object, __: object, params: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectedError(params.response.status)


class Client:
    """Requests to the API server of one context; `renew` reads the kubeconfig again (S13).

    `async with Client(open)`: entering opens no connection, but raises what `open` raises.
    """

    def __init__(self, open_access: Callable[[Access | None], Awaitable[Access]]) -> None:
        self._open = open_access
        self._lock = anyio.Lock()
        self.access: Access

    async def __aenter__(self) -> Self:
        self.access = await self._open(None)
        traces = aiohttp.TraceConfig()
        traces.on_request_redirect.append(_refuse_redirect)
        self._session = aiohttp.ClientSession(
            trace_configs=[traces],
            # kube-apiserver closes an idle connection after 90 s, the sandbox after 75: be the first to.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, socket_factory=open_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json, */*",  # logs are text
                "Accept-Encoding": "identity",
                "User-Agent": f"devloop/{__version__}",
            },
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def renew(self, stale: Access, *, log_in: bool = False) -> bool:
        """Read the kubeconfig again unless somebody did since `stale`; True if anything is different now.

        `log_in` asks a credential plugin again even if its last answer should still be good.
        Raises ConfigError (context gone, no longer local), PlatformError (plugin).
        """
        async with self._lock:
            if self.access is stale:
                self.access = await self._open(None if log_in else stale)
            return self.access != stale

    async def get(self, path: str, params: Params | None = None) -> Json:
        return await self.request("GET", path, params=params)

    async def find(self, path: str) -> Json | None:
        """As `get`, None where there is no such object."""
        try:
            return await self.get(path)
        except ApiRefusedError as error:
            if error.status == 404:
                return None
            raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> Json:
        """The JSON object of the answer. Raises ApiRefusedError (4xx), ApiUnreachableError (all else)."""
        _, data = await self.exchange(
            method, path, params=params, body=body, content_type=content_type, seconds=seconds
        )
        return data

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> tuple[int, Json]:
        """As `request`, with the HTTP code before the object."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        async with self._respond(method, path, params, data, headers, timeout) as response:
            with self._translate(method, path):
                text = await response.read()
        return response.status, decoded(text, method, path)

    @asynccontextmanager
    async def lines(
        self, path: str, params: Params, *, silence: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A streamed answer, line by line; `silence` seconds without a byte end it as ApiUnreachableError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        async with self._respond("GET", path, params, None, {}, timeout) as response:
            yield self._split(response, path)

    async def websocket(self, path: str, params: Params, protocol: str) -> WebSocket:
        """A WebSocket of this subprotocol; whoever gets it closes it.

        Raises ApiRefusedError (4xx), ApiUnreachableError (all else).
        """
        if self.access.expired:
            await self.renew(self.access)
        access = self.access
        try:
            return await self._upgrade(access, path, params, protocol)
        except ApiUnreachableError as error:
            expired = error.reason == UNAUTHORIZED and await self._relogin(access)
            if not expired and (error.sent or not await self.renew(access)):
                raise
        return await self._upgrade(self.access, path, params, protocol)

    async def _upgrade(self, access: Access, path: str, params: Params, protocol: str) -> WebSocket:
        with self._translate("GET", path):
            try:
                with anyio.fail_after(REQUEST_SECONDS):
                    return await self._session.ws_connect(
                        access.server + path,
                        params=params,
                        protocols=(protocol,),
                        headers=[*access.headers.items(), *access.acts_as],
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                        max_msg_size=0,
                        ssl=access.tls if access.tls is not None else True,
                        server_hostname=access.server_name,
                        proxy=access.proxy,
                    )
            except (aiohttp.WSServerHandshakeError, RedirectedError) as error:
                # No more is known of the answer.
                raise problem_of(access, "GET", path, error.status, b"") from error

    # --- one exchange ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _respond(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 300. Credentials that ran out, and a server that moved, are looked up once."""
        if self.access.expired:
            await self.renew(self.access)
        access = self.access
        try:
            response = await self._send(access, method, path, params, data, headers, timeout)
        except ApiUnreachableError as error:
            if error.sent or not await self.renew(access):
                raise
            response = await self._send(self.access, method, path, params, data, headers, timeout)
        if response.status == 401 and await self._relogin(access):
            response.close()
            response = await self._send(self.access, method, path, params, data, headers, timeout)
        async with response:
            if response.status >= 300:
                with self._translate(method, path):
                    text = await response.read()
                raise problem_of(self.access, method, path, response.status, text)
            yield response

    async def _relogin(self, access: Access) -> bool:
        """Whether another try may go better: other credentials in the kubeconfig, or a plugin's new ones."""
        renewed = await self.renew(access, log_in=True)
        return renewed or self.access.expires_at is not None

    async def _send(
        self,
        access: Access,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        with self._translate(method, path):
            return await self._session.request(
                method,
                access.server + path,
                params=params,
                data=data,
                headers=[*access.headers.items(), *access.acts_as, *headers.items()],
                timeout=timeout,
                ssl=access.tls if access.tls is not None else True,
                server_hostname=access.server_name,
                proxy=access.proxy,
                allow_redirects=False,
            )

    async def _split(self, response: aiohttp.ClientResponse, path: str) -> AsyncIterator[bytes]:
        """Lines of any length: an object of a watch may be larger than aiohttp's own line limit."""
        rest = bytearray()
        with self._translate("GET", path):
            async for chunk in response.content.iter_any():
                rest += chunk
                if b"\n" not in chunk:
                    continue
                *whole, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in whole:
                    yield line
        if rest:
            yield bytes(rest)

    def _translate(self, method: str, path: str) -> Translated:
        return Translated(f"{method} {path}", f"{self.access.server} (context {self.access.context.name})")
