"""BuildKit's trace messages (moby.buildkit.v1.StatusResponse), decoded by hand: it takes a few fields."""

from __future__ import annotations

from collections.abc import Iterator

from devloop.adapters.build.transcript import Transcript

Value = int | bytes


def follow(message: bytes, transcript: Transcript) -> None:
    """Feed one StatusResponse to a transcript. Raises ValueError if the bytes are none."""
    for field, value in fields(message):
        if field == 1 and isinstance(value, bytes):
            _vertex(dict(fields(value)), transcript)
        elif field == 3 and isinstance(value, bytes):
            log = dict(fields(value))
            for line in _text(log.get(4)).splitlines():
                transcript.say(_text(log.get(1)), line)


def _vertex(vertex: dict[int, Value], transcript: Transcript) -> None:
    """Vertex: 1 digest, 3 name, 4 cached, 6 completed, 7 error."""
    key = _text(vertex.get(1))
    transcript.begin(key, _text(vertex.get(3)))
    error = _text(vertex.get(7))
    if error or vertex.get(4) or 6 in vertex:
        transcript.end(key, error)


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The (number, value) pairs of a protobuf message: varints as int, everything else as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError("a protobuf message that was cut off")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a broken protobuf varint")
        byte = message[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return result, at


def _text(value: Value | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
