"""Images: built, loaded, live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from devloop.model.inputs import Fingerprint

How = Literal["buildkit", "cli", "legacy", "continued", "delta", "reused"]


@dataclass(frozen=True, slots=True)
class Archive:
    """An image as bytes that no engine holds yet: layer blobs of a delta, to be sent by a loader.

    `config` is the image config JSON; `layer` the new layer's uncompressed tar; `diff_ids` of all
    layers, lowest first, the new one last. `lower`: new layers below it, lowest first.
    """

    config: bytes
    layer: bytes
    diff_ids: tuple[str, ...]
    lower: tuple[bytes, ...] = ()

    @property
    def below(self) -> tuple[str, ...]:
        """The diff_ids of the layers that the other side must have."""
        return self.diff_ids[: -1 - len(self.lower)]

    @property
    def new(self) -> tuple[tuple[str, bytes], ...]:
        """diff_id and tar of each new layer, lowest first."""
        return tuple(zip(self.diff_ids[len(self.below) :], (*self.lower, self.layer), strict=True))

    @property
    def size(self) -> int:
        """Bytes of the new layers."""
        return len(self.layer) + sum(map(len, self.lower))


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. `id` is the config digest "sha256:…" everywhere (S2); `size` in bytes."""

    service: str
    fingerprint: Fingerprint
    ref: str
    id: str
    how: How
    size: int = 0
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that every node holds under its reference, verified by id on each (S2, S12)."""

    image: Image
    nodes: tuple[str, ...]
    how: str
    sent: int = 0  # bytes that travelled
    skipped: int = 0  # bytes that the nodes had already


@dataclass(frozen=True, slots=True)
class LiveImage:
    """The reference in the template, and the manager that wrote it."""

    ref: str
    writer: str
