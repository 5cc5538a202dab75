"""What lies in the layers of an image, by path: enough to know what a delta may leave alone."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any, Literal

from devloop import state_file
from devloop.borders import LAYER

Kind = Literal["file", "dir", "link", "hard", "other"]
_CHUNK = 1 << 20
_XATTR = "SCHILY.xattr."
_SYSTEM_XATTRS = (f"{_XATTR}security.selinux",)
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_KINDS: Mapping[bytes, Kind] = {
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard",
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.CONTTYPE: "file",
}
_ALL_KINDS = frozenset({*_KINDS.values(), "other"})


@dataclass(frozen=True, slots=True)
class LayerNode:
    """One file of a layer. `mtime` in whole seconds; `link`: target of a symlink, or of a hard link.

    `digest`: see `digest_of`; "" where nobody needs it, or for a directory.
    """

    kind: Kind
    mode: int  # permission bits, setuid and the like
    uid: int
    gid: int
    mtime: int = 0
    size: int = 0
    link: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """The names in one layer: no leading slash, no trailing one, the root itself left out.

    `gone`: whiteouts. `opaque`: directories that hide what lower layers have in them.
    """

    nodes: Mapping[str, LayerNode]
    gone: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()

    def hides(self, path: str) -> bool:
        """Is what lower layers have at the path (which this layer does not hold) covered by this one?"""
        if path in self.gone:
            return True
        above = path
        while above := above.rpartition("/")[0]:
            node = self.nodes.get(above)
            if above in self.gone or above in self.opaque or (node is not None and node.kind != "dir"):
                return True
        return False

    @property
    def digested(self) -> bool:
        """Is it known of every file what is in it?"""
        return all(node.digest or node.kind == "dir" for node in self.nodes.values())

    def bare(self) -> Layer:
        """Without the digests: they are needed of few layers."""
        nodes = {path: replace(node, digest="") for path, node in self.nodes.items()}
        return replace(self, nodes=nodes)

    @classmethod
    def read(cls, stream: IO[bytes], *, digests: bool = False) -> Layer:
        """From the layer's uncompressed tar, read once from front to back.

        Raises LoadError for a tar that tarfile does not read, whatever is wrong with it.
        """
        with LAYER("a layer"):
            return cls._read(stream, digests=digests)

    @classmethod
    def _read(cls, stream: IO[bytes], *, digests: bool) -> Layer:
        nodes: dict[str, LayerNode] = {}
        gone: set[str] = set()
        opaque: set[str] = set()
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
            for member in archive:
                path = member.name.strip("/").removeprefix("./")
                above, _, name = path.rpartition("/")
                if name == OPAQUE:
                    opaque.add(above)
                elif name.startswith(WHITEOUT):
                    gone.add(f"{above}/{name[len(WHITEOUT) :]}".lstrip("/"))
                elif path not in ("", "."):
                    digest = digest_of(archive, member) if digests else ""
                    if digests and member.islnk() and linked(member) in nodes:
                        digest = nodes[linked(member)].digest
                    nodes[path] = LayerNode(
                        _KINDS.get(member.type, "other"),
                        member.mode & 0o7777,
                        member.uid,
                        member.gid,
                        int(member.mtime),
                        member.size if member.isreg() else 0,
                        member.linkname,
                        digest,
                    )
        return cls(nodes, frozenset(gone), frozenset(opaque))

    def dump(self) -> bytes:
        """For the state directory; `load` reads it."""
        rows = [
            [p, n.kind, n.mode, n.uid, n.gid, n.mtime, n.size, n.link, *([n.digest] if n.digest else [])]
            for p, n in self.nodes.items()
        ]
        text = json.dumps([1, rows, sorted(self.gone), sorted(self.opaque)], separators=(",", ":"))
        return zlib.compress(text.encode(), 1)

    @classmethod
    def load(cls, data: bytes) -> Layer:
        """Raises ValueError if the bytes are not what `dump` gave."""
        try:
            text = zlib.decompress(data)
        except zlib.error as problem:
            raise ValueError(f"no record of a layer: {problem}") from problem
        layer = state_file.parsed(text, cls._parsed, None)
        if layer is None:
            raise ValueError("no record of a layer")
        return layer

    @classmethod
    def _parsed(cls, record: Any) -> Layer | None:
        version, rows, gone, opaque = record
        names = state_file.each(state_file.text)
        if version != 1:
            return None
        return cls(dict(map(_node, rows)), frozenset(names(gone)), frozenset(names(opaque)))


def _node(row: Any) -> tuple[str, LayerNode]:
    """A file of a layer's record, with its path."""
    path, kind, mode, uid, gid, mtime, size, link, *digest = row
    if kind not in _ALL_KINDS:
        raise ValueError("no kind of file")
    for number in (mode, uid, gid, mtime, size):
        state_file.count(number)
    known = state_file.text(*digest) if digest else ""
    return state_file.text(path), LayerNode(kind, mode, uid, gid, mtime, size, state_file.text(link), known)


def digest_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """What tells the content of a file in a tar from another's: sha256 of a file, of a link's target, of a
    device's numbers; with its extended attributes where it has any. "" for a directory without, and for a
    hard link, which has that of its target."""
    content = ""
    if member.isreg():
        opened, digest = archive.extractfile(member), hashlib.sha256()
        while opened is not None and (chunk := opened.read(_CHUNK)):
            digest.update(chunk)
        content = digest.hexdigest()
    elif member.issym():
        content = hashlib.sha256(os.fsencode(member.linkname)).hexdigest()
    elif not member.isdir() and not member.islnk():
        content = f"{member.type!r} {member.devmajor} {member.devminor}"
    given = xattrs(member)
    return hashlib.sha256(f"{content} {given}".encode(errors="replace")).hexdigest() if given else content


def linked(member: tarfile.TarInfo) -> str:
    """The path of a hard link's target, as the paths of a layer are."""
    return member.linkname.strip("/").removeprefix("./")


def xattrs(member: tarfile.TarInfo) -> list[tuple[str, str]]:
    """Its extended attributes, without those that the system sets."""
    names = (key for key in member.pax_headers if key.startswith(_XATTR))
    return sorted((key, member.pax_headers[key]) for key in names if key not in _SYSTEM_XATTRS)


@dataclass(slots=True)
class Layers:
    """A stack of layers, the lowest first. Lookups are remembered."""

    stack: tuple[Layer, ...]
    _known: dict[tuple[str, int], LayerNode | None] = field(default_factory=dict)

    def find(self, path: str, upto: int | None = None) -> LayerNode | None:
        """What the lowest `upto` layers (None = all) show at the path. "" is the root."""
        if not path:
            return LayerNode("dir", 0o755, 0, 0)
        count = len(self.stack) if upto is None else upto
        key = path, count
        if key not in self._known:
            self._known[key] = self._find(path, count)
        return self._known[key]

    def _find(self, path: str, count: int) -> LayerNode | None:
        for layer in reversed(self.stack[:count]):
            node = layer.nodes.get(path)
            if node is not None:
                return node
            if layer.hides(path):
                return None
        return None

    def resolve(self, path: str, upto: int) -> str | None:
        """The path with all symlinks followed inside the image, the last one too; None for a loop.
        Parts that do not exist stay as they are."""
        return self._walk(path, upto)[0]

    def trail(self, path: str, upto: int) -> frozenset[str]:
        """All that is looked at where the path is resolved: where each of these stays what it is, so does
        where the path leads."""
        return self._walk(path, upto)[1]

    def _walk(self, path: str, upto: int) -> tuple[str | None, frozenset[str]]:
        done: list[str] = []
        seen: set[str] = set()
        todo = path.strip("/").split("/")[::-1]
        hops = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, part])
            seen.add(here)
            node = self.find(here, upto)
            if node is None or node.kind != "link":
                done.append(part)
                continue
            hops += 1
            if hops > 40:
                return None, frozenset(seen)
            if node.link.startswith("/"):
                done = []
            todo += node.link.split("/")[::-1]
        return "/".join(done), frozenset(seen)

    def holders(self, path: str, numbers: Iterable[int], *, below: bool) -> list[int]:
        """Which of these layers hold the path, or with `below` anything in it."""
        inside = path + "/"
        return [
            number
            for number in numbers
            if path in (nodes := self.stack[number].nodes)
            or (below and any(name.startswith(inside) for name in nodes))
        ]
