"""Config digests (S2): the one name of an image that every engine and every node agrees on.

And what an engine with the containerd image store calls an image's layers, which is read at the same place.
"""

from __future__ import annotations

import json
from typing import Any

from devloop.adapters.docker.blob_index import Blob, Blobs
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import ImageFacts
from devloop.adapters.tar_stream import TarStream
from devloop.errors import PlatformError

SMALL = 4 << 20  # manifests, indexes and configs are smaller than this


class Digests:
    """The config digests of one engine's images, remembered by the engine's own Id, which never changes."""

    def __init__(self, engine: Engine, blobs: Blobs | None = None) -> None:
        self._engine = engine
        self.blobs = blobs or Blobs()
        self._known: dict[str, str] = {}

    def learn(self, facts: ImageFacts, digest: str) -> None:
        """Remember what a build or a load reported."""
        self._known[_key(facts)] = digest

    async def of(self, ref: str, facts: ImageFacts) -> str:
        """The config digest of an image that `inspect` found.

        On graph drivers that is the Id. On the containerd image store the Id is a manifest's digest. Where
        the builder has not noted the config's beside it, no call reports it: the image's own archive is read
        until both have passed, once per Id.
        """
        if not (await self._engine.info()).containerd_store:
            return facts.id
        if facts.config:
            return facts.config
        if not facts.diff_ids:
            return facts.id  # of some layers it has snapshots only: it shows nothing, nor does its archive
        key = _key(facts)
        known = self._known.get(key) or self.blobs.config(key)
        if known is None:
            try:
                known = await self._read(ref, facts)
            except EngineRefusedError:
                return facts.id  # it cannot be saved
            self.blobs.name(key, known)
        return known

    async def layers(self, ref: str, facts: ImageFacts) -> dict[str, Blob]:
        """The blobs of an image's layers in the engine's archive by diff_id; none on graph drivers.

        Raises PlatformError.
        """
        if not (await self._engine.info()).containerd_store:
            return {}
        if len(found := self.blobs.of(facts.diff_ids)) < len(set(facts.diff_ids)):
            await self._read(ref, facts)
            found = self.blobs.of(facts.diff_ids)
        return found

    async def _read(self, ref: str, facts: ImageFacts) -> str:
        blobs: dict[str, Any] = {}
        async with self._engine.save(ref) as archive:
            stream = TarStream(archive)
            try:
                async for entry in stream:
                    if entry.kind != "file" or entry.size > SMALL:
                        continue
                    name = entry.name.removeprefix("blobs/sha256/")
                    blobs["sha256:" + name if name != entry.name else name] = _json(await stream.read())
                    digest, manifest = _found(blobs, facts)
                    if digest:
                        self.blobs.learn(manifest, blobs[digest])
                        return digest
            except ValueError as error:
                raise PlatformError(f"docker save {ref}: {error}", reason="BrokenArchive") from error
        raise PlatformError(
            f"image {ref}: the engine's archive holds no config for {facts.platform}",
            reason="NoConfig",
            hint=f"docker image rm {ref}, then let devloop fetch or build it again",
        )


def _key(facts: ImageFacts) -> str:
    return f"{facts.id} {facts.platform}"


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _found(blobs: dict[str, Any], facts: ImageFacts) -> tuple[str, dict[str, Any]]:
    """The digest of the config whose layers are the image's, and its manifest, once both have passed."""
    for digest, config in blobs.items():
        if not digest.startswith("sha256:") or not isinstance(config, dict):
            continue
        layers = (config.get("rootfs") or {}).get("diff_ids")
        if not layers or tuple(layers) != facts.diff_ids or config.get("architecture") != facts.architecture:
            continue
        for manifest in blobs.values():
            if isinstance(manifest, dict) and (manifest.get("config") or {}).get("digest") == digest:
                return digest, manifest
    return "", {}
