"""Tar archives read while they arrive: header by header, content in pieces, nothing kept."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

BLOCK = 512
SLICE = 1 << 20
LARGEST_EXTRA = 1 << 24  # bytes of a header's own content: names, pax records


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `header` is everything before its content, byte for byte, long names included."""

    name: str
    size: int
    kind: str  # "file", "link" (symbolic), "dir", "other"
    target: str
    header: bytes


class TarStream:
    """Reads a tar from pieces of bytes: `async for entry in stream`, then `pieces()` or `read()` or nothing.

    What is not read of an entry is skipped. Raises ValueError if the bytes are not a tar.
    """

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._buffer = bytearray()
        self._left = 0  # bytes of the current entry that nobody read, padding excluded
        self._padding = 0
        self.position = 0  # bytes taken from the source

    def __aiter__(self) -> TarStream:
        return self

    async def __anext__(self) -> Entry:
        async for _ in self.pieces():
            pass
        prefix, pax, long_name = b"", {}, ""
        while True:
            block = await self._exactly(BLOCK)
            if block.count(0) == BLOCK:
                raise StopAsyncIteration
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise ValueError(f"not a tar header at byte {self.position - BLOCK}: {error}") from error
            if info.type not in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
                break
            if not 0 <= info.size <= LARGEST_EXTRA:
                raise ValueError(f"a tar header of {info.size} bytes")
            extra = await self._exactly(info.size + -info.size % BLOCK)
            prefix += block + extra
            if info.type == tarfile.XHDTYPE:
                pax = _pax(extra[: info.size])
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = extra[: info.size].rstrip(b"\0").decode(errors="surrogateescape")
        size = int(pax.get("size", info.size))
        if size < 0 or info.size < 0:
            raise ValueError(f"a tar entry of {size} bytes")
        self._left = size if info.isreg() else 0
        self._padding = -self._left % BLOCK
        name = pax.get("path") or long_name or info.name
        target = pax.get("linkpath") or info.linkname
        kind = "file" if info.isreg() else "link" if info.issym() else "dir" if info.isdir() else "other"
        return Entry(name.rstrip("/"), self._left, kind, target, prefix + block)

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is left of the current entry's content."""
        while self._left:
            piece = await self._some(self._left)
            self._left -= len(piece)
            yield piece
        if self._padding:
            padding, self._padding = self._padding, 0
            await self._exactly(padding)

    async def read(self) -> bytes:
        """What is left of the current entry's content, in one piece."""
        return b"".join([piece async for piece in self.pieces()])

    async def _some(self, most: int) -> bytes:
        if not self._buffer:
            await self._fill()
        piece = bytes(memoryview(self._buffer)[:most])
        del self._buffer[:most]
        return piece

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._fill()
        return await self._some(size) if size else b""

    async def _fill(self) -> None:
        try:
            piece = await anext(self._source)
        except StopAsyncIteration:
            raise ValueError(f"the tar ended in the middle, at byte {self.position}") from None
        self.position += len(piece)
        self._buffer += piece


@dataclass(frozen=True, slots=True)
class Pieces:
    """Bytes in several parts that are never put together: an archive around a layer holds no second copy."""

    parts: tuple[bytes, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def __iter__(self) -> Iterator[bytes]:
        """In order, at most SLICE bytes each."""
        for part in self.parts:
            for start in range(0, len(part), SLICE):
                yield part if len(part) <= SLICE else part[start : start + SLICE]


def parts_of(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """As `member`, without a copy of the content."""
    return header(name, len(content)), content, bytes(-len(content) % BLOCK)


def padded(content: bytes) -> bytes:
    """The content as it stands in a tar: filled up to whole blocks."""
    return content + bytes(-len(content) % BLOCK)


def member(name: str, content: bytes) -> bytes:
    """One regular file as tar bytes, header and padded content; no time, so the same bytes each time."""
    return header(name, len(content)) + padded(content)


def header(name: str, size: int, mode: int = 0o644) -> bytes:
    """The header of a regular file, without a time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    return info.tobuf(tarfile.GNU_FORMAT)


END = bytes(2 * BLOCK)


def _pax(records: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while records.strip(b"\0"):
        length, _, _ = records.partition(b" ")
        try:
            end = int(length)
        except ValueError as error:
            raise ValueError("a broken pax record") from error
        key, _, value = records[len(length) + 1 : end - 1].partition(b"=")
        found[key.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
        if not len(length) < end <= len(records):
            raise ValueError("a broken pax record")  # of no length: it would be read for ever
        records = records[end:]
    return found
