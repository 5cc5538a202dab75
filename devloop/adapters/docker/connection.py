"""HTTP to one engine: requests that can be cancelled at once, its refusals, its messages.

Hot calls go over it (load, build, pull, archives, inspect); what nobody waits for is housekeeping.py's.
"""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Self

import aiohttp
import anyio
from aiohttp.http_exceptions import HttpProcessingError

from devloop import activity
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine_facts import Json
from devloop.adapters.tar_stream import Pieces
from devloop.borders import ENGINE_ANSWER, cause_of
from devloop.concurrency import closed
from devloop.errors import DevloopError, PlatformError

Body = AsyncIterator[bytes] | bytes | Pieces
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # for calls that only look something up
CHANGE_SECONDS = 120.0  # for calls that change the engine's disk, which may be busy
PIECE = 1 << 20
JSON_TYPE = {"Content-Type": "application/json"}

_QUICK = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS)
_CHANGE = aiohttp.ClientTimeout(total=CHANGE_SECONDS, connect=CONNECT_SECONDS)
_STREAM = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=None)


class EngineRefusedError(DevloopError):
    """The engine answered, and the answer was no. Adapters turn it into the error of their stage."""

    default_reason = "EngineRefused"
    default_outside = True

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of HTTP; 0 = inside a stream that began with 200


class Connection:
    """To one engine. Its address is asked for when a connection fails, because it may have moved (S13).

    No API version is pinned: a request without one gets the engine's own, and every engine has what is used.
    """

    def __init__(self, source: Callable[[], Awaitable[Endpoint]], *, role: str = "engine") -> None:
        self._source = source
        self._role = role
        self._endpoint: Endpoint | None = None
        self._session: aiohttp.ClientSession | None = None
        self._moving = anyio.Lock()

    @classmethod
    def at(cls, endpoint: Endpoint, *, role: str = "engine") -> Self:
        """The engine of an address that does not move."""

        async def same() -> Endpoint:
            return endpoint

        return cls(same, role=role)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def endpoint(self) -> Endpoint:
        """Where the engine is, as far as is known now."""
        if self._endpoint is None:
            self._endpoint = await self._source()
        return self._endpoint

    async def renew(self) -> bool:
        """Read the address again (S13). True if it has moved; old connections are dropped then."""
        async with self._moving:
            before, now = self._endpoint, await self._source()
            self._endpoint = now
            if before == now:
                return False
            await self.aclose()
            return True

    # --- HTTP ---------------------------------------------------------------------------------

    async def _json(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, body: bytes | None = None
    ) -> Any:
        async with self._call(method, path, query, body=body, headers=JSON_TYPE) as response:
            text = await response.read()
        with self._taking(f"{method} {path}"):
            return json.loads(text)

    def _taking(self, call: str) -> AbstractContextManager[None]:
        """Around the lines that take an answer apart."""
        endpoint = self._endpoint
        where = f"{self._role} {endpoint.host} (from {endpoint.origin})" if endpoint else self._role
        return ENGINE_ANSWER(f"{where}: {call}: not a Docker engine's answer")

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, its refusals raised. A look-up is tried again where the engine has moved to."""
        timeout = _STREAM if stream else _QUICK if method in ("GET", "HEAD") else _CHANGE
        body = bytes(body) if isinstance(body, Pieces) and len(body) <= PIECE else body
        stream_body = None if isinstance(body, bytes | Pieces | None) else _Sending(body)
        try:
            async with self._answered(method, path, query, body, stream_body, headers, timeout) as response:
                yield response
        finally:
            if stream_body is not None:
                await closed(body)

    @asynccontextmanager
    async def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Body | None,
        stream_body: _Sending | None,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for last in (False, True):
            endpoint = await self.endpoint()
            session = self._session = self._session or _session(endpoint)
            sent = stream_body or _sendable(body)
            try:
                async with session.request(
                    method,
                    endpoint.url + path,
                    params=query,
                    data=sent,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    await _check(response)
                    last = True  # the answer is here: whatever goes wrong now is not for a second try
                    yield response
                    return
            except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
                if stream_body is not None and stream_body.error is not None:
                    raise stream_body.error from None  # what ended the request was its own body
                # A body that was streamed once cannot be sent again.
                if last or stream_body is not None or not await self.renew():
                    raise self._gone(endpoint, f"{method} {path}", error) from error

    def _gone(self, endpoint: Endpoint, call: str, error: BaseException) -> PlatformError:
        where = f"{self._role} {endpoint.host} (from {endpoint.origin})"
        reached = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        return PlatformError(
            f"{where}: {call}: {cause_of(error)}"
            if reached
            else f"{where} is not reachable: {cause_of(error)}",
            reason="EngineGone",
            hint=_hint(endpoint, error),
            outage=f"engine {endpoint.host}",
        )


def _sendable(body: Body | None) -> object:
    """What can be sent again, in a shape that aiohttp does not copy as a whole."""
    if isinstance(body, Pieces):
        return _slices(body)
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > PIECE else body


async def _slices(pieces: Pieces) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class _Sending:
    """A body being sent, with the error that ended it: aiohttp would only report a broken connection."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.error: Exception | None = None

    def __aiter__(self) -> _Sending:
        return self

    async def __anext__(self) -> bytes:
        activity.note()
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def _session(endpoint: Endpoint) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if endpoint.socket is not None:
        connector = aiohttp.UnixConnector(path=endpoint.socket, limit=0)
    else:
        connector = aiohttp.TCPConnector(limit=0, ssl=endpoint.tls() or True)
    # The engine's own proxy settings are for its pulls; between devloop and the engine there is none.
    return aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=PIECE)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    text = (await response.read()).decode(errors="replace")
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text.strip() or f"HTTP {response.status}"
    raise EngineRefusedError(message, response.status)


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The JSON messages of a streamed answer; an `error` among them is raised as EngineRefusedError."""
    rest = b""
    async for piece in noted(response.content.iter_any()):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield _message(line)
    if rest.strip():
        yield _message(rest)


async def noted(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece that arrives is progress of the trip that waits for it."""
    async for piece in pieces:
        activity.note()
        yield piece


def frames(stream: bytes) -> Iterator[bytes]:
    """The payloads of an attached stream: each has a header of 8 bytes that ends in its length."""
    at = 0
    while at + 8 <= len(stream):
        size = int.from_bytes(stream[at + 4 : at + 8], "big")
        yield stream[at + 8 : at + 8 + size]
        at += 8 + size


def _message(line: bytes) -> Json:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EngineRefusedError(f"the engine sent invalid JSON: {line[:200]!r}") from error
    if not isinstance(message, dict):
        raise EngineRefusedError(f"the engine sent an unexpected message: {line[:200]!r}")
    if "error" in message:
        raise EngineRefusedError(str(message["error"]))
    return message


def _hint(endpoint: Endpoint, error: BaseException) -> str:
    if isinstance(error, PermissionError) or isinstance(getattr(error, "os_error", None), PermissionError):
        return "you may not use its socket: sudo usermod -aG docker $USER, then log in again"
    if isinstance(error, ssl.SSLError | aiohttp.ClientConnectorCertificateError):
        return "its certificate does not match: is DOCKER_CERT_PATH the one of this engine?"
    if endpoint.socket is not None:
        return "is the engine running? sudo systemctl start docker, or start Docker Desktop"
    return "is the cluster running, and is this still its address? for Minikube: minikube status"
