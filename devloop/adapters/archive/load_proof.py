"""Whether a Docker engine with the containerd image store really holds a delta: it says "loaded" in any case.

Such an engine only prints that it could not unpack an image, and keeps its tag. So the image is looked at by
its manifest, which names the config, and one of its changed files is read from a container of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import aclosing

import anyio

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.tar_stream import TarStream
from devloop.delta.layer_index import WHITEOUT
from devloop.errors import LoadError, PlatformError
from devloop.model import Archive, Image


async def prove(engine: Engine, image: Image, manifest: bytes, digests: Digests) -> None:
    """Raises LoadError, with the tag taken away, if the engine holds another image; PlatformError.

    `manifest` is what was sent. An engine lists no layers of an image of which it has snapshots, and not all
    blobs.
    """
    assert image.archive is not None
    facts = await engine.inspect(image.ref)
    expected = oci.sha256(manifest)
    try:
        if facts is None or facts.id != expected or facts.diff_ids not in ((), image.archive.diff_ids):
            raise _unproven(image, f"it holds {facts.id if facts else 'no such image'}, not {expected}")
        path, digest = changed_file(image.archive)
        try:
            found = await _read(engine, image.ref, path)
        except EngineRefusedError as refusal:
            raise _unproven(image, refusal.message) from refusal
        if path and found != digest:
            raise _unproven(image, f"/{path} is not what the delta holds")
    except LoadError:
        with anyio.CancelScope(shield=True):
            await engine.remove(image.ref)
        raise
    digests.learn(facts, image.id)
    if facts.diff_ids:
        digests.blobs.learn(json.loads(manifest), json.loads(image.archive.config))


def changed_file(archive: Archive) -> tuple[str, str]:
    """The smallest file of the topmost layer, with its content's sha256; ("", "") if it only deletes."""
    with tarfile.open(fileobj=io.BytesIO(archive.layer)) as layer:
        files = [one for one in layer if one.isreg() and not one.name.rpartition("/")[2].startswith(WHITEOUT)]
        smallest = min(files, key=lambda one: one.size, default=None)
        opened = layer.extractfile(smallest) if smallest is not None else None
        if smallest is None or opened is None:
            return "", ""
        return smallest.name, hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]


async def _read(engine: Engine, ref: str, path: str) -> str | None:
    """The sha256 of a file in a container that is never started: the engine has to stack all layers."""
    container = await engine.create_container(ref)
    try:
        if not path:
            return None
        async with aclosing(engine.archive(container, path)) as pieces:
            stream = TarStream(pieces)
            try:
                async for entry in stream:
                    if entry.kind != "file":
                        return None
                    digest = hashlib.sha256()
                    async for piece in stream.pieces():
                        digest.update(piece)
                    return digest.hexdigest()
            except ValueError as error:
                raise PlatformError(f"reading /{path} of {ref}: {error}", reason="BrokenArchive") from error
        return None
    finally:
        with anyio.CancelScope(shield=True):
            await engine.remove_container(container)


def _unproven(image: Image, why: str) -> LoadError:
    return LoadError(
        f"load of {image.ref}: the engine reported success, but {why}",
        reason="NotUnpacked",
        hint="the whole image is sent instead",
    )
