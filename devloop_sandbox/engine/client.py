"""The Docker Engine API over its socket, raw: what docker-py does in 100 ms takes 10 here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import aiohttp

from devloop_sandbox.objects.resources import Obj


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Its result. A caller that is cancelled waits for it: an engine that is cut off in a start or a removal
    loses count of the network's endpoints, and then never lets the network go."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


T = TypeVar("T")


class EngineError(Exception):
    """The engine refused (`status` is HTTP's) or was not there (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _filters(labels: list[str]) -> str:
    return json.dumps({"label": labels})


class Engine:
    """`url` is unix:///path; one instance per loop, closed by `async with`."""

    def __init__(self, url: str) -> None:
        self._socket = url.removeprefix("unix://")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body is still to be read; EngineError for any refusal."""
        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket, limit=0)
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        try:
            async with self._session.request(
                method, f"http://engine{path}", params=params, **sent
            ) as response:
                if response.status >= 400:
                    raise EngineError(response.status, _message(await response.text()))
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise EngineError(0, f"{method} {path} on {self._socket}: {error}") from error

    async def call(
        self, method: str, path: str, *, params: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        """The decoded answer, None if it has no body."""
        async with self.open(method, path, params=params, body=body) as response:
            text = await response.text()
            return json.loads(text) if text.strip() and response.content_type == "application/json" else text

    async def inspect(self, container: str) -> Obj:
        found: Obj = await self.call("GET", f"/containers/{container}/json")
        return found

    async def containers(self, *labels: str) -> list[Obj]:
        """All containers, dead ones too, that carry every label ("key" or "key=value")."""
        params = {"all": "1", "filters": _filters(list(labels))}
        found: list[Obj] = await self.call("GET", "/containers/json", params=params)
        return found

    async def create(self, name: str, body: Obj) -> str:
        made = await self.call("POST", "/containers/create", params={"name": name}, body=body)
        return str(made["Id"])

    async def start(self, container: str) -> None:
        await self.call("POST", f"/containers/{container}/start")

    async def stop(self, container: str, grace: int) -> None:
        """SIGTERM, after `grace` seconds SIGKILL; returns when the container is dead or gone."""
        try:
            await self.call("POST", f"/containers/{container}/stop", params={"t": str(grace)})
        except EngineError as error:
            if error.status != 404:
                raise

    async def remove(self, container: str) -> None:
        """Kill and remove, to its end even when cancelled; one that is gone, or going, is fine."""
        await to_its_end(self._remove(container))

    async def remove_all(self, label: str) -> None:
        """`remove` every container that carries the label."""
        found = await self.containers(label)
        await asyncio.gather(*(self.remove(entry["Id"]) for entry in found))

    async def _remove(self, container: str) -> None:
        for pause in (0.2, 0.5, 1.0, 2.0, None):
            try:
                await self.call("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"})
                return
            except EngineError as error:
                if error.status in (404, 409):
                    return
                if pause is None or "busy" not in error.message:
                    raise
                await asyncio.sleep(pause)  # after an engine's restart somebody holds a mount for a while

    async def events(self, label: str) -> AsyncIterator[Obj]:
        """Container events with the label from now on; the first item is {} once the stream stands."""
        params = {"filters": json.dumps({"type": ["container"], "label": [label]})}
        async with self.open("GET", "/events", params=params) as response:
            yield {}
            async for line in response.content:
                yield json.loads(line)

    async def hijack(self, path: str, body: Obj) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """POST and take over the connection, as `exec/start` wants it."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        writer.write(head.encode() + raw)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(answer.split(" ", 2)[1])
        if status >= 400:
            text = (await reader.read(4096)).decode(errors="replace")
            writer.close()
            raise EngineError(status, _message(text))
        return reader, writer


async def frames(reader: asyncio.StreamReader | aiohttp.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """(1 stdout | 2 stderr, bytes) of the engine's multiplexed stream, until it ends."""
    try:
        while True:
            head = await reader.readexactly(8)
            yield head[0], await reader.readexactly(int.from_bytes(head[4:], "big"))
    except (asyncio.IncompleteReadError, ConnectionError, aiohttp.ClientError):
        return


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()
