"""Command lines on a node that is a machine, by the user's ssh command."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import anyio

from devloop.adapters.nodes.shells.shell import Body, NodeShell, Started
from devloop.adapters.process import Finished, Running
from devloop.adapters.tar_stream import Pieces
from devloop.concurrency import closed
from devloop.errors import PlatformError

END_SECONDS = 2.0


class Local:
    """A line that runs by a process of this machine. `judge` raises what is no answer of the line."""

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
