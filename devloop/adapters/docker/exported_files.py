"""The file system of an image as `docker export` lists it, to compare two images; not hot: docker package."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, cast

from devloop.adapters.docker.chunk_stream import ChunkStream
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import TEMPORARY, Engine
from devloop.errors import PlatformError

if TYPE_CHECKING:
    from docker import APIClient

# Made by the engine for each container, not by the image.
OF_THE_ENGINE = frozenset({".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"})
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One entry: type as in tar, permission bits, owner, link target, sha256 of the content."""

    kind: str
    mode: int
    owner: tuple[int, int]
    link: str
    digest: str


async def files_of(engine: Engine, ref: str) -> Mapping[str, Item]:
    """Every path of the image. A container is created for it, never started, and removed.

    Raises PlatformError.
    """
    what = f"the files of {ref}"
    try:
        return await engine.by_package(what, partial(_read, ref))
    except EngineRefusedError as refusal:
        raise PlatformError(f"reading {what}: {refusal.message}", reason=refusal.reason) from refusal


def differences(one: Mapping[str, Item], other: Mapping[str, Item]) -> list[str]:
    """A line for each path that is not the same in both, sorted by path."""
    found = []
    for path in sorted(one.keys() | other.keys()):
        left, right = one.get(path), other.get(path)
        if left == right:
            continue
        if left is None:
            found.append(f"{path}: only in the full build")
        elif right is None:
            found.append(f"{path}: only in the live image")
        else:
            found.append(f"{path}: {', '.join(_fields(left, right))}")
    return found


def _fields(left: Item, right: Item) -> Iterator[str]:
    if left.kind != right.kind:
        yield f"type {left.kind!r}, not {right.kind!r}"
    if left.mode != right.mode:
        yield f"mode {left.mode:o}, not {right.mode:o}"
    if left.owner != right.owner:
        yield f"owner {left.owner}, not {right.owner}"
    if left.link != right.link:
        yield f"link to {left.link}, not {right.link}"
    if left.digest != right.digest:
        yield "other content"


def _read(ref: str, client: APIClient) -> dict[str, Item]:
    container = client.create_container(ref, command=["-"], labels={TEMPORARY: "true"})["Id"]
    try:
        chunks: Iterator[bytes] = iter(client.export(container, chunk_size=CHUNK))
        stream = cast("IO[bytes]", ChunkStream(lambda: next(chunks, b"")))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            return {
                path: _item(archive, member)
                for member in archive
                if (path := member.name.rstrip("/").removeprefix("./")) not in OF_THE_ENGINE
            }
    finally:
        client.remove_container(container, v=True, force=True)


def _item(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Item:
    digest = ""
    if member.isreg() and (file := archive.extractfile(member)) is not None:
        total = hashlib.sha256()
        while piece := file.read(CHUNK):
            total.update(piece)
        digest = total.hexdigest()
    kind = member.type.decode()
    return Item("0" if kind == "1" else kind, member.mode, (member.uid, member.gid), member.linkname, digest)
