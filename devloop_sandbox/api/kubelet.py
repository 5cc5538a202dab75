"""What the API server asks of the node: logs, exec and port-forward of a pod's containers."""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from typing import Protocol

from devloop_sandbox.objects.resources import Obj


class ExecSession(Protocol):
    """A command running in a container. Iterating yields (channel, bytes): 1 stdout, 2 stderr."""

    @property
    def exit_code(self) -> int | None:
        """None until the iteration has ended."""

    async def send(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def close(self) -> None:
        """Let go of the command; called when the client went away too."""

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]: ...


class Kubelet(Protocol):
    """Refusals are ApiError; `pod` is the stored object, `container` a name in it.

    `started`: the node has taken over what ran before, and from now on waits for an engine that goes away.
    """

    started: bool

    def logs(
        self,
        pod: Obj,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_seconds: int | None,
        since_time: str | None,
        previous: bool,
        timestamps: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]: ...

    async def exec(
        self,
        pod: Obj,
        container: str,
        command: list[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> ExecSession: ...

    async def port_forward(self, pod: Obj, port: int) -> tuple[StreamReader, StreamWriter]: ...
