"""The files of an image's layers that may be secrets, read from what `docker save` streams."""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import IO, cast

import anyio.from_thread
import anyio.to_thread

from devloop.adapters.docker.chunk_stream import ChunkStream
from devloop.adapters.docker.engine import Engine
from devloop.checks.built import PACKAGES, suspicious
from devloop.checks.facts import LayerFile

PRIVATE_KEY = re.compile(rb"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----")
HEAD, LARGEST = 64, 20_000  # bytes: what is read of a file, and the largest that can be a key


async def suspicious_files(engine: Engine, ref: str) -> tuple[LayerFile, ...]:
    """Also those that a later layer removes. Raises PlatformError, EngineRefusedError."""
    async with engine.save(ref) as pieces:
        return await anyio.to_thread.run_sync(_scan, pieces)


def _scan(pieces: AsyncIterator[bytes]) -> tuple[LayerFile, ...]:
    async def following() -> bytes:
        return await anext(pieces, b"")

    raw = ChunkStream(lambda: anyio.from_thread.run(following))
    return tuple(dict.fromkeys(files_of(cast("IO[bytes]", raw))))


def files_of(stream: IO[bytes]) -> Iterator[LayerFile]:
    """The suspicious files of a saved image, in the old layout (ID/layer.tar) and OCI's (blobs/sha256/…)."""
    with tarfile.open(fileobj=stream, mode="r|") as saved:
        for member in saved:
            layer = saved.extractfile(member) if member.isfile() else None
            if layer is None or member.name.endswith(".json"):
                continue
            try:
                with tarfile.open(fileobj=layer, mode="r|*") as inner:
                    yield from _suspicious(inner)
            except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError):
                continue  # a manifest or a config


def _suspicious(layer: tarfile.TarFile) -> Iterator[LayerFile]:
    for member in layer:
        path = "/" + member.name.removeprefix("./").lstrip("/")
        if not member.isfile() or PACKAGES.search(path):
            continue
        key = False
        if HEAD < member.size <= LARGEST:
            content = layer.extractfile(member)
            key = content is not None and PRIVATE_KEY.match(content.read(HEAD)) is not None
        if suspicious(found := LayerFile(path, key)):
            yield found
