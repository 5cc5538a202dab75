"""What an image holds, read from `docker save`: its files as a container would see them, and its settings."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker

from devloop.delta.layer_index import OPAQUE, WHITEOUT, Layer
from tests.support.delta_bench import _ENGINE_OWN, Item, _member

_UNCOMPARED = ("Labels", "Image", "Hostname")
_KNOWN: dict[str, bytes] = {}  # layers by diff_id: most images share theirs


@dataclass(frozen=True)
class Image:
    """`files`: path -> file. `config`: what a container would run with."""

    files: Mapping[str, Item]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Saved:
    """An image as the engine gave it out."""

    config: bytes
    layers: tuple[bytes, ...]

    def image(self) -> Image:
        return Image(flatten({}, self.layers), settings(self.config))

    def index(self) -> tuple[Layer, ...]:
        return tuple(Layer.read(io.BytesIO(layer), digests=True) for layer in self.layers)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(json.loads(self.config)["rootfs"]["diff_ids"])


def save(client: docker.APIClient, ref: str) -> Saved:
    """The image of this reference."""
    data = b"".join(client.get_image(ref, chunk_size=1 << 20))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        manifest = json.load(_member(archive, "manifest.json"))[0]
        config = _member(archive, manifest["Config"]).read()
        layers = tuple(_member(archive, name).read() for name in manifest["Layers"])
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    return Saved(config, tuple(map(_KNOWN.setdefault, diff_ids, layers)))


def settings(config: bytes) -> dict[str, Any]:
    """What counts of a config JSON when two images are compared."""
    described = json.loads(config)
    given = described.get("config") or {}
    return {
        **{key: value for key, value in given.items() if key not in _UNCOMPARED and value is not None},
        **{key: described.get(key) for key in ("architecture", "os", "author")},
    }


def flatten(files: Mapping[str, Item], layers: Iterable[bytes]) -> dict[str, Item]:
    """The file system of these layers on top of `files`, as overlayfs shows it."""
    found = dict(files)
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            _apply(found, archive)
    return {path: item for path, item in found.items() if not _ENGINE_OWN.fullmatch(path)}


def _apply(found: dict[str, Item], archive: tarfile.TarFile) -> None:
    """One layer: first what it hides, then what it brings."""
    members = [(member.name.strip("/").removeprefix("./"), member) for member in archive]
    for path, _ in members:
        above, _, name = path.rpartition("/")
        if name == OPAQUE:
            _remove(found, above, itself=False)
        elif name.startswith(WHITEOUT):
            _remove(found, f"{above}/{name[len(WHITEOUT) :]}".lstrip("/"), itself=True)
    new: dict[str, Item] = {}
    for path, member in members:
        if path in ("", ".") or path.rpartition("/")[2].startswith(WHITEOUT):
            continue
        item = _item(archive, member, new, found)
        for above in _above(path):
            if above not in new:  # an engine makes it for the layer, as any new directory
                new[above] = found[above] = Item("dir", 0o755, (0, 0), 0, "", "")
        if item.type != "dir":
            _remove(found, path, itself=True)
        new[path] = found[path] = item


def _item(
    archive: tarfile.TarFile, member: tarfile.TarInfo, new: Mapping[str, Item], found: Mapping[str, Item]
) -> Item:
    if member.islnk():
        target = member.linkname.strip("/").removeprefix("./")
        return new[target] if target in new else found[target]
    opened = archive.extractfile(member) if member.isreg() else None
    digest = hashlib.sha256(opened.read()).hexdigest() if opened else ""
    kind = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link"}.get(member.type, "file")
    link = member.linkname if member.issym() else ""
    mode = 0o777 if kind == "link" else member.mode & 0o7777  # a link's own says nothing
    return Item(kind, mode, (member.uid, member.gid), int(member.mtime), link, digest)


def _above(path: str) -> list[str]:
    """The directories above, the highest first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _remove(found: dict[str, Item], path: str, *, itself: bool) -> None:
    for one in [*_below(found, path)]:
        del found[one]
    if itself:
        found.pop(path, None)


def _below(found: Mapping[str, Item], path: str) -> Iterator[str]:
    inside = f"{path}/" if path else ""
    return (one for one in found if one.startswith(inside))
