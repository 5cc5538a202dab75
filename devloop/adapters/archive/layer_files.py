"""The layers of an image that an engine holds, as files."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import IO

import anyio

from devloop.adapters.docker.engine import Engine
from devloop.borders import LAYER
from devloop.concurrency import Check, in_thread
from devloop.delta.outputs import LayerFile

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


async def layer_files(engine: Engine, ref: str, folder: Path) -> tuple[LayerFile, ...]:
    """The layers, lowest first, in files below `folder`.

    Raises LoadError for an image that cannot be taken apart, EngineRefusedError, PlatformError, OSError.
    """
    saved = folder / "image.tar"
    async with engine.save(ref) as archive, await anyio.open_file(saved, "wb") as file:
        async for piece in archive:
            await file.write(piece)
    return await in_thread(partial(_taken_apart, saved))


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
