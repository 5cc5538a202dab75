"""exec and port-forward of clients that speak SPDY: on the bare connection, or inside a websocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import WSMsgType, web
from typing_extensions import override

from devloop_sandbox.api import streams
from devloop_sandbox.api.kubelet import ExecSession, Kubelet
from devloop_sandbox.api.negotiation import Target, flag
from devloop_sandbox.api.spdy import Session, Stream
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store

_IN_WEBSOCKET = "SPDY/3.1+portforward.k8s.io"


def is_spdy(request: web.Request) -> bool:
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return request.headers.get("Upgrade", "").upper() == "SPDY/3.1" or _IN_WEBSOCKET in offered


async def execute(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """One command; its streams arrive by name, its exit goes to the error stream."""
    offered = request.headers.getall("X-Stream-Protocol-Version", [])
    if not any("v4.channel.k8s.io" in names for names in offered):
        raise errors.ApiError(403, "Forbidden", "unable to upgrade: v4.channel.k8s.io is needed")
    wanted = {"error"} | {name for name in ("stdin", "stdout", "stderr") if flag(request, name)}
    if flag(request, "tty"):
        wanted = (wanted - {"stderr"}) | {"resize"}
    command = await streams.open_exec(store, kubelet, request, where)
    line = _BareLine(request)
    session = Session(line.write)
    try:
        line.switch("v4.channel.k8s.io")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(session.run(line.chunks()))
            found: dict[str, Stream] = {}
            while wanted - found.keys() and (stream := await session.streams.get()) is not None:
                found[stream.headers.get("streamtype", "")] = stream
            if wanted <= found.keys():
                await _run_command(command, found)
                await session.go_away()
            reading.cancel()
    except* ConnectionError:
        pass  # the client went away
    finally:
        await command.close()
        await line.close()
    return web.Response()


async def _run_command(command: ExecSession, found: dict[str, Stream]) -> None:
    inputs = [asyncio.create_task(_feed(command, found["stdin"]))] if "stdin" in found else []
    if "resize" in found:
        inputs.append(asyncio.create_task(_resize(command, found["resize"])))
    try:
        async for channel, data in command:
            target = found.get("stdout" if channel == 1 else "stderr")
            if target is not None:
                await target.send(data)
    finally:
        for task in inputs:
            task.cancel()
    status = json.dumps(streams.exit_status(command.exit_code or 0)).encode()
    await found["error"].send(status)
    for stream in found.values():
        await stream.end()


async def _feed(command: ExecSession, stream: Stream) -> None:
    async for data in stream:
        await command.send(data)
    await command.close_stdin()


async def _resize(command: ExecSession, stream: Stream) -> None:
    async for data in stream:
        for text in data.decode().splitlines():
            size: Obj = json.loads(text)
            await command.resize(size["Width"], size["Height"])


async def forward(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """Any number of connections to the pod's ports, each a data stream and an error stream."""
    pod = store.get("pods", where.namespace, where.name)
    line: _BareLine | _SocketLine
    if request.headers.get("Upgrade", "").lower() == "websocket":
        line = _SocketLine(web.WebSocketResponse(protocols=(_IN_WEBSOCKET,)))
        await line.socket.prepare(request)
    else:
        line = _BareLine(request)
        line.switch("portforward.k8s.io")
    session = Session(line.write)
    waiting: dict[str, Stream] = {}
    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(session.run(line.chunks()))
            while (stream := await session.streams.get()) is not None:
                number = stream.headers.get("requestid", "")
                partner = waiting.pop(number, None)
                if partner is None:
                    waiting[number] = stream
                    continue
                is_data = stream.headers.get("streamtype") == "data"
                data, failure = (stream, partner) if is_data else (partner, stream)
                group.create_task(_connect(kubelet, pod, data, failure))
            reading.cancel()
    except* ConnectionError:
        pass  # the client went away
    finally:
        await line.close()
    return line.socket if isinstance(line, _SocketLine) else web.Response()


async def _connect(kubelet: Kubelet, pod: Obj, data: Stream, failure: Stream) -> None:
    """One forwarded connection, until both sides have ended it."""
    port = int(data.headers.get("port", "0"))
    with suppress(ConnectionError):
        try:
            reader, writer = await kubelet.port_forward(pod, port)
        except (ApiError, OSError) as error:
            text = f"error forwarding port {port} to pod {pod['metadata']['name']}: {error}"
            await failure.send(text.encode())
            await failure.end()
            await data.end()
            return
        await failure.end()
        sending = asyncio.create_task(_pump(reader, data))
        try:
            async for chunk in data:
                writer.write(chunk)
                await writer.drain()
            with suppress(OSError):
                writer.write_eof()
            await sending
        finally:
            sending.cancel()
            writer.close()


async def _pump(reader: asyncio.StreamReader, stream: Stream) -> None:
    while data := await reader.read(32768):
        await stream.send(data)
    await stream.end()


class _SocketLine:
    """SPDY bytes as the binary messages of a websocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    async def write(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        async for message in self.socket:
            if message.type is WSMsgType.BINARY:
                yield message.data

    async def close(self) -> None:
        await self.socket.close()


class _BareLine:
    """The connection itself, taken over from HTTP."""

    def __init__(self, request: web.Request) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client is gone")
        self._transport = request.transport
        self._http = request.protocol
        self._reader = asyncio.StreamReader()
        self._protocol = _Taken(self._reader, self._http)
        self._writer: asyncio.StreamWriter | None = None

    def switch(self, protocol: str) -> None:
        """Answer 101; from here on the bytes are SPDY's."""
        self._transport.set_protocol(self._protocol)
        self._protocol.connection_made(self._transport)
        loop = asyncio.get_running_loop()
        if not isinstance(self._transport, asyncio.WriteTransport):
            raise ConnectionResetError("the connection cannot be written")
        self._writer = asyncio.StreamWriter(self._transport, self._protocol, self._reader, loop)
        head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        self._writer.write(f"{head}X-Stream-Protocol-Version: {protocol}\r\n\r\n".encode())

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            raise ConnectionResetError("not switched")
        self._writer.write(data)
        await self._writer.drain()

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self._reader.read(65536):
            yield data

    async def close(self) -> None:
        self._http.force_close()
        self._transport.close()


class _Taken(asyncio.StreamReaderProtocol):
    """Passes the end of the connection on to aiohttp, which still holds the request."""

    def __init__(self, reader: asyncio.StreamReader, http: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._http = http

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._http.connection_lost(exc)
