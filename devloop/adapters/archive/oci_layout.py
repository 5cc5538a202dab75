"""OCI layouts with only the blobs that the other side lacks: what containerd takes.

A layer is called by its diff_id and travels uncompressed, unless an engine with the containerd image store
keeps it as another blob. containerd asks for a layer's blob only
where it has no snapshot of the layer's chain, so the blobs of known chains may be missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence

from devloop.adapters.archive.docker_archive import SavedLayers, Tally, chain_ids, is_description
from devloop.adapters.docker.blob_index import Blob
from devloop.adapters.docker.engine_facts import CONFIG_DIGEST
from devloop.adapters.tar_stream import END, Entry, Pieces, TarStream, header, member, parts_of
from devloop.image_refs import full, split
from devloop.model import Archive

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(config: str, config_size: int, layers: Sequence[Blob]) -> bytes:
    """A manifest over a config and layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": config_size},
            "layers": [{"mediaType": one.media, "digest": one.digest, "size": one.size} for one in layers],
        },
        separators=(",", ":"),
    ).encode()


def frame(described: bytes, ref: str) -> bytes:
    """The members that make blobs a layout: the manifest, and the index that names it."""
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {
                "mediaType": MANIFEST,
                "digest": sha256(described),
                "size": len(described),
                "annotations": {
                    "io.containerd.image.name": full(ref),
                    "org.opencontainers.image.ref.name": split(ref)[1],
                    CONFIG_DIGEST: json.loads(described)["config"]["digest"],
                },
            }
        ],
    }
    return (
        member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        + member(_blob(sha256(described)), described)
        + member("index.json", json.dumps(index).encode())
    )


def described(archive: Archive, blobs: Mapping[str, Blob] | None = None) -> bytes:
    """The manifest of a delta image; `blobs` as the other side has them. The sizes of the layers below that
    are not among them are given as 0 and never read."""
    known = blobs or {}
    layers = [known.get(below) or Blob(below, 0) for below in archive.below]
    layers += [Blob(diff_id, len(blob)) for diff_id, blob in archive.new]
    return manifest(sha256(archive.config), len(archive.config), layers)


def delta(archive: Archive, ref: str, blobs: Mapping[str, Blob] | None = None) -> Pieces:
    """A delta image as an OCI layout: config, manifest (see `described`) and the new layers."""
    layers = (parts_of(_blob(diff_id), blob) for diff_id, blob in dict(archive.new).items())
    return Pieces(
        (
            member(_blob(sha256(archive.config)), archive.config),
            *(part for parts in layers for part in parts),
            frame(described(archive, blobs), ref) + END,
        )
    )


class Repacked:
    """`docker save`'s stream as an OCI layout, without the layers whose chains are known on the other side.

    Raises ValueError if a layer of the stream cannot be identified: the stream has to go as it is then.
    """

    def __init__(
        self,
        ref: str,
        image_id: str,
        diff_ids: Sequence[str],
        known: frozenset[str],
        tally: Tally,
        blobs: Mapping[str, Blob] | None = None,
    ) -> None:
        self._ref = ref
        self._config = image_id
        self._layers = SavedLayers(diff_ids, blobs)
        chains = zip(diff_ids, chain_ids(diff_ids), strict=True)
        lacking = {diff_id for diff_id, chain in chains if chain not in known}
        self._skip = frozenset(diff_ids) - lacking
        self._tally = tally
        self._seen: dict[str, Blob] = {}  # by diff_id
        self._config_size = 0

    async def filter(self, archive: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        stream = TarStream(archive)
        async for entry in stream:
            diff_id = self._layers.diff_id(entry)
            if is_description(entry):
                self._layers.learn(entry, await stream.read())
            elif config_digest(entry) == self._config:
                content = await stream.read()
                self._config_size = len(content)
                yield self._sent(member(_blob(self._config), content))
            elif diff_id:
                blob = self._seen[diff_id] = self._layers.blob(diff_id, entry)
                if diff_id in self._skip:
                    self._tally.skipped += entry.size
                    continue
                yield self._sent(header(_blob(blob.digest), entry.size))
                async for piece in stream.pieces():
                    yield self._sent(piece)
                yield bytes(-entry.size % 512)
        yield self._end()

    def _end(self) -> bytes:
        missing = set(self._layers.diff_ids) - self._seen.keys()
        if missing or not self._config_size:
            raise ValueError(f"docker save {self._ref}: cannot tell its layers apart")
        layers = [self._seen[diff_id] for diff_id in self._layers.diff_ids]
        return self._sent(frame(manifest(self._config, self._config_size, layers), self._ref) + END)

    def _sent(self, piece: bytes) -> bytes:
        self._tally.sent += len(piece)
        return piece


def config_digest(entry: Entry) -> str:
    """The digest that a member of `docker save` would have as the image's config, "" if it cannot be one."""
    folder, _, last = entry.name.rpartition("/")
    if entry.kind != "file" or folder not in ("", "blobs/sha256"):
        return ""
    return f"sha256:{last.removesuffix('.json')}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
