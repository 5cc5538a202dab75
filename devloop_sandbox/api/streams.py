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
    """`…/portforward` over a websocket: channels 2n and 2n+1 are data and errors of the n-th port.

    As a kubelet does it: the upgrade comes first, each channel begins with its port, a port where nobody
    listens is reported on its error channel, and all ends when the last port has. A client cannot end one
    direction alone.
    """
    pod = store.get("pods", where.namespace, where.name)
    lines = [_Line(at, port) for at, port in enumerate(_ports(request))]
    socket = web.WebSocketResponse(protocols=_FORWARD)
    await socket.prepare(request)
    for line in lines:
        for channel in (line.data, line.failure):
            await socket.send_bytes(channel + line.port.to_bytes(2, "little"))
    serving = asyncio.create_task(_serve_lines(kubelet, pod, lines, socket))
    try:
        async for message in socket:
            number = message.data[0] if isinstance(message.data, bytes) and message.data else 1
            if number % 2 == 0 and number // 2 < len(lines):
                await lines[number // 2].write(message.data[1:])
    except ConnectionError:
        pass  # one end is gone: so is the forwarding
    finally:
        serving.cancel()
        for line in lines:
            if line.writer is not None:
                line.writer.close()
    return socket


class _Line:
    """One port of a forwarding: its channels, and the connection into the pod."""

    def __init__(self, at: int, port: int) -> None:
        self.port = port
        self.data, self.failure = bytes([2 * at]), bytes([2 * at + 1])
        self.writer: asyncio.StreamWriter | None = None
        self._decided = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Dropped where the pod did not take the connection."""
        await self._decided.wait()
        if self.writer is not None:
            self.writer.write(data)
            await self.writer.drain()

    async def serve(self, kubelet: Kubelet, pod: Obj, socket: web.WebSocketResponse) -> None:
        """Connect, and pass on what the pod sends until it ends the connection."""
        with suppress(ConnectionError):
            try:
                reader, self.writer = await kubelet.port_forward(pod, self.port)
            except ApiError as error:
                await socket.send_bytes(self.failure + error.message.encode())
                return
            finally:
                self._decided.set()
            while data := await reader.read(65536):
                await socket.send_bytes(self.data + data)


def _ports(request: web.Request) -> list[int]:
    """Those of the query. Raises ApiError 400 where there is none, or one that is none."""
    texts = [text for given in request.query.getall("ports", []) for text in given.split(",")]
    if not texts:
        raise errors.bad_request('query parameter "port" is required')
    for text in texts:
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
            raise errors.bad_request(f'unable to parse "{text}" as a port')
    return [int(text) for text in texts]


async def _serve_lines(kubelet: Kubelet, pod: Obj, lines: list[_Line], socket: web.WebSocketResponse) -> None:
    """Until the pod has ended the connection to each port; then the websocket ends."""
    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(line.serve(kubelet, pod, socket))
    await socket.close()
