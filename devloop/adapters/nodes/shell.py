"""Command lines on nodes: in a node's container by the engine's exec, or by ssh on a node that is a machine.

Starting a process on a node costs more than most commands: lines that will be needed are started ahead, and
wait for their input.
"""

from __future__ import annotations

import json
import re
import shlex
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol
from urllib.parse import quote, urlsplit

import anyio
from anyio.abc import ByteStream

from devloop import activity
from devloop.adapters.archive.tar_stream import Pieces
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine, EngineRefusal, frames
from devloop.adapters.process import Finished, Running
from devloop.concurrency import closed
from devloop.errors import PlatformError

Body = AsyncIterator[bytes] | bytes | Pieces | None
_EXIT = "devloop-exit"
# `read` takes the first line byte by byte, so that the rest of the input is the command's.
_ANY_LINE = 'IFS= read -r line && eval "$line"'
_ENDED = re.compile(rb"%s \d+\n\Z" % _EXIT.encode())
SPARES = 2
REST_SECONDS = 1.0  # after a use: PATCH and rollout come first
LONGEST_WAIT = 3600.0  # seconds; what containerd keeps for an import that waits is gone after a day
RETRY_SECONDS = 5.0
END_SECONDS = 2.0
LONGEST_HEAD = 1 << 16  # bytes of an answer's head


class Started(Protocol):
    """A line under way on a node that waits for its input."""

    async def finish(self, body: Body) -> tuple[int, str] | None:
        """Give it its input; exit code and output, None if it was dead before."""
        ...

    async def aclose(self) -> None:
        """Without input there is nothing to do for it."""
        ...


class NodeShell(ABC):
    """Runs POSIX shell lines on a node, as root."""

    def __init__(self, node: str, wanted: Mapping[str, int]) -> None:
        """`wanted`: lines, and how many of each wait."""
        self._node = node
        self._wanted = dict(wanted)
        self._spares: dict[str, deque[Started]] = {}
        self._used = anyio.Event()

    async def run(self, line: str, body: Body = None, *, ahead: bool = False) -> tuple[int, str]:
        """Exit code and output of the line; `body` is its input. Raises PlatformError.

        `ahead`: the line is always the same, and does nothing before its input comes. From its first use on
        it is started before it is needed.
        """
        if ahead:
            self._wanted.setdefault(line, 1)
            self._used.set()
        if not isinstance(body, AsyncIterator):
            waiting = self._spares.get(line if ahead else _ANY_LINE)
            given = body if ahead else line.replace("\n", " ").encode() + b"\n" + bytes(body or b"")
            while waiting:
                self._used.set()
                answer = await waiting.popleft().finish(given)
                # A container takes its shells along before they read anything; a daemon that was started
                # anew fails what waited for it. Both are looked at by a new one.
                if answer is not None and not (ahead and answer[0] != 0):
                    return answer
        answer = await (await self._start(line)).finish(body)
        if answer is None:
            raise PlatformError(
                f"node {self._node}: its shell ended without an answer",
                reason="NodeGone",
                hint=f"docker ps -a --filter name={self._node}",
            )
        return answer

    async def keep_warm(self) -> None:
        """Runs until cancelled; without it everything works, only slower."""
        try:
            while True:
                self._used = anyio.Event()
                try:
                    await self._fill()
                except PlatformError:
                    await anyio.sleep(RETRY_SECONDS)  # whoever needs the node is told by his own call
                    continue
                with anyio.move_on_after(LONGEST_WAIT):
                    await self._used.wait()
                    await anyio.sleep(REST_SECONDS)
                    continue
                await self.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self.aclose()

    async def _fill(self) -> None:
        for line, count in list(self._wanted.items()):
            waiting = self._spares.setdefault(line, deque())
            while len(waiting) < count:
                waiting.append(await self._start(line))

    async def aclose(self) -> None:
        for waiting in self._spares.values():
            while waiting:
                await waiting.popleft().aclose()

    @abstractmethod
    async def _start(self, line: str) -> Started:
        """Raises PlatformError."""


class ContainerShell(NodeShell):
    """Lines in a node that is a container: kind, k3d, Minikube's docker driver."""

    def __init__(self, engine: Engine, container: str) -> None:
        super().__init__(container, {_ANY_LINE: SPARES})
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
        except EngineRefusal as refusal:
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
            raise PlatformError(
                f"engine {endpoint.host}: exec: {str(error) or 'the connection was closed'}",
                reason="EngineGone",
            ) from error
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
        said = b"".join(frames(bytes(received))).decode(errors="replace")
        before, marked, code = said.rpartition(f"\n{_EXIT} ")
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
            if self._endpoint.certs is None:  # TLS cannot be closed in one direction; tar ends by itself
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


class Local:
    """A line under way by a process of this machine. `judge` raises what is no answer of the line."""

    def __init__(self, running: Running, judge: Callable[[Finished], None]) -> None:
        self._running = running
        self._judge = judge

    async def finish(self, body: Body) -> tuple[int, str] | None:
        try:
            finished = await self._running.finish(body=_pieces(body))
        finally:
            await closed(body)
        self._judge(finished)
        return finished.code, finished.out.decode(errors="replace") + "\n".join(finished.err)

    async def aclose(self) -> None:
        with anyio.move_on_after(END_SECONDS):
            await self._running.finish()  # the end of its input ends it: it can put away what it has


class SshShell(NodeShell):
    """Lines on a node that is a machine, by the user's ssh command with one connection kept open."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """`argv`: ssh with its options and user@host; the line is added."""
        super().__init__(argv[-1], {})
        self._argv = list(argv)
        self._environment = environment

    async def _start(self, line: str) -> Started:
        argv = [*self._argv, f"sudo sh -c {shlex.quote(line)}"]
        return Local(await Running.start(argv, self._environment, fed=True), self._check)

    def _check(self, finished: Finished) -> None:
        if finished.code == 255:  # ssh's own
            raise PlatformError(
                f"{' '.join(self._argv)}: {' '.join(finished.tail(1))}",
                reason="NodeGone",
                hint="is the node running? minikube status",
            )


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """The body as a process takes it."""
    if isinstance(body, bytes):
        yield body
    elif isinstance(body, Pieces):
        for piece in body:
            yield piece
    elif body is not None:
        async for piece in body:
            yield piece
