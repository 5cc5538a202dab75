"""One layer of an image: its tar and its index, written from files."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from devloop.delta.changes import Effects
from devloop.delta.layer_index import WHITEOUT, Layer, LayerNode, Layers
from devloop.delta.outputs import LayerFile, Output
from devloop.delta.placement import NotProvenError
from devloop.inputs.archive import read_file, read_link
from devloop.model import FileEntry

LARGEST_LAYER = 32 << 20  # bytes of a new layer, which is held in memory
_UNPROVEN_XATTRS = ("security.selinux",)  # set by the system, not by the user


def check_size(nodes: Mapping[str, tuple[LayerNode, FileEntry | None]]) -> None:
    """A layer is held in memory: a large one is the builder's. Checked before a byte of it is read."""
    if (size := sum(map(_tar_size, nodes.values()))) > LARGEST_LAYER:
        raise NotProvenError("TooLarge", f"{size >> 20} MB changed; deltas carry {LARGEST_LAYER >> 20} MB")


def _tar_size(one: tuple[LayerNode, FileEntry | None]) -> int:
    size = one[1].size if one[1] is not None and one[1].kind == "file" else 0
    return tarfile.BLOCKSIZE + size + -size % tarfile.BLOCKSIZE


def directories_above(path: str) -> Iterator[str]:
    """The directories above, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def directory(path: str, effects: Effects, layers: Layers) -> LayerNode:
    """A directory that is there already, exactly as it is; one that was copied has its source's time."""
    node = layers.find(path)
    if node is None or node.kind != "dir":
        raise NotProvenError("NoDirectory", f"/{path} is not a directory in the image")
    source = effects.writer(effects.after, path)
    return node if source is None else replace(node, mtime=source.entry.mtime_ns // 1_000_000_000)


# One changed file into the layer; its node as the index keeps it.
Write = Callable[[io.BytesIO, str, LayerNode, FileEntry], LayerNode]


def from_context(context: Path) -> Write:
    """Writes files of the context, each compared with its entry. Raises TreeMovedError, NotProvenError."""

    def write(out: io.BytesIO, path: str, node: LayerNode, entry: FileEntry) -> LayerNode:
        if isinstance(entry, Output):
            raise NotProvenError("OutputsUnknown", f"{entry.path} comes from another stage")
        return write_file(out, path, node, entry, context / entry.path)

    return write


def from_export(context: Path, at: Mapping[str, LayerFile]) -> Write:
    """Writes what a build brought too: `at` says where the bytes of each file begin."""
    of_context = from_context(context)

    def write(out: io.BytesIO, path: str, node: LayerNode, entry: FileEntry) -> LayerNode:
        if not isinstance(entry, Output):
            return of_context(out, path, node, entry)
        if not entry.plain:
            raise NotProvenError("Special", f"{entry.path} is no plain file: a hard link, or with attributes")
        node = replace(node, link=entry.link)
        out.write(header(path, node))
        if entry.kind == "file":
            place = at.get(entry.path)
            content = _read(place, entry.size) if place is not None else b""
            if place is None or len(content) < entry.size:
                raise NotProvenError("OutputsUnknown", f"{entry.path} is not whole in the outputs")
            out.write(content + bytes(-entry.size % tarfile.BLOCKSIZE))
        return node

    return write


def _read(place: LayerFile, size: int) -> bytes:
    with place.path.open("rb") as file:
        file.seek(place.start)
        return file.read(size)


def write_file(out: io.BytesIO, path: str, node: LayerNode, entry: FileEntry, source: Path) -> LayerNode:
    """One changed file into the layer; its node as the index keeps it."""
    if entry.kind == "file":
        if not entry.digest:
            raise NotProvenError("Special", f"{entry.path} is not a regular file")
        _check_plain(source)
        out.write(header(path, node))
        for chunk in read_file(source, entry):
            out.write(chunk)
        out.write(bytes(-entry.size % tarfile.BLOCKSIZE))
    elif entry.kind == "link":
        node = replace(node, link=read_link(source, entry))
        out.write(header(path, node))
    else:
        _check_plain(source)
        out.write(header(path, node))
    return node


def _check_plain(source: Path) -> None:
    try:
        names = set(os.listxattr(source, follow_symlinks=False)) if hasattr(os, "listxattr") else set()
        hard = source.lstat()
    except OSError:
        return  # it moved: reading it reports so
    if names - set(_UNPROVEN_XATTRS):
        raise NotProvenError("Xattr", f"{source.name} has extended attributes: {', '.join(sorted(names))}")
    if hard.st_nlink > 1 and not source.is_dir():
        raise NotProvenError("HardLink", f"{source.name} has other names (hard links)")


def write_layer(
    nodes: Mapping[str, tuple[LayerNode, FileEntry | None]], context: Path, check: Callable[[], None]
) -> tuple[bytes, Layer]:
    """A layer that only adds: its tar and its index. An entry None = a directory without a source.

    Raises TreeMovedError, NotProvenError.
    """
    check_size(nodes)
    out, written = io.BytesIO(), dict[str, LayerNode]()
    for path in sorted(nodes, key=lambda p: p.split("/")):
        check()
        node, entry = nodes[path]
        if entry is None:
            out.write(header(path, node))
        else:
            node = write_file(out, path, node, entry, context / entry.path)
        written[path] = node
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    return out.getvalue(), Layer(written)


def whiteout(path: str) -> str:
    above, _, name = path.rpartition("/")
    return f"{above}/{WHITEOUT}{name}".lstrip("/")


_TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


def header(path: str, node: LayerNode) -> bytes:
    member = tarfile.TarInfo(path + "/" if node.kind == "dir" else path)
    member.type, member.mode, member.mtime = _TYPES[node.kind], node.mode, node.mtime
    member.uid, member.gid, member.size, member.linkname = node.uid, node.gid, node.size, node.link
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
