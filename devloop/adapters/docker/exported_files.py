"""The file system of an image as `docker export` lists it, to compare two images; not hot: docker package."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, cast

from devloop.adapters.docker.chunk_stream import ChunkStream
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import TEMPORARY, Engine
from devloop.adapters.docker.housekeeping import open_client
from devloop.concurrency import in_daemon_thread
from devloop.errors import PlatformError

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
    endpoint = await engine.endpoint()
    return await in_daemon_thread(partial(_read, endpoint, ref))


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


def _read(endpoint: Endpoint, ref: str) -> dict[str, Item]:
    import requests
    from docker import errors

    what = f"reading the files of {ref} from {endpoint.host}"
    try:
        client = open_client(endpoint)
    except (errors.DockerException, requests.RequestException, OSError) as error:
        raise PlatformError(f"{what}: {error}") from error
    try:
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
    except (errors.DockerException, OSError, ValueError, tarfile.TarError, LookupError) as error:
        raise PlatformError(f"{what}: {error}") from error
    finally:
        client.close()


def _item(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Item:
    digest = ""
    if member.isreg() and (file := archive.extractfile(member)) is not None:
        total = hashlib.sha256()
        while piece := file.read(CHUNK):
            total.update(piece)
        digest = total.hexdigest()
    kind = member.type.decode()
    return Item("0" if kind == "1" else kind, member.mode, (member.uid, member.gid), member.linkname, digest)
