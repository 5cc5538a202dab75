"""A build context as a tar, every byte compared with the fingerprint while it goes out (S8)."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from devloop.errors import TreeMovedError
from devloop.ignore import IgnoreRules
from devloop.model import FileEntry, Inputs

_CHUNK = 1 << 18


def tar_context(
    context: Path, inputs: Inputs, rules: IgnoreRules, *, check: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """The inputs as GNU tar, in sorted order, owner 0:0, with their own mtimes; what `rules` leaves out
    stays out. The Dockerfile is in it if it is an input; `dockerfile_entry` gives it otherwise.

    To be run in a worker thread: it reads files. Raises TreeMovedError as soon as a file is not what the
    fingerprint says, and whatever `check`, called between chunks, raises.
    """
    for path in sorted(inputs.files):
        if rules.matches(path):
            continue
        check()
        yield from _member(context / path, inputs.files[path], check)
    yield bytes(2 * tarfile.BLOCKSIZE)


def dockerfile_entry(dockerfile: Path, inputs: Inputs, name: str) -> bytes:
    """The Dockerfile as one member of the tar; the server looks for it there. Raises TreeMovedError."""
    try:
        text = dockerfile.read_bytes()
    except OSError as problem:
        raise _moved(str(dockerfile)) from problem
    if hashlib.sha256(text).hexdigest() != inputs.dockerfile_digest:
        raise _moved(str(dockerfile))
    return _header(name, tarfile.REGTYPE, 0o644, 0, len(text)) + text + _padding(len(text))


def _member(full: Path, entry: FileEntry, check: Callable[[], None]) -> Iterator[bytes]:
    mtime = entry.mtime_ns // 1_000_000_000
    if entry.kind == "dir":
        yield _header(entry.path + "/", tarfile.DIRTYPE, entry.mode, mtime)
    elif entry.kind == "link":
        yield _header(entry.path, tarfile.SYMTYPE, entry.mode, mtime, link=read_link(full, entry))
    elif entry.digest:
        yield _header(entry.path, tarfile.REGTYPE, entry.mode, mtime, entry.size)
        for chunk in read_file(full, entry):
            yield chunk
            check()
        yield _padding(entry.size)
    elif entry.mode & 0o170000 == 0o010000:
        yield _header(entry.path, tarfile.FIFOTYPE, entry.mode & 0o7777, mtime)


def read_link(full: Path, entry: FileEntry) -> str:
    """The target of a link, checked. Raises TreeMovedError."""
    try:
        target = os.readlink(full)  # noqa: PTH115 - as text, undisturbed
    except OSError as problem:
        raise _moved(entry.path) from problem
    if hashlib.sha256(os.fsencode(target)).hexdigest() != entry.digest:
        raise _moved(entry.path)
    return target


def read_file(full: Path, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of a file, checked by the time the iterator ends. Raises TreeMovedError."""
    digest, left = hashlib.sha256(), entry.size
    try:
        with os.fdopen(
            os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0
        ) as file:
            while chunk := file.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                digest.update(chunk)
                yield chunk
    except OSError as problem:
        raise _moved(entry.path) from problem
    if left or digest.hexdigest() != entry.digest:
        raise _moved(entry.path)


def _header(path: str, kind: bytes, mode: int, mtime: int, size: int = 0, link: str = "") -> bytes:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime, member.size, member.linkname = kind, mode, mtime, size, link
    # GNU, not PAX: BuildKit takes a tar that begins with a PAX header for a Dockerfile.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _moved(path: str) -> TreeMovedError:
    return TreeMovedError(f"{path} changed while the build read it")
