"""port-forward as kubectl speaks it: SPDY inside a websocket, any number of connections in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import WSMsgType, web

from devloop_sandbox.api.kubelet import Kubelet
from devloop_sandbox.api.negotiation import Target
from devloop_sandbox.api.spdy import Session, Stream
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store

_PROTOCOL = "SPDY/3.1+portforward.k8s.io"


def is_asked_for(request: web.Request) -> bool:
    """Whether the client offers this protocol, and not the channels of `streams.forward`."""
    return _PROTOCOL in request.headers.get("Sec-WebSocket-Protocol", "")


async def forward(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """Until the client leaves; each connection to a port is a data stream and an error stream."""
    pod = store.get("pods", where.namespace, where.name)
    socket = web.WebSocketResponse(protocols=(_PROTOCOL,))
    await socket.prepare(request)
    session = Session(socket.send_bytes)
    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(session.run(_chunks(socket)))
            await _connect_all(group, session, kubelet, pod)
            reading.cancel()
    except* ConnectionError:
        pass  # the client went away
    finally:
        await socket.close()
    return socket


async def _chunks(socket: web.WebSocketResponse) -> AsyncIterator[bytes]:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            yield message.data


async def _connect_all(group: asyncio.TaskGroup, session: Session, kubelet: Kubelet, pod: Obj) -> None:
    """Pair the streams by their request and serve each pair."""
    waiting: dict[str, Stream] = {}
    while (stream := await session.streams.get()) is not None:
        number = stream.headers.get("requestid", "")
        partner = waiting.pop(number, None)
        if partner is None:
            waiting[number] = stream
            continue
        is_data = stream.headers.get("streamtype") == "data"
        data, failure = (stream, partner) if is_data else (partner, stream)
        group.create_task(_connect(kubelet, pod, data, failure))


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
