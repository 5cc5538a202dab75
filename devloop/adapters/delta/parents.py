"""What devloop knows of images that deltas can stand on, kept in its state directory (S27)."""

from __future__ import annotations

import gzip
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, cast

import anyio
import anyio.to_thread

from devloop.adapters.archive.docker_archive import SavedLayers, is_description
from devloop.adapters.archive.oci_layout import config_digest, sha256
from devloop.adapters.delta.parent_files import KEEP, ParentFiles
from devloop.adapters.docker.blob_index import Blobs
from devloop.adapters.docker.engine import Engine
from devloop.adapters.tar_stream import TarStream
from devloop.borders import LAYER
from devloop.delta.delta import Parent
from devloop.delta.from_stage import layers_of_stages
from devloop.delta.layer_index import Layer, Layers
from devloop.dockerfile.plan import Plan
from devloop.model import Base, Image

WRITE_SECONDS = 1.0  # after a load: PATCH and rollout come first
BASES = "=bases"  # in the place of a service's name
LARGEST_BASE = 400_000_000  # bytes: reading a larger one takes longer than a full build
IN_MEMORY = 8 << 20  # bytes of a layer that is read; what is beyond lies in a file
LARGEST_JSON = 8 << 20  # of a manifest or a config


class ParentStore:
    """What is known, in memory and on disk."""

    def __init__(self, folder: Path, blobs: Blobs | None = None) -> None:
        """`blobs` learns what a containerd image store calls the layers that are read."""
        self._files = ParentFiles(folder)
        self._blobs = blobs or Blobs()
        self._parents: dict[tuple[str, str], Parent] = {}
        self._unwritten: dict[tuple[str, str], Parent] = {}
        self._late: anyio.Event | None = None  # set by `put_late`, while `write_late` runs

    async def get(self, service: str, fingerprint: str) -> Parent | None:
        """The parent that was built from this fingerprint, if it is known."""
        key = service, fingerprint
        if key not in self._parents:
            found = await anyio.to_thread.run_sync(self._files.read, service, fingerprint)
            if found is None:
                return None
            self._parents[key] = found
        return self._parents[key]

    def know(self, service: str, fingerprint: str, parent: Parent) -> None:
        """Remember it until the process ends."""
        self._parents[service, fingerprint] = parent
        for key in [known for known in self._parents if known[0] == service][:-KEEP]:
            del self._parents[key]

    async def put(self, service: str, fingerprint: str, parent: Parent) -> None:
        """Remember it, and write it down."""
        self.know(service, fingerprint, parent)
        await anyio.to_thread.run_sync(self._files.write, service, fingerprint, parent)

    async def put_late(self, service: str, fingerprint: str, parent: Parent) -> None:
        """Remember it, and write it down: while `write_late` runs, a little later, when no trip waits."""
        if self._late is None:
            await self.put(service, fingerprint, parent)
            return
        self.know(service, fingerprint, parent)
        self._unwritten[service, fingerprint] = parent
        self._late.set()

    async def write_late(self) -> None:
        """Writes what came late when its trip is likely over; what is left when it is cancelled, at once.

        A crash in between loses a record, which costs one full build.
        """
        self._late = anyio.Event()
        try:
            while True:
                await self._late.wait()
                await anyio.sleep(WRITE_SECONDS)
                self._late = anyio.Event()
                await self._write_all()
        finally:
            self._late = None
            with anyio.CancelScope(shield=True):
                await self._write_all()

    async def _write_all(self) -> None:
        while self._unwritten:
            key, parent = self._unwritten.popitem()
            await self.put(*key, parent)

    async def forget(self, service: str, fingerprint: str) -> None:
        """The image is gone where it was needed."""
        self._parents.pop((service, fingerprint), None)
        await anyio.to_thread.run_sync(self._files.remove, service, fingerprint)

    async def base(self, engine: Engine, base: Base) -> Parent | None:
        """An image that others are built from, read once; None if it cannot be done, or takes too long.

        Raises PlatformError, EngineRefusedError, LoadError for an image that cannot be taken apart.
        """
        known = await self.get(BASES, base.id.removeprefix("sha256:"))
        if known is None or sha256(known.config) != base.id:  # what was written down may be damaged
            facts = await engine.inspect(base.ref)
            if facts is None or facts.size > LARGEST_BASE:
                return None
            known = await self._learn(engine, base.ref, base.id, "")
            if known is not None:
                await self.put(BASES, base.id.removeprefix("sha256:"), known)
        return known

    async def learn(self, engine: Engine, image: Image, recipe: str) -> Parent | None:
        """Read a full build's layers from the engine, those that are not known; None if it cannot be done.

        Raises PlatformError, EngineRefusedError, LoadError for an image that cannot be taken apart.
        """
        return await self._learn(engine, image.ref, image.id, recipe, image.fingerprint.plan)

    async def _learn(
        self, engine: Engine, ref: str, image_id: str, recipe: str, plan: Plan | None = None
    ) -> Parent | None:
        with LAYER(f"the layers of {ref}"):
            return await self._taken_apart(engine, ref, image_id, recipe, plan)

    async def _taken_apart(
        self, engine: Engine, ref: str, image_id: str, recipe: str, plan: Plan | None
    ) -> Parent | None:
        facts = await engine.inspect(ref)
        if facts is None:
            return None
        if (await engine.info()).containerd_store:
            return await self._learn_blobs(engine, ref, image_id, recipe, plan)
        config = b""
        layers = SavedLayers(facts.diff_ids)
        brought = _of_stages(plan, facts.diff_ids)
        known = {d: layer for d in facts.diff_ids if (layer := await self._layer(d)) is not None}
        found = {d: layer for d, layer in known.items() if d not in brought or layer.digested}
        async with engine.save(ref) as archive:
            stream = TarStream(archive)
            async for entry in stream:
                diff_id = layers.diff_id(entry)
                if is_description(entry):
                    layers.learn(entry, await stream.read())
                elif config_digest(entry) == image_id:
                    config = await stream.read()
                elif diff_id and diff_id not in found:
                    found[diff_id] = await self._take(diff_id, stream, digests=diff_id in brought)
                if config and len(found) == len(set(facts.diff_ids)):
                    break
        if b"devloop delta" in config:
            return None  # which of its layers a full build gave, nothing shows any more
        if not config or set(facts.diff_ids) - found.keys():
            return None
        stack = Layers(tuple(found[diff_id] for diff_id in facts.diff_ids))
        return Parent(recipe, config, facts.diff_ids, stack, len(facts.diff_ids))

    async def _learn_blobs(
        self, engine: Engine, ref: str, image_id: str, recipe: str, plan: Plan | None
    ) -> Parent | None:
        """From an engine whose archive is an OCI layout: layers by blob digest, compressed or not, in any
        order; manifest and config among them say which is which."""
        layers: dict[str, Layer] = {}
        described_blobs: dict[str, bytes] = {}
        async with engine.save(ref) as archive:
            stream = TarStream(archive)
            async for entry in stream:
                folder, _, name = entry.name.rpartition("/")
                if entry.kind != "file" or folder != "blobs/sha256":
                    continue
                with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
                    async for piece in stream.pieces():
                        spool.write(piece)
                    spool.seek(0)
                    if entry.size <= LARGEST_JSON and spool.read(1) == b"{":
                        spool.seek(0)
                        described_blobs[f"sha256:{name}"] = spool.read()
                        continue
                    layers[f"sha256:{name}"] = await anyio.to_thread.run_sync(_read_blob, spool)
        config = described_blobs.get(image_id, b"")
        described = [
            one for blob in described_blobs.values() if _config_of(one := json.loads(blob)) == image_id
        ]
        if not config or not described or b"devloop delta" in config:
            return None
        diff_ids = tuple(str(diff_id) for diff_id in json.loads(config)["rootfs"]["diff_ids"])
        blobs = [str(layer["digest"]) for layer in described[0]["layers"]]
        if len(blobs) != len(diff_ids) or not layers.keys() >= set(blobs):
            return None
        self._blobs.learn(described[0], json.loads(config))
        brought, stack = _of_stages(plan, diff_ids), list[Layer]()
        for diff_id, blob in zip(diff_ids, blobs, strict=True):
            stack.append(layers[blob] if diff_id in brought else layers[blob].bare())
            await self._keep(diff_id, stack[-1])
        return Parent(recipe, config, diff_ids, Layers(tuple(stack)), len(diff_ids))

    async def _take(self, diff_id: str, stream: TarStream, *, digests: bool) -> Layer:
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
            async for piece in stream.pieces():
                spool.write(piece)
            spool.seek(0)
            layer = await anyio.to_thread.run_sync(partial(Layer.read, spool, digests=digests))
        await self._keep(diff_id, layer)
        return layer

    async def _keep(self, diff_id: str, layer: Layer) -> None:
        await anyio.to_thread.run_sync(self._files.write_layer, diff_id, layer)

    async def _layer(self, diff_id: str) -> Layer | None:
        return await anyio.to_thread.run_sync(self._files.layer, diff_id)


def _read_blob(spool: IO[bytes]) -> Layer:
    """A layer, compressed with gzip or not at all. Raises LoadError for what is neither."""
    spool.seek(0)
    packed = spool.read(2) == b"\x1f\x8b"
    spool.seek(0)
    if not packed:
        return Layer.read(spool, digests=True)
    with LAYER("a layer"), gzip.GzipFile(fileobj=spool, mode="rb") as unpacked:
        return Layer.read(cast(IO[bytes], unpacked), digests=True)


def _of_stages(plan: Plan | None, diff_ids: tuple[str, ...]) -> frozenset[str]:
    """The layers of which it counts what is in their files."""
    return layers_of_stages(plan, diff_ids) if plan is not None else frozenset()


def _config_of(manifest: object) -> str:
    """The config's digest in a manifest, "" if it is none."""
    config = manifest.get("config") if isinstance(manifest, dict) else None
    return str(config.get("digest") or "") if isinstance(config, dict) else ""
