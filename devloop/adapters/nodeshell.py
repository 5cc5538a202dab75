"""Command lines on nodes: in a node's container by the engine's exec, or by ssh on a node that is a machine.

Starting a process in a container costs more than the command: a few shells are started ahead and wait.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol
from urllib.parse import quote

import anyio
from anyio.abc import ByteStream

from devloop.adapters.endpoint import Endpoint
from devloop.adapters.engine import Engine, EngineRefusal, frames
from devloop.adapters.process import run
from devloop.errors import PlatformError

Body = AsyncIterator[bytes] | bytes | None
_EXIT = "devloop-exit"
# `read` takes the first line byte by byte, so that the rest of the input is the command's.
_WAITING = f'IFS= read -r line && (eval "$line"); s=$?; echo; echo "{_EXIT} $s"'
_ENDED = re.compile(rb"%s \d+\n\Z" % _EXIT.encode())
SPARES = 2
RETRY_SECONDS = 5.0


class NodeShell(Protocol):
    """Runs one POSIX shell line on a node, as root."""

    async def run(self, line: str, body: Body = None) -> tuple[int, str]:
        """Exit code and output of the line; `body` is its input. Raises PlatformError."""
        ...

    async def keep_warm(self) -> None:
        """Runs until cancelled; without it everything works, only slower."""
        ...

    async def aclose(self) -> None: ...


class ContainerShell:
    """Lines in a node that is a container: kind, k3d, Minikube's docker driver."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._spares: deque[_Exec] = deque()
        self._used = anyio.Event()

    async def run(self, line: str, body: Body = None) -> tuple[int, str]:
        while self._spares and not isinstance(body, AsyncIterator):
            spare = self._spares.popleft()
            self._used.set()
            answer = await spare.finish(line, body)
            if answer is not None:
                return answer
            # It died with its container, before it read the line: nothing was done.
        answer = await (await self._start()).finish(line, body)
        if answer is None:
            raise PlatformError(
                f"node {self._container}: its shell ended without an answer",
                reason="NodeGone",
                hint=f"docker ps -a --filter name={self._container}",
            )
        return answer

    async def keep_warm(self) -> None:
        try:
            while True:
                self._used = anyio.Event()
                try:
                    while len(self._spares) < SPARES:
                        self._spares.append(await self._start())
                except PlatformError:
                    await anyio.sleep(RETRY_SECONDS)  # whoever needs the node is told by his own call
                    continue
                await self._used.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self.aclose()

    async def aclose(self) -> None:
        while self._spares:
            await self._spares.popleft().aclose()

    async def _start(self) -> _Exec:
        wish = {
            "Cmd": ["sh", "-c", _WAITING],
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        try:
            exec_id = await self._engine.prepare_exec(self._container, wish)
        except EngineRefusal as refusal:
            raise PlatformError(
                f"node {self._container}: {refusal.message}",
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
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise PlatformError(
                f"engine {endpoint.host}: exec: {str(error) or 'the connection was closed'}",
                reason="EngineGone",
            ) from error
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            await stream.aclose()
            raise PlatformError(
                f"engine {endpoint.host}: exec: {head.splitlines()[0].decode(errors='replace')}",
                reason="EngineRefused",
            )
        return cls(stream, rest, endpoint)

    async def finish(self, line: str, body: Body) -> tuple[int, str] | None:
        """Give the shell its line and input; exit code and output, None if it was dead before."""
        received = bytearray(self._rest)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, line, body)
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                    # The engine closes the connection some 50 ms after the last word: not waited for.
                    while not _ENDED.search(received, max(0, len(received) - 40)):
                        received += await self._stream.receive()
                group.cancel_scope.cancel()  # the command is through, and reads no more
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            with anyio.CancelScope(shield=True):
                await self.aclose()
        said = b"".join(frames(bytes(received))).decode(errors="replace")
        before, marked, code = said.rpartition(f"\n{_EXIT} ")
        if not marked:
            return None
        return int(code.strip() or 1), before

    async def _send(self, line: str, body: Body) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await self._stream.send(line.replace("\n", " ").encode() + b"\n")
            if isinstance(body, bytes):
                await self._stream.send(body)
            elif body is not None:
                async for piece in body:
                    await self._stream.send(piece)
            if self._endpoint.certs is None:  # TLS cannot be closed in one direction; tar ends by itself
                await _send_eof(self._stream)

    async def aclose(self) -> None:
        with suppress(OSError, anyio.BrokenResourceError):
            await self._stream.aclose()


async def connect(endpoint: Endpoint) -> ByteStream:
    """A raw connection to an engine. Raises OSError."""
    if endpoint.socket is not None:
        return await anyio.connect_unix(endpoint.socket)
    host, _, port = endpoint.url.partition("://")[2].rpartition(":")
    tls = endpoint.tls()
    if tls is None:
        return await anyio.connect_tcp(host, int(port))
    return await anyio.connect_tcp(host, int(port), ssl_context=tls, tls_standard_compatible=False)


async def _send_eof(stream: ByteStream) -> None:
    await stream.send_eof()


class SshShell:
    """Lines on a node that is a machine, by the user's ssh command with one connection kept open."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """`argv`: ssh with its options and user@host; the line is added."""
        self._argv = list(argv)
        self._environment = environment

    async def run(self, line: str, body: Body = None) -> tuple[int, str]:
        argv = [*self._argv, f"sudo sh -c {_quoted(line)}"]
        finished = await run(argv, self._environment, body=pieces(body))
        said = finished.out.decode(errors="replace") + "\n".join(finished.err)
        if finished.code == 255:  # ssh's own
            raise PlatformError(
                f"{' '.join(argv[:-1])}: {' '.join(finished.tail(1))}",
                reason="NodeGone",
                hint="is the node running? minikube status",
            )
        return finished.code, said

    async def keep_warm(self) -> None:
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        return


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


def pieces(body: Body) -> AsyncIterator[bytes] | None:
    """The body as `process.run` takes it."""
    if not isinstance(body, bytes):
        return body

    async def once() -> AsyncIterator[bytes]:
        yield body

    return once()
