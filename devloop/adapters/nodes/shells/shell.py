"""Command lines on nodes: in a node's container by the engine's exec, or by ssh on a node that is a machine.

Starting a process on a node costs more than most commands: lines that will be needed are started ahead, and
wait for their input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import anyio

from devloop.adapters.tar_stream import Pieces
from devloop.errors import PlatformError

Body = AsyncIterator[bytes] | bytes | Pieces | None
# `read` takes the first line byte by byte, so that the rest of the input is the command's.
ANY_LINE = 'IFS= read -r line && eval "$line"'
REST_SECONDS = 1.0  # after a use: PATCH and rollout come first
LONGEST_WAIT = 3600.0  # seconds; what containerd keeps for an import that waits is gone after a day
RETRY_SECONDS = 5.0


def last_line(output: str) -> str:
    """The last line of what a failed command printed."""
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


class Started(Protocol):
    """A line that runs on a node and waits for its input."""

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
            waiting = self._spares.get(line if ahead else ANY_LINE)
            given = body if ahead else line.replace("\n", " ").encode() + b"\n" + bytes(body or b"")
            while waiting:
                self._used.set()
                answer = await waiting.popleft().finish(given)
                # A container takes its shells along before they read anything; a daemon that was
                # restarted fails what waited for it. Both are looked at by a new one.
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
                    await anyio.sleep(RETRY_SECONDS)  # whoever needs the node learns it from its own call
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
