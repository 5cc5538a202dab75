"""What goes over the control socket: JSON lines, each with the version of what they mean.

A request is one line: {"version": 1, "do": NAME, ...}. Its answer is any number of lines with `item`, and one
last line with `answer`, or with `error`: what DevloopError has. A connection carries one request; whoever
closes it gives the answer up. A version, a name or a value that is not known is an `error`, and nothing was
done.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from devloop.errors import ConfigError, DevloopError, PlatformError, StageError

VERSION = 1
LONGEST_REQUEST = 64 * 1024  # bytes of a line
LONGEST_ANSWER = 4 * 1024 * 1024

Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]
# A request and where its items go to in, the last answer out. Raises DevloopError, and ValueError for a
# field that is not what it should be.
Handler = Callable[[Json, Send], Awaitable[Json]]
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_KINDS: tuple[type[DevloopError], ...] = (ConfigError, PlatformError, StageError)


class BadLineError(Exception):
    """What came is no line of this protocol."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Text that is not UTF-8 (names of files) is replaced where it is not."""
    text = json.dumps({"version": VERSION, **message}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> Json:
    """Raises BadLineError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLineError("not a line of JSON") from error
    if not isinstance(message, dict):
        raise BadLineError("not a JSON object")
    if message.get("version") != VERSION:
        raise BadLineError(f"version {message.get('version')!r:.20} is not spoken here, but {VERSION}")
    return message


class Lines:
    """The lines of a connection, both ways."""

    def __init__(self, stream: ByteStream, longest: int) -> None:
        self._stream, self._longest = stream, longest
        self._received = BufferedByteReceiveStream(stream)

    async def receive(self) -> Json:
        """The next one. Raises BadLineError, EndOfStream, BrokenResourceError."""
        try:
            return decode(await self._received.receive_until(b"\n", self._longest))
        except anyio.DelimiterNotFound as error:
            raise BadLineError(f"longer than {self._longest} bytes") from error
        except anyio.IncompleteRead as error:
            raise anyio.EndOfStream from error

    async def send(self, message: Mapping[str, Any]) -> None:
        await self._stream.send(encode(message))

    async def wait_for_end(self) -> None:
        """Return when the other end is gone; whatever it sends besides does not count."""
        with suppress(*GONE):
            while True:
                await self._stream.receive()


def error_message(error: DevloopError) -> Json:
    kind = next((kind.__name__ for kind in _KINDS if isinstance(error, kind)), "DevloopError")
    fields = {"reason": error.reason, "message": error.message, "hint": error.hint}
    return {"error": {"kind": kind, **fields, "evidence": list(error.evidence)}}


def error_from(message: Json) -> DevloopError | None:
    """The error that an answer carries, None where it carries none."""
    found = message.get("error")
    if not isinstance(found, dict):
        return None
    kinds: dict[str, type[DevloopError]] = {kind.__name__: kind for kind in _KINDS}
    kind = kinds.get(str(found.get("kind")), DevloopError)
    hint, evidence = found.get("hint"), found.get("evidence")
    return kind(
        str(found.get("message", "no reason given")),
        reason=str(found.get("reason", "")),
        hint=None if hint is None else str(hint),
        evidence=tuple(map(str, evidence)) if isinstance(evidence, list) else (),
    )
