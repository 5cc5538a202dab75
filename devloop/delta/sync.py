"""What of a delta can be written into running containers (S36): new and changed files and links. Pure.

The layer says it all: where a file goes, with what owner and mode. A deletion and a change of kind cannot be
synced; of directories only new ones are written, for the process may have changed those that are there.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace

from devloop.delta.layer_index import WHITEOUT, Kind, LayerNode, Layers
from devloop.delta.layer_writer import header
from devloop.model import Refusal, SyncedFile, SyncFiles

MOST_FILES = 200  # each is read back: of more, a restart is as fast


def sync_files(layer: bytes, before: Layers, written: Mapping[str, int]) -> SyncFiles | Refusal:
    """What a delta's `layer` writes into containers that hold what `before` shows.

    `written`: times (seconds) that files of these containers were given by syncs. Each file gets a later time
    than it had, also where it changes twice within a second: caches of compiled files go by time and size,
    and who watches files by their times looks for later ones.
    """
    out, files, folders = io.BytesIO(), list[SyncedFile](), set[str]()
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:", encoding="utf-8") as archive:
        for member in archive:
            path = member.name.strip("/")
            above, _, name = path.rpartition("/")
            if name.startswith(WHITEOUT):
                gone = f"{above}/{name.removeprefix(WHITEOUT)}".lstrip("/")
                return Refusal("deleted", f"/{gone} was deleted")
            node, old = _node(member), before.find(path)
            if old is not None and old.kind != node.kind:
                return Refusal("kind", f"/{path} was a {old.kind} and is a {node.kind} now")
            if node.kind == "dir":
                if old is not None and _attributes(old) != _attributes(node):
                    return Refusal("kind", f"mode or owner of the directory /{path} changed")
                if old is not None:
                    folders.add(path)
                    continue
            else:
                content = _content(archive, member)
                digest = hashlib.sha256(content).hexdigest() if node.kind == "file" else ""
                files.append(SyncedFile(path, digest, node.link))
            last = written.get(path, old.mtime if old is not None else None)
            mtime = node.mtime if last is None or node.mtime > last else last + 1
            out.write(header(path, replace(node, mtime=mtime)))
            if node.kind == "file":
                out.write(content)
                out.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    if len(files) > MOST_FILES:
        return Refusal("many_files", f"{len(files)} files changed; {MOST_FILES} are synced")
    return SyncFiles(out.getvalue(), tuple(files), frozenset(folders))


def times(files: SyncFiles) -> dict[str, int]:
    """The times (seconds) that the archive gives its files."""
    with tarfile.open(fileobj=io.BytesIO(files.archive), mode="r:", encoding="utf-8") as archive:
        return {member.name.strip("/"): int(member.mtime) for member in archive}


def _node(member: tarfile.TarInfo) -> LayerNode:
    kind: Kind = "dir" if member.isdir() else "link" if member.issym() else "file"
    return LayerNode(
        kind, member.mode, member.uid, member.gid, int(member.mtime), member.size, member.linkname
    )


def _attributes(node: LayerNode) -> tuple[int, int, int]:
    return node.mode & 0o7777, node.uid, node.gid


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member) if member.isreg() else None
    return opened.read() if opened is not None else b""
