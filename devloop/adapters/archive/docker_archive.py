"""Image archives without the layers that the other side has: what a Docker engine on graph drivers takes.

Such an engine looks a layer up by its chain ID before it opens the layer's file, so the file may be missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devloop.adapters.docker.blob_index import Blob
from devloop.adapters.tar_stream import END, Entry, Pieces, TarStream, member, parts_of
from devloop.model import Archive


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain ID of each layer, lowest first: what engines and containerd call a layer on its parents."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if not chain:
            chain.append(diff_id)
        else:
            chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}")
    return tuple(chain)


def delta(archive: Archive, ref: str) -> Pieces:
    """A delta image as a Docker archive: config, manifest and the new layers."""
    config = f"{hashlib.sha256(archive.config).hexdigest()}.json"
    new = dict(archive.new)  # a layer may occur twice: the empty one
    layers = [f"{diff_id.removeprefix('sha256:')}/layer.tar" for diff_id in archive.diff_ids]
    manifest = json.dumps([{"Config": config, "RepoTags": [ref], "Layers": layers}]).encode()
    # Layers must name as many entries as the config has diff_ids; those that are not here may be any string.
    blobs = (parts_of(f"{diff_id.removeprefix('sha256:')}/layer.tar", blob) for diff_id, blob in new.items())
    return Pieces(
        (
            member(config, archive.config),
            *(part for parts in blobs for part in parts),
            member("manifest.json", manifest) + END,
        )
    )


@dataclass(slots=True)
class Tally:
    """Bytes of one transfer, counted while it runs."""

    sent: int = 0
    skipped: int = 0


class SavedLayers:
    """Tells which member of `docker save`'s stream is which layer.

    Engines up to 24 name a layer's folder by a version 1 ID, which is recomputed from the folder's `json`;
    later ones name the blob by its digest, which is not the layer's own where it is compressed: `blobs` by
    diff_id, for an engine with the containerd image store.
    """

    def __init__(self, diff_ids: Sequence[str], blobs: Mapping[str, Blob] | None = None) -> None:
        self.diff_ids = tuple(diff_ids)
        self._blobs = blobs or {}
        self._by_digest = {diff_id: diff_id for diff_id in diff_ids}
        self._by_digest |= {blob.digest: diff_id for diff_id, blob in self._blobs.items()}
        self._chains = dict(zip(chain_ids(diff_ids), diff_ids, strict=True))
        self._folders: dict[str, str] = {}  # -> diff_id

    def diff_id(self, entry: Entry) -> str:
        """The layer that a member holds, "" for any other member and an unidentified layer."""
        folder, _, last = entry.name.rpartition("/")
        if entry.kind != "file":
            return ""
        if last == "layer.tar":
            return self._folders.get(folder, "")
        return self._by_digest.get(f"sha256:{last}", "") if folder == "blobs/sha256" else ""

    def blob(self, diff_id: str, entry: Entry) -> Blob:
        """What the layer is called in a manifest, which a member of the stream holds."""
        return self._blobs.get(diff_id) or Blob(diff_id, entry.size)

    def learn(self, entry: Entry, described: bytes) -> None:
        """Take in a folder's `json`, which comes before its layer."""
        folder = entry.name.removesuffix("/json")
        try:
            fields = json.loads(described)
        except ValueError:
            return
        for chain, diff_id in self._chains.items():
            if folder in v1_ids(fields, chain):
                self._folders[folder] = diff_id
                return


def is_description(entry: Entry) -> bool:
    """Whether a member is the `json` of a layer's folder."""
    return entry.kind == "file" and entry.name.endswith("/json")


class ThinSave:
    """`docker save`'s stream without the layers whose chains are known on the other side.

    A layer that cannot be identified is kept.
    """

    def __init__(
        self,
        diff_ids: Sequence[str],
        known: frozenset[str],
        tally: Tally,
        blobs: Mapping[str, Blob] | None = None,
    ) -> None:
        self._layers = SavedLayers(diff_ids, blobs)
        # A layer that occurs twice is stored once, and the second time may stand on an unknown chain.
        chains = zip(diff_ids, chain_ids(diff_ids), strict=True)
        lacking = {diff_id for diff_id, chain in chains if chain not in known}
        self._skip = frozenset(diff_ids) - lacking
        self._tally = tally

    async def filter(self, archive: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The archive's bytes, filtered. Raises ValueError if it is not a tar."""
        stream = TarStream(archive)
        async for entry in stream:
            if self._layers.diff_id(entry) in self._skip:
                self._tally.skipped += entry.size
                continue
            yield self._sent(entry.header)
            if is_description(entry):
                content = await stream.read()
                self._layers.learn(entry, content)
                yield self._sent(content)
            async for piece in stream.pieces():
                yield self._sent(piece)
            yield bytes(-entry.size % 512)
        yield END

    def _sent(self, piece: bytes) -> bytes:
        self._tally.sent += len(piece)
        return piece


def v1_ids(described: dict[str, Any], chain: str) -> tuple[str, str]:
    """The version 1 IDs (hex) that Docker may have computed for a layer from its `json` and its chain ID.

    Below the last layer Docker adds `os` to the `json` after it has computed the ID.
    """
    fields = {key: value for key, value in described.items() if key not in ("id", "parent")}
    fields["layer_id"] = chain
    if described.get("parent"):
        fields["parent"] = f"sha256:{described['parent']}"
    return _v1_id(fields), _v1_id({key: value for key, value in fields.items() if key != "os"})


def _v1_id(fields: dict[str, Any]) -> str:
    # As Go's encoding/json writes a map: sorted keys on top, all below as it was, and no bare <, > and &.
    text = json.dumps(dict(sorted(fields.items())), separators=(",", ":"), ensure_ascii=False)
    for bare in "<>&\u2028\u2029":
        text = text.replace(bare, f"\\u{ord(bare):04x}")
    return hashlib.sha256(text.encode()).hexdigest()
