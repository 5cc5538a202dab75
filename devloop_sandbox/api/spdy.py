"""SPDY/3.1, the server's side and only what `kubectl port-forward` uses: streams, data, an end."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200\0OK "
    "version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
# The dictionary of the SPDY/3 specification: each word after its length, then the text.
DICTIONARY = (
    b"".join(struct.pack("!I", len(word)) + word.replace("\0", " ").encode() for word in _WORDS.split())
    + _TEXT.encode()
)

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING = 1, 2, 3, 6
_FIN = 1
_MAX_DATA = 32768

Write = Callable[[bytes], Awaitable[None]]


class Stream:
    """One stream that the client opened; iterating gives its data until the client's end."""

    def __init__(self, session: Session, number: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self._session = session
        self._number = number
        self._data: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes | None) -> None:
        """What arrived; None is the end."""
        self._data.put_nowait(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self._data.get()) is not None:
            yield data

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), _MAX_DATA):
            part = data[start : start + _MAX_DATA]
            await self._session.write(struct.pack("!II", self._number, len(part)) + part)

    async def end(self) -> None:
        """No more from this side."""
        await self._session.write(struct.pack("!II", self._number, _FIN << 24))


class Session:
    """One connection. `run` reads it to its end and puts the client's streams into `streams`."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.streams: asyncio.Queue[Stream | None] = asyncio.Queue()
        self._open: dict[int, Stream] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._rest = b""

    @property
    def count(self) -> int:
        """Streams that the client may still send on."""
        return len(self._open)

    async def run(self, chunks: AsyncIterator[bytes]) -> None:
        """Until the client is gone; then every stream ends."""
        try:
            async for chunk in chunks:
                self._rest += chunk
                while len(self._rest) >= 8:
                    head, size = struct.unpack("!II", self._rest[:8])
                    length = size & 0xFFFFFF
                    if len(self._rest) < 8 + length:
                        break
                    body, self._rest = self._rest[8 : 8 + length], self._rest[8 + length :]
                    await self._frame(head, size >> 24, body)
        finally:
            for stream in self._open.values():
                stream.feed(None)
            self.streams.put_nowait(None)

    async def _frame(self, head: int, flags: int, body: bytes) -> None:
        if not head >> 31:
            stream = self._open.pop(head, None) if flags & _FIN else self._open.get(head)
            if stream is not None:
                if body:
                    stream.feed(body)
                if flags & _FIN:
                    stream.feed(None)
            return
        kind = head & 0xFFFF
        if kind == _SYN_STREAM:
            await self._opened(struct.unpack("!I", body[:4])[0] & 0x7FFFFFFF, flags, body[10:])
        elif kind == _PING:
            await self._control(_PING, body)
        elif kind == _RST_STREAM and (lost := self._open.pop(struct.unpack("!I", body[:4])[0], None)):
            lost.feed(None)

    async def _opened(self, number: int, flags: int, block: bytes) -> None:
        stream = Stream(self, number, self._headers(block))
        if flags & _FIN:
            stream.feed(None)
        else:
            self._open[number] = stream
        empty = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self._control(_SYN_REPLY, struct.pack("!I", number) + empty)
        self.streams.put_nowait(stream)

    def _headers(self, block: bytes) -> dict[str, str]:
        raw = self._inflate.decompress(block)
        (count,) = struct.unpack_from("!I", raw)
        words: list[str] = []
        at = 4
        for _ in range(2 * count):
            (length,) = struct.unpack_from("!I", raw, at)
            words.append(raw[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}

    async def _control(self, kind: int, body: bytes) -> None:
        await self.write(struct.pack("!HHI", 0x8003, kind, len(body)) + body)
