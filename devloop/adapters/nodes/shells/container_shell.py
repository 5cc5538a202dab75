"""Command lines in a node that is a container, by an exec of its engine."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from urllib.parse import quote, urlsplit

import anyio
from anyio.abc import ByteStream

from devloop import activity
from devloop.adapters.docker.connection import EngineRefusedError, frames
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.shells.shell import ANY_LINE, Body, NodeShell, Started
from devloop.adapters.tar_stream import Pieces
from devloop.borders import cause_of
from devloop.concurrency import closed
from devloop.errors import PlatformError

_EXIT = "devloop-exit"
_ENDED = re.compile(rb"%s \d+\n\Z" % _EXIT.encode())
SPARES = 2
LONGEST_HEAD = 1 << 16  # bytes of an answer's head


class ContainerShell(NodeShell):
    """Lines in a node that is a container: kind, k3d, Minikube's docker driver."""

    def __init__(self, engine: Engine, container: str) -> None:
        super().__init__(container, {ANY_LINE: SPARES})
        self._engine = engine

    async def _start(self, line: str) -> Started:
        wish = {
            "Cmd": ["sh", "-c", f'({line}); s=$?; echo; echo "{_EXIT} $s"'],
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        try:
            exec_id = await self._engine.prepare_exec(self._node, wish)
        except EngineRefusedError as refusal:
            raise PlatformError(
                f"node {self._node}: {refusal.message}",
                reason="NodeGone",
                hint="is the cluster running on this engine? docker ps",
            ) from refusal
        return await _Exec.start(await self._engine.endpoint(), exec_id)


class _Exec:
    """One started exec whose connection is ours in both directions."""

    def __init__(self, stream: ByteStream, rest: bytes, endpoint: Endpoint) -> None:
        self._stream = stream
        self._rest = rest
        self._endpoint = endpoint

    @classmethod
    async def start(cls, endpoint: Endpoint, exec_id: str) -> _Exec:
        """Start an exec and take its connection over (an HTTP upgrade). Raises PlatformError."""
        body = json.dumps({"Detach": False, "Tty": False}).encode()
        request = (
            f"POST /exec/{quote(exec_id)}/start HTTP/1.1\r\nHost: docker\r\n"
            f"Content-Type: application/json\r\nConnection: Upgrade\r\n"
            f"Upgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            stream = await connect(endpoint)
            await stream.send(request.encode() + body)
            answer = b""
            while b"\r\n\r\n" not in answer and len(answer) < LONGEST_HEAD:
                answer += await stream.receive()
        except (OSError, ValueError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            why = cause_of(error) if str(error) else "the connection was closed"
            gone = f"engine {endpoint.host}"
            raise PlatformError(f"{gone}: exec: {why}", reason="EngineGone", outage=gone) from error
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            await stream.aclose()
            raise PlatformError(
                f"engine {endpoint.host}: exec: {head[:200].decode(errors='replace').strip() or 'no answer'}",
                reason="EngineRefused",
            )
        return cls(stream, rest, endpoint)

    async def finish(self, body: Body) -> tuple[int, str] | None:
        received = bytearray(self._rest)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, body)
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                    # The engine closes the connection some 50 ms after the last word: not waited for.
                    while not _ENDED.search(received, max(0, len(received) - 40)):
                        received += await self._stream.receive()
                        activity.note()
                group.cancel_scope.cancel()  # the command is through, and reads no more
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            await closed(body)
        output = b"".join(frames(bytes(received))).decode(errors="replace")
        before, marked, code = output.rpartition(f"\n{_EXIT} ")
        if not marked:
            return None
        return int(code) if code.strip().isdecimal() else 1, before

    async def _send(self, body: Body) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            if isinstance(body, bytes):
                await self._stream.send(body)
            elif isinstance(body, Pieces):
                for piece in body:
                    await self._stream.send(piece)
            elif body is not None:
                async for piece in body:
                    await self._stream.send(piece)
                    activity.note()
            if not self._endpoint.encrypted:  # TLS cannot be closed in one direction; tar ends by itself
                await _send_eof(self._stream)

    async def aclose(self) -> None:
        with suppress(OSError, anyio.BrokenResourceError):
            await self._stream.aclose()


async def connect(endpoint: Endpoint) -> ByteStream:
    """A raw connection to an engine. Raises OSError."""
    if endpoint.socket is not None:
        return await anyio.connect_unix(endpoint.socket)
    address = urlsplit(endpoint.url)
    host, port = address.hostname or "", address.port or 0
    tls = endpoint.tls()
    if tls is None:
        return await anyio.connect_tcp(host, port)
    return await anyio.connect_tcp(host, port, ssl_context=tls, tls_standard_compatible=False)


async def _send_eof(stream: ByteStream) -> None:
    await stream.send_eof()
