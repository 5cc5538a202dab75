"""What a containerd image store calls the layers of an image: blobs by their own digests, compressed or not.

Everything else calls a layer by its diff_id, the digest of the uncompressed tar. Only an image's manifest and
its config together show which blob is which layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from devloop import state_file

LAYER = "application/vnd.oci.image.layer.v1.tar"
REMEMBERED = 500  # layers, and images; each takes 200 bytes


@dataclass(frozen=True, slots=True)
class Blob:
    """One layer as it is stored: its digest, bytes and media type. An uncompressed one has its diff_id."""

    digest: str
    size: int
    media: str = LAYER


class Blobs:
    """Blobs by diff_id, and config digests by image, learned from what passed.

    Kept in `file`, if one is given, for the next run: all of it follows from content alone. That a blob is
    known does not say that a store has it.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        known = state_file.read(file, _kept, None) if file is not None else None
        self._known, self._configs = known or ({}, {})

    def learn(self, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Take in an image's manifest and config, as JSON; those that do not fit each other show nothing."""
        layers, diff_ids = manifest.get("layers") or [], (config.get("rootfs") or {}).get("diff_ids") or []
        if len(layers) != len(diff_ids):
            return
        blobs = (Blob(str(one["digest"]), int(one["size"]), _media(str(one["mediaType"]))) for one in layers)
        new = {d: blob for d, blob in zip(diff_ids, blobs, strict=True) if self._known.get(d) != blob}
        if new:
            self._known = dict([*(self._known | new).items()][-REMEMBERED:])
            self._write()

    def name(self, image: str, config: str) -> None:
        """Remember an image's config digest; `image` is the store's own Id of it, and its platform."""
        self._configs = dict([*(self._configs | {image: config}).items()][-REMEMBERED:])
        self._write()

    def config(self, image: str) -> str | None:
        return self._configs.get(image)

    def of(self, diff_ids: Iterable[str]) -> dict[str, Blob]:
        """Those of these layers that are known."""
        return {diff_id: self._known[diff_id] for diff_id in diff_ids if diff_id in self._known}

    def _write(self) -> None:
        """Where the disk refuses, the next run learns them again."""
        if self._file is None:
            return
        with suppress(OSError):
            layers = {diff_id: astuple(blob) for diff_id, blob in self._known.items()}
            state_file.write(self._file, json.dumps({"layers": layers, "configs": self._configs}).encode())


def _media(docker_or_oci: str) -> str:
    """The OCI name of a layer's format."""
    for packed in ("gzip", "zstd"):
        if docker_or_oci.endswith(packed):
            return f"{LAYER}+{packed}"
    return LAYER


def _kept(value: Any) -> tuple[dict[str, Blob], dict[str, str]]:
    return state_file.by_name(_blob)(value["layers"]), state_file.by_name(state_file.text)(value["configs"])


def _blob(row: Any) -> Blob:
    digest, size, media = row
    return Blob(state_file.text(digest), state_file.count(size), state_file.text(media))
