"""The control socket of a running `devloop watch`: requests in, answers of its handlers out.

Only this user can reach it: the folder is 0700, the socket 0600. What is no request is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import SocketStream

from devloop.control.protocol import (
    GONE,
    LONGEST_REQUEST,
    BadLineError,
    Handler,
    Json,
    Lines,
    error_message,
)
from devloop.errors import ConfigError, DevloopError, PlatformError
from devloop.ports import Report

MOST_CONNECTIONS = 64
IDLE = 10.0  # seconds in which a connection has to send its request


class _GoneError(Exception):
    """Nobody reads the answer any more."""


class ControlServer:
    """`run` serves until cancelled. `report` gets what a handler raises and nobody expected."""

    def __init__(self, handlers: Mapping[str, Handler], report: Report) -> None:
        self._handlers, self._report = handlers, report
        self._connections = 0

    async def run(self, path: Path) -> None:
        """Raises OSError where no socket can be made there."""
        listener = await anyio.create_unix_listener(path, mode=0o600)
        try:
            async with listener:
                await listener.serve(self._serve)
        finally:
            with suppress(OSError):
                path.unlink()  # noqa: ASYNC240 - one call, at the end

    async def _serve(self, stream: SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                with suppress(*GONE):
                    await self._answer(Lines(stream, LONGEST_REQUEST))
        finally:
            self._connections -= 1

    async def _answer(self, lines: Lines) -> None:
        if self._connections > MOST_CONNECTIONS:
            busy = f"{MOST_CONNECTIONS} connections are open already"
            await lines.send(error_message(PlatformError(busy, reason="Busy")))
            return
        request: Json | None = None
        with anyio.move_on_after(IDLE):
            try:
                request = await lines.receive()
            except BadLineError as error:
                await lines.send(error_message(_refusal(str(error))))
        if request is not None:
            await self._do(request, lines)

    async def _do(self, request: Json, lines: Lines) -> None:
        """Answer it, or give it up when nobody waits for the answer any more."""

        async def answer() -> None:
            with suppress(_GoneError, *GONE):
                await lines.send(await self._handled(request, lines))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            await lines.wait_for_end()
            group.cancel_scope.cancel()

    async def _handled(self, request: Json, lines: Lines) -> Json:
        """The last line of the answer."""
        name = request.get("do")
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return error_message(_refusal(f"{name!r:.60} is nothing to do", f"it is one of: {known}"))

        async def send(item: Json) -> None:
            try:
                await lines.send({"item": item})
            except GONE as error:
                raise _GoneError from error

        try:
            return {"answer": await handler(request, send)}
        except DevloopError as error:
            return error_message(error)
        except ValueError as error:
            return error_message(_refusal(f"{name}: {error}"))
        except _GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: one request ends no other
            return error_message(self._report(f"the request {name}", error))


def _refusal(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"request refused: {message}", reason="BadRequest", hint=hint)
