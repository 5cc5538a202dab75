"""The cluster's API without a socket: devloop's client on one side, the sandbox's API server on the other.

What the network and a busy server do is done here: answers late, refused or lost, watches that break.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import anyio
from aiohttp import web
from multidict import CIMultiDict, MultiDict

from devloop.adapters.kubernetes.api.access import Access
from devloop.adapters.kubernetes.api.answers import ApiUnreachableError, Json, decoded, problem_of
from devloop.adapters.kubernetes.api.client import REQUEST_SECONDS, Client, Params
from devloop.adapters.kubernetes.api.guard import Platform
from devloop.adapters.kubernetes.api.kubeconfig import Context
from devloop_sandbox.api.http import ApiServer
from devloop_sandbox.api.watch import Watch
from devloop_sandbox.store.store import Store
from tests.simulation.faults import Faults

SERVER = "https://127.0.0.1:6443"
CONTEXT = Context("simulation", "simulation", {"server": SERVER}, {}, "default", ())
PLATFORM = Platform("sandbox", "simulation", "simulation", SERVER, "", "default", local=True)
ACCESS = Access(PLATFORM, CONTEXT, None, {})


@dataclass(frozen=True, slots=True)
class _Request:
    """What the API server asks of a web.Request."""

    method: str
    path: str
    query: MultiDict[str]
    headers: CIMultiDict[str]
    data: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "application/octet-stream")

    async def read(self) -> bytes:
        return self.data


class Wire:
    """One API server and the network to it."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store, self.faults = store, faults
        self.server = ApiServer(store, "", lambda _: [])
        self.on_write: Callable[[str], None] = lambda path: None

    async def exchange(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        headers: dict[str, str],
        seconds: float,
    ) -> tuple[int, bytes]:
        """(status, body). Raises ApiUnreachableError."""
        faults, what = self.faults, f"{method} {path} at {SERVER}"
        if faults.on("api away"):
            await anyio.sleep(faults.delay(0.001, 3.0))
            raise ApiUnreachableError(f"{what}: connection refused", sent=False)
        await anyio.sleep(faults.delay(0.001, 0.3 if faults.on("api slow") else 0.01))
        fault = (
            faults.rng.choice(("500", "429", "lost before", "lost after", "late")) if faults.hits() else ""
        )
        if fault in ("500", "429"):
            return int(fault), json.dumps({"message": "the server is busy", "reason": "Busy"}).encode()
        if fault == "lost before":
            raise ApiUnreachableError(f"{what}: connection reset", sent=True)
        status, body = await self._answer(method, path, params, data, headers)
        if method != "GET":
            self.on_write(path)
        if fault == "lost after":
            raise ApiUnreachableError(f"{what}: connection reset", sent=True)
        if fault == "late":
            await anyio.sleep(seconds)
            raise ApiUnreachableError(f"{what}: no answer in time", sent=True, reason="Timeout")
        await anyio.sleep(faults.delay(0.0, 0.01))
        return status, body

    async def _answer(
        self, method: str, path: str, params: Params | None, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        words = {
            "Host": f"127.0.0.1:{self.server.port}",
            "Authorization": "Bearer ",
            "User-Agent": "devloop/0",
            **headers,
        }
        request = _Request(method, path, MultiDict(params or {}), CIMultiDict(words), data or b"")
        answer = await self.server._answer(cast(web.Request, request))
        assert isinstance(answer, web.Response)
        body = answer.body
        return answer.status, body if isinstance(body, bytes) else b""


def client_on(wire: Wire) -> type[Client]:
    """A class in the place of `Client`, for this wire."""

    class WiredClient(Client):
        def __init__(self, _: Callable[[Access | None], Awaitable[Access]]) -> None:
            self.access = ACCESS

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            return None

        async def renew(self, stale: Access, *, log_in: bool = False) -> bool:
            await anyio.lowlevel.checkpoint()
            return False

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
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": content_type} if data is not None else {}
            status, text = await wire.exchange(method, path, params, data, headers, seconds)
            if status >= 300:
                raise problem_of(ACCESS, method, path, status, text)
            return status, decoded(text, method, path)

        @asynccontextmanager
        async def lines(
            self, path: str, params: Params, *, silence: float | None
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            if not params.get("watch"):
                raise ApiUnreachableError(f"GET {path}: no logs here", sent=True)
            yield _watch(wire, path, params, silence or 60.0)

    return WiredClient


async def _watch(wire: Wire, path: str, params: Params, silence: float) -> AsyncIterator[bytes]:
    """The lines of one watch, each as late as the network makes it, until it breaks or the server ends it."""
    faults, what = wire.faults, f"GET {path} at {SERVER}"
    if faults.on("api away"):
        await anyio.sleep(faults.delay(0.001, 1.0))
        raise ApiUnreachableError(f"{what}: connection refused", sent=False)
    *_, namespace, plural = path.strip("/").split("/")
    watch = Watch(
        resource=plural, namespace=namespace, test=None, version=int(params["resourceVersion"]),
        bookmarks=True, initial_end=False, timeout=float(params["timeoutSeconds"]), view=None,
    )  # fmt: skip
    async for line in watch.lines(wire.store):
        if faults.on("api away"):
            raise ApiUnreachableError(f"{what}: connection reset", sent=True)
        if faults.on("watch silent"):
            await anyio.sleep(silence)
            raise ApiUnreachableError(f"{what}: no answer in time", sent=True, reason="Timeout")
        if faults.hits():
            raise ApiUnreachableError(f"{what}: connection reset", sent=True)
        await anyio.sleep(faults.delay(0.0, 2.0 if faults.on("watch late") else 0.02))
        yield line
