"""What the COPYs out of other stages bring into an image: known from the layers that they made, and from
those of a build that ends before the last stage.
"""

from __future__ import annotations

import base64
import json
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from devloop import state_file
from devloop.delta.layer_index import Kind, Layer, LayerNode, digest_of, linked, xattrs
from devloop.delta.placement import NotProvenError
from devloop.model import FileEntry

__all__ = [
    "Brought",
    "Exported",
    "LayerFile",
    "LayerFiles",
    "Output",
    "Outputs",
    "dump",
    "load",
    "of_layer",
    "of_layers",
]

MOST = 50_000  # files: what is beyond is not worth the memory


@dataclass(frozen=True, slots=True)
class Output(FileEntry):
    """One file that a COPY brings, as it lies in the image but for an owner that the COPY gives.

    `path` begins with the name of its COPY (`Brought.root`). `digest` tells it from another of this kind and
    mode. `link`: the target of a symlink. `plain`: a layer can be written from what is known here. `layer`:
    of a root, the diff_id of the layer that brought it where it was built alone, "" if nothing is known.
    """

    uid: int = 0
    gid: int = 0
    link: str = ""
    plain: bool = True
    layer: str = ""

    @property
    def seconds(self) -> int:
        """Its time, as layers have it."""
        return self.mtime_ns // 1_000_000_000


# By COPY (`Brought.root`) and path. A COPY of a single file brings its root alone.
Outputs = Mapping[str, Mapping[str, Output]]


@dataclass(frozen=True, slots=True)
class Brought:
    """One COPY out of another stage. `root`: what stands for its source; `target`: where that lands in the
    image, links followed; `into`: that is a directory whatever comes. `owned`: the COPY gives an owner."""

    root: str
    place: str  # its directory where it is built alone
    line: int  # of the Dockerfile
    layer: int
    target: str
    into: bool
    owned: bool


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer's uncompressed tar in a file: it begins at this byte."""

    path: Path
    start: int


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """The layers of a build, lowest first, but for those that were known: `diff_ids` names them all."""

    files: tuple[LayerFile, ...]
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """What a build brought, and where the bytes of each file begin."""

    outputs: dict[str, dict[str, Output]]
    at: dict[str, LayerFile]


def of_layer(layer: Layer, brought: Brought) -> dict[str, Output]:
    """What the COPY brought when it made this layer. Raises NotProvenError."""
    if not layer.digested or layer.gone or layer.opaque:
        raise NotProvenError("OutputsUnknown", f"what {brought.root} brought last is not known")
    own = layer.nodes.get(brought.target)
    if own is not None and own.kind != "dir" and not brought.into:
        return {brought.root: _of_node(brought.root, own, layer, brought)}
    inside = f"{brought.target}/" if brought.target else ""
    found = {brought.root: _directory(brought.root)}
    for path, node in layer.nodes.items():
        if path.startswith(inside):
            name = f"{brought.root}/{path[len(inside) :]}"
            found[name] = _of_node(name, node, layer, brought)
    return found


def _of_node(name: str, node: LayerNode, layer: Layer, brought: Brought) -> Output:
    size, seen = node.size, node
    while seen.kind == "hard" and seen.link.strip("/").removeprefix("./") in layer.nodes:
        seen = layer.nodes[seen.link.strip("/").removeprefix("./")]
        size = seen.size
    link = node.link if node.kind == "link" else ""
    return _output(
        name, node.kind, node.mode, size, node.mtime, node.digest, (node.uid, node.gid), link, brought
    )


def of_layers(
    layers: LayerFiles,
    copies: Sequence[Brought],
    before: Outputs,
    check: Callable[[], None] = lambda: None,
) -> Exported:
    """What a build brought, from the layers of its image, one for each of `copies`. Entries that are as
    `before` are shared with it, and what a known layer brought is what it was before.

    Raises NotProvenError, OSError, and whatever `check` raises.
    """
    made = dict(zip((one.root for one in copies), layers.diff_ids, strict=False))
    same = {root for root, layer in made.items() if layer and layer == layer_of(before, root)}
    by_place = {one.place: one for one in copies if one.root not in same}
    exported = Exported({one.root: {} for one in by_place.values()}, {})
    for layer in layers.files:
        with layer.path.open("rb") as stream:
            stream.seek(layer.start)
            try:
                with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as archive:
                    _take(exported, archive, layer.path, by_place, before, check)
                    _check_end(archive, stream)
            except (tarfile.TarError, EOFError, ValueError) as problem:
                raise NotProvenError(
                    "OutputsUnknown", f"what the build gave is no tar: {problem}"
                ) from problem
    for copy in by_place.values():
        files = exported.outputs[copy.root]
        own = files.get(copy.root)
        if own is None or (copy.into and own.kind != "dir"):
            raise NotProvenError("SourceMissing", f"{copy.root} brings nothing", copy.line)
        own = _directory(copy.root) if own.kind == "dir" else own
        files[copy.root] = replace(own, layer=made.get(copy.root, ""))
    exported.outputs.update({root: dict(before[root]) for root in same})
    return exported


def layer_of(outputs: Outputs, root: str) -> str:
    """The diff_id of the layer that brought this last where it was built alone, "" if it is not known."""
    own = outputs.get(root, {}).get(root)
    return own.layer if own is not None else ""


def _check_end(archive: tarfile.TarFile, stream: IO[bytes]) -> None:
    """tarfile takes whatever it cannot read for the end. Raises ValueError."""
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("it has no end")


def _take(
    exported: Exported,
    archive: tarfile.TarFile,
    file: Path,
    by_place: Mapping[str, Brought],
    before: Outputs,
    check: Callable[[], None],
) -> None:
    """What one layer brings."""
    names: dict[str, Output] = {}  # by path in the tar
    targets: set[str] = set()
    for member in archive:
        check()
        path = member.name.strip("/").removeprefix("./")
        place, _, rest = path.partition("/")
        if place not in by_place:
            continue
        brought = by_place[place]
        name = f"{brought.root}/{rest}" if rest else brought.root
        made = _of_member(name, member, archive, names, brought)
        if member.islnk():
            targets.add(linked(member))
        names[path] = made
        was = before.get(brought.root, {}).get(name)
        exported.outputs[brought.root][name] = was if was is not None and was == made else made
        exported.at[name] = LayerFile(file, member.offset_data)
        if len(exported.at) > MOST:
            raise NotProvenError("TooLarge", f"other stages bring more than {MOST} files")
    for target in targets & names.keys():
        one = names[target]
        exported.outputs[one.path.partition("/")[0]][one.path] = replace(one, plain=False)


def _of_member(
    name: str,
    member: tarfile.TarInfo,
    archive: tarfile.TarFile,
    names: Mapping[str, Output],
    brought: Brought,
) -> Output:
    kind: Kind = (
        "dir" if member.isdir() else "link" if member.issym() else "file" if member.isreg() else "other"
    )
    size, digest = member.size if kind == "file" else 0, digest_of(archive, member)
    owner, mtime = (member.uid, member.gid), int(member.mtime)
    link = member.linkname if member.issym() else ""
    if member.islnk() and linked(member) in names:
        same = names[linked(member)]
        kind, size, digest = "hard", same.size, same.digest
        return Output(
            name, "file", member.mode & 0o7777, size, mtime * 1_000_000_000, digest, *owner, plain=False
        )
    made = _output(name, kind, member.mode & 0o7777, size, mtime, digest, owner, link, brought)
    plain = made.plain and not xattrs(member) and not member.issparse()
    return made if plain else replace(made, plain=False)


def _output(
    name: str,
    kind: Kind,
    mode: int,
    size: int,
    mtime: int,
    digest: str,
    owner: tuple[int, int],
    link: str,
    brought: Brought,
) -> Output:
    """`digest` takes in what else makes it another file: its owner."""
    if not brought.owned:
        digest = f"{digest} {owner[0]}:{owner[1]}"
    plain = kind in ("file", "dir", "link") and not (brought.owned and mode & 0o7000)
    shown = kind if kind in ("dir", "link") else "file"
    return Output(name, shown, mode, size, mtime * 1_000_000_000, digest, *owner, link, plain)


def _directory(root: str) -> Output:
    """Stands for the source itself: a copied directory's own attributes are not copied."""
    return Output(root, "dir", 0o755, 0, 0, "")


# --- as the state directory keeps them


def dump(outputs: Outputs | None) -> str:
    """For a JSON record; "" for nothing."""
    if not outputs:
        return ""
    rows = [
        [root, o.path, o.kind, o.mode, o.size, o.mtime_ns, o.digest, o.uid, o.gid, o.link, o.plain, o.layer]
        for root, files in outputs.items()
        for o in files.values()
    ]
    return base64.b64encode(zlib.compress(json.dumps(rows).encode(), 1)).decode()


def load(text: str) -> Outputs | None:
    """What `dump` was given. Raises ValueError, zlib.error for what it did not write."""
    if not text:
        return None
    found: dict[str, dict[str, Output]] = {}
    for row in json.loads(zlib.decompress(base64.b64decode(text))):
        root, one = _loaded(row)
        found.setdefault(root, {})[one.path] = one
    return found


def _loaded(row: Any) -> tuple[str, Output]:
    root, path, kind, mode, size, mtime_ns, digest, uid, gid, link, plain, layer = row
    if kind not in ("file", "dir", "link") or not isinstance(plain, bool):
        raise ValueError("no output")
    for number in (mode, size, mtime_ns, uid, gid):
        state_file.count(number)
    for text in (root, path, digest, link, layer):
        state_file.text(text)
    return root, Output(path, kind, mode, size, mtime_ns, digest, uid, gid, link, plain, layer)
