"""Commands run in a process group of their own, so that cancelling ends them with all their children."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE

import anyio
from anyio.abc import ByteReceiveStream, Process

from devloop import activity
from devloop.concurrency import closed
from devloop.errors import PlatformError
from devloop.signals import end_with_us

LONGEST_LINE = 1 << 16  # bytes; of a longer line of standard error the end is kept


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended. `out` is the whole standard output, `err` the last lines of standard error."""

    code: int
    out: bytes
    err: tuple[str, ...]

    def tail(self, lines: int = 20) -> tuple[str, ...]:
        """The last lines that say something, wherever they were written."""
        text = self.err or tuple(self.out.decode(errors="replace").splitlines())
        return tuple(line for line in text if line.strip())[-lines:]


class Running:
    """A command that was started. Whoever starts one ends it: by `finish`, or by `aclose`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, argv: Sequence[str], environment: Mapping[str, str], *, cwd: str | None = None, fed: bool = False
    ) -> Running:
        """Start a command; `fed`: `finish` may give it input. Raises PlatformError if there is none such."""
        try:
            process = await anyio.open_process(
                list(argv),
                stdin=PIPE if fed else DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise PlatformError(
                f"{argv[0]}: {error.strerror or error}",
                reason="NoSuchCommand",
                hint=f"install {argv[0]}, or put it on PATH",
            ) from error
        end_with_us.add(process.pid)
        return cls(process)

    async def finish(
        self,
        *,
        on_line: Callable[[str], None] | None = None,
        on_out: Callable[[str], None] | None = None,
        body: AsyncIterable[bytes] | None = None,
        most: int | None = None,
        alone: bool = False,
    ) -> Finished:
        """Run it to its end, as `run` does. `on_out` gets each line of its standard output, which is not
        kept then. `alone`: what it left behind ends with it."""
        process = self._process
        out: list[bytes] = []
        err: list[str] = []
        try:
            async with anyio.create_task_group() as group:
                assert process.stdout is not None
                assert process.stderr is not None
                if on_out is None:
                    group.start_soon(_collect, process.stdout, out, most)
                else:
                    group.start_soon(_lines, process.stdout, [], on_out)
                group.start_soon(_lines, process.stderr, err, on_line)
                if process.stdin is not None:
                    await _feed(process, body)
                await process.wait()
                if alone:  # whoever holds its output open would be waited for
                    _signal(process, signal.SIGKILL)
        except BaseExceptionGroup as failures:
            if len(failures.exceptions) == 1:  # the task group's wrapping says nothing
                raise failures.exceptions[0] from None
            raise
        finally:
            if alone:
                _signal(process, signal.SIGKILL)
            await self.aclose()
            await closed(body)
        assert process.returncode is not None
        return Finished(process.returncode, b"".join(out), tuple(err))

    async def aclose(self) -> None:
        """Nothing of the command outlives this, children included."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:  # what a command left behind on purpose (ssh-agent) stays
                # Not SIGTERM first: an engine ends what a client began as soon as the connection is closed.
                _signal(self._process, signal.SIGKILL)
            await self._process.aclose()
        end_with_us.discard(self._process.pid)


async def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    on_line: Callable[[str], None] | None = None,
    body: AsyncIterable[bytes] | None = None,
    cwd: str | None = None,
    most: int | None = None,
) -> Finished:
    """Run a command to its end; `on_line` gets each line of its standard error, `body` is its input.

    Cancelling ends the whole process group before it returns. Raises PlatformError if there is no such
    command, or if it prints more than `most` bytes. A body that fails ends the command and passes on.
    """
    running = await Running.start(argv, environment, cwd=cwd, fed=body is not None)
    return await running.finish(on_line=on_line, body=body, most=most)


async def _collect(stream: ByteReceiveStream, into: list[bytes], most: int | None) -> None:
    size = 0
    async for piece in stream:
        activity.note()
        into.append(piece)
        size += len(piece)
        if most is not None and size > most:
            raise PlatformError(f"it printed more than {most >> 20} MB", reason="BadOutput")


async def _lines(stream: ByteReceiveStream, into: list[str], on_line: Callable[[str], None] | None) -> None:
    rest = b""
    async for piece in stream:
        activity.note()
        *lines, rest = (rest + piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            _take(line, into, on_line)
        rest = rest[-LONGEST_LINE:]
    if rest:
        _take(rest, into, on_line)


def _take(line: bytes, into: list[str], on_line: Callable[[str], None] | None) -> None:
    text = line.decode(errors="replace").rstrip()
    into.append(text)
    del into[:-2000]
    if on_line is not None:
        on_line(text)


async def _feed(process: Process, body: AsyncIterable[bytes] | None) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # its exit code reports why
        if body is not None:
            async for piece in body:
                await process.stdin.send(piece)
                activity.note()
    await process.stdin.aclose()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
