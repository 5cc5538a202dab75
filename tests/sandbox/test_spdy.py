"""SPDY as `kubectl port-forward` speaks it: streams come, carry data, end, and are forgotten."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator

from devloop_sandbox.api.spdy import DICTIONARY, Session


class Client:
    """Writes frames; `sent` is what the server answered."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self.sent = b""

    async def take(self, data: bytes) -> None:
        self.sent += data

    def open(self, number: int, **headers: str) -> bytes:
        raw = struct.pack("!I", len(headers))
        for word in (part for pair in headers.items() for part in pair):
            raw += struct.pack("!I", len(word)) + word.encode()
        block = self._deflate.compress(raw) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack("!IIH", number, 0, 0) + block
        return struct.pack("!HHI", 0x8003, 1, len(body)) + body

    def data(self, number: int, data: bytes, *, end: bool = False) -> bytes:
        return struct.pack("!II", number, int(end) << 24 | len(data)) + data


async def test_a_stream_carries_its_headers_and_data_whatever_the_chunks_are() -> None:
    client = Client()
    everything = client.open(1, streamtype="data", port="80") + client.data(1, b"hello ")
    everything += client.data(1, b"world", end=True)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(everything), 7):
            yield everything[at : at + 7]

    session = Session(client.take)
    await session.run(chunks())
    stream = session.streams.get_nowait()
    assert stream is not None
    assert stream.headers == {"streamtype": "data", "port": "80"}
    assert b"".join([part async for part in stream]) == b"hello world"
    assert session.streams.get_nowait() is None
    assert client.sent.startswith(struct.pack("!HH", 0x8003, 2))  # SYN_REPLY


async def test_streams_that_have_ended_are_forgotten() -> None:
    """A forward that is held all day has as many as there were connections."""
    client, seen = Client(), []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(1, 2001, 2):
            yield client.open(number, streamtype="data") + client.data(number, b"x", end=True)
            seen.append(session.count)

    session = Session(client.take)
    await session.run(chunks())
    assert max(seen) <= 1
