"""The layers of an image that an engine holds, as files."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import IO

import anyio

from devloop.adapters.docker.engine import Engine
from devloop.borders import LAYER
from devloop.concurrency import Check, in_thread
from devloop.delta.outputs import LayerFile, LayerFiles

LARGE = 32 << 20  # bytes of an image of which only what is needed is read
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


async def layer_files(
    engine: Engine, ref: str, folder: Path, places: Sequence[str], known: Collection[str]
) -> LayerFiles:
    """The layers, lowest first, in files below `folder`. `places`: the path that each of them brings, and
    nothing beside it; of a large image those whose diff_ids are `known` are left out.

    Raises LoadError for an image that cannot be taken apart, EngineRefusedError, PlatformError, OSError.
    """
    facts = await engine.inspect(ref)
    diff_ids = facts.diff_ids if facts is not None and len(facts.diff_ids) == len(places) else ()
    if facts is not None and facts.size > LARGE and diff_ids:
        wanted = [place for place, diff_id in zip(places, diff_ids, strict=True) if diff_id not in known]
        return LayerFiles(await _of_container(engine, ref, folder, wanted), diff_ids)
    saved = folder / "image.tar"
    async with engine.save(ref) as archive:
        await _written(archive, saved)
    return LayerFiles(await in_thread(partial(_taken_apart, saved)), diff_ids)


async def _of_container(
    engine: Engine, ref: str, folder: Path, places: Sequence[str]
) -> tuple[LayerFile, ...]:
    """What lies at these paths, by a container that is never started."""
    if not places:
        return ()
    container = await engine.create_container(ref)
    try:
        for place in places:
            async with aclosing(engine.archive(container, place)) as archive:
                await _written(archive, folder / f"{place}.tar")
    finally:
        with anyio.CancelScope(shield=True):
            await engine.remove_container(container)
    return tuple(LayerFile(folder / f"{place}.tar", 0) for place in places)


async def _written(archive: AsyncIterator[bytes], into: Path) -> None:
    async with await anyio.open_file(into, "wb") as file:
        async for piece in archive:
            await file.write(piece)


def _taken_apart(saved: Path, check: Check) -> tuple[LayerFile, ...]:
    layers: list[LayerFile] = []
    with LAYER("the layers of the build"), tarfile.open(saved, mode="r:") as image:
        described = json.loads(_opened(image, "manifest.json").read())[0]
        config = json.loads(_opened(image, described["Config"]).read())
        for name, diff_id in zip(described["Layers"], config["rootfs"]["diff_ids"], strict=True):
            check()
            member = _followed(image, name)
            into = saved.with_name(f"{len(layers)}.tar")
            content = _opened(image, member.name)
            packed = content.read(len(_GZIP)) == _GZIP
            content.seek(0)
            layer = _unpacked(content, into) if packed else LayerFile(saved, member.offset_data)
            if f"sha256:{_digest(layer, None if packed else member.size)}" != diff_id:
                raise ValueError(f"{name} is not the layer {diff_id}")
            layers.append(layer)
    return tuple(layers)


def _digest(layer: LayerFile, size: int | None) -> str:
    """Of so many bytes from where the layer begins; None = to the end of the file."""
    digest = hashlib.sha256()
    with layer.path.open("rb") as file:
        file.seek(layer.start)
        left = size if size is not None else layer.path.stat().st_size
        while left and (piece := file.read(min(_CHUNK, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def _followed(image: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    """The member of this name; a layer that occurs twice is a link the second time."""
    member = image.getmember(name)
    if member.issym():
        folder = Path("/", name).parent
        return image.getmember(str((folder / member.linkname).resolve().relative_to("/")))
    return member


def _opened(image: tarfile.TarFile, name: str) -> IO[bytes]:
    opened = image.extractfile(name)
    if opened is None:
        raise ValueError(f"{name} is no file")
    return opened


def _unpacked(content: IO[bytes], into: Path) -> LayerFile:
    with gzip.GzipFile(fileobj=content, mode="rb") as unpacked, into.open("wb") as file:
        shutil.copyfileobj(unpacked, file)
    return LayerFile(into, 0)
