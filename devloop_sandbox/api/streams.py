"""The pod subresources that are streams: log, exec and port-forward over a websocket."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aiohttp import WSMsgType, web

from devloop_sandbox.api import negotiation
from devloop_sandbox.api.kubelet import ExecSession, Kubelet
from devloop_sandbox.api.negotiation import Target
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Store

_EXEC = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io")
_FORWARD = ("v4.channel.k8s.io", "portforward.k8s.io")
_ERROR, _RESIZE, _CLOSE = 3, 4, 255
_FIRST = 1.0  # seconds in which a refusal can still become the answer's status


async def log(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """`GET …/log` with follow, tailLines, sinceSeconds, sinceTime, previous, timestamps, limitBytes."""
    pod = store.get("pods", where.namespace, where.name)
    chunks = kubelet.logs(
        pod,
        container(pod, request.query.get("container", "")),
        follow=negotiation.flag(request, "follow"),
        tail_lines=negotiation.number(request, "tailLines"),
        since_seconds=negotiation.number(request, "sinceSeconds"),
        since_time=request.query.get("sinceTime"),
        previous=negotiation.flag(request, "previous"),
        timestamps=negotiation.flag(request, "timestamps"),
        limit_bytes=negotiation.number(request, "limitBytes"),
    )
    first = asyncio.ensure_future(anext(chunks, b""))
    try:
        await asyncio.wait({first}, timeout=_FIRST)
        if first.done():
            first.result()
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        with suppress(ApiError):  # too late to refuse: what there is ends here
            await answer.write(await first)
            async for chunk in chunks:
                await answer.write(chunk)
        await answer.write_eof()
    finally:
        first.cancel()
    return answer


def container(pod: Obj, name: str) -> str:
    """The container meant: the named one, or the only one."""
    known = [one["name"] for kind in ("initContainers", "containers") for one in pod["spec"].get(kind) or []]
    mains = [one["name"] for one in pod["spec"].get("containers") or []]
    if name and name not in known:
        raise errors.bad_request(f"container {name} is not valid for pod {pod['metadata']['name']}")
    if not name and len(mains) > 1:
        choice = " ".join(mains)
        pod_name = pod["metadata"]["name"]
        text = f"a container name must be specified for pod {pod_name}, choose one of: [{choice}]"
        raise errors.bad_request(text)
    return name or mains[0]


async def execute(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """`…/exec` over a websocket: channel byte first, the end as a Status on channel 3."""
    session = await open_exec(store, kubelet, request, where)
    socket = web.WebSocketResponse(protocols=_EXEC, heartbeat=30.0)
    await socket.prepare(request)
    reading = asyncio.create_task(_read_input(socket, session))
    writing = asyncio.create_task(_write_output(socket, session))
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done() and not socket.closed:
            await writing
        if writing.done():
            status = json.dumps(exit_status(session.exit_code or 0)).encode()
            await socket.send_bytes(bytes([_ERROR]) + status)
    except ConnectionError:
        pass  # the client went away; the finally below lets go of the command
    finally:
        for task in (reading, writing):
            task.cancel()
        await session.close()
        await socket.close()
    return socket


async def open_exec(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> ExecSession:
    """Start what the query of an exec asks for."""
    pod = store.get("pods", where.namespace, where.name)
    command = request.query.getall("command", [])
    if not command:
        raise errors.bad_request("you must specify at least 1 command for the container")
    return await kubelet.exec(
        pod,
        container(pod, request.query.get("container", "")),
        command,
        stdin=negotiation.flag(request, "stdin"),
        stdout=negotiation.flag(request, "stdout"),
        stderr=negotiation.flag(request, "stderr"),
        tty=negotiation.flag(request, "tty"),
    )


def exit_status(code: int) -> Obj:
    """The Status that ends an exec."""
    status: Obj = {"metadata": {}, "status": "Success"}
    if code:
        cause = {"reason": "ExitCode", "message": str(code)}
        status |= {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [cause]},
        }
    return status


async def _read_input(socket: web.WebSocketResponse, session: ExecSession) -> None:
    async for message in socket:
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if not isinstance(data, bytes) or not data:
            continue
        if data[0] == 0:
            await session.send(data[1:])
        elif data[0] == _RESIZE:
            size = json.loads(data[1:])
            await session.resize(size["Width"], size["Height"])
        elif data[0] == _CLOSE and data[1:2] == b"\x00":
            await session.close_stdin()


async def _write_output(socket: web.WebSocketResponse, session: ExecSession) -> None:
    for channel in (1, 2, _ERROR):  # clients learn from empty frames that the command has started
        await socket.send_bytes(bytes([channel]))
    async for channel, data in session:
        await socket.send_bytes(bytes([channel]) + data)


async def forward(store: Store, kubelet: Kubelet, request: web.Request, where: Target) -> web.StreamResponse:
    """`…/portforward` over a websocket: channels 2n and 2n+1 are data and errors of the n-th port."""
    pod = store.get("pods", where.namespace, where.name)
    ports = [int(p) for text in request.query.getall("ports", []) for p in text.split(",") if p.isdigit()]
    if not ports:
        raise errors.bad_request('query parameter "ports" is required')
    lines = [await kubelet.port_forward(pod, port) for port in ports]
    socket = web.WebSocketResponse(protocols=_FORWARD, heartbeat=30.0)
    await socket.prepare(request)
    for at, port in enumerate(ports):
        for channel in (2 * at, 2 * at + 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
    pumps = [asyncio.create_task(_pump(reader, socket, 2 * at)) for at, (reader, _) in enumerate(lines)]
    try:
        async for message in socket:
            if isinstance(message.data, bytes) and message.data and message.data[0] % 2 == 0:
                writer = lines[message.data[0] // 2][1]
                writer.write(message.data[1:])
                await writer.drain()
    except ConnectionError:
        pass  # one end is gone: so is the forwarding
    finally:
        for pump in pumps:
            pump.cancel()
        for _, writer in lines:
            writer.close()
    return socket


async def _pump(reader: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while data := await reader.read(65536):
        await socket.send_bytes(bytes([channel]) + data)
    await socket.close()
