"""A build context as a tar, every byte compared with the fingerprint while it goes out (S8)."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from devloop.dockerfile.dockerignore import IgnoreRules, candidates
from devloop.errors import TreeMovedError
from devloop.files import read_bytes
from devloop.model import BuildSpec, FileEntry, Inputs

_CHUNK = 1 << 18


def tar_context(
    context: Path, inputs: Inputs, rules: IgnoreRules, *, check: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """The inputs as GNU tar, in sorted order, owner 0:0, with their own mtimes; what `rules` leaves out
    stays out. The Dockerfile is in it if it is an input; `dockerfile_entry` gives it otherwise.

    To be run in a worker thread: it reads files. Raises TreeMovedError as soon as a file is not what the
    fingerprint says, and whatever `check`, called between chunks, raises.
    """
    for path in _sent(inputs, rules):
        check()
        yield from _member(context / path, inputs.files[path], check)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _sent(inputs: Inputs, rules: IgnoreRules) -> list[str]:
    """What the docker command would send, sorted: a directory that is left out comes along, with its mode,
    because of what is taken back below it."""
    sent: set[str] = set()
    for path in inputs.files:
        if rules.matches(path):
            continue
        sent.add(path)
        above = path.rpartition("/")[0]
        while above and above not in sent:
            if above in inputs.files:
                sent.add(above)
            above = above.rpartition("/")[0]
    return sorted(sent)


def dockerfile_entry(dockerfile: Path, inputs: Inputs, name: str) -> bytes:
    """The Dockerfile as one member of the tar; the server looks for it there. Raises TreeMovedError."""
    text = read_dockerfile(dockerfile, inputs)
    return _header(name, tarfile.REGTYPE, 0o644, 0, len(text)) + text + _padding(len(text))


def read_dockerfile(dockerfile: Path, inputs: Inputs) -> bytes:
    """Its bytes, checked. Raises TreeMovedError."""
    try:
        text = read_bytes(dockerfile)
    except OSError as problem:
        raise _moved(str(dockerfile)) from problem
    if hashlib.sha256(text).hexdigest() != inputs.dockerfile_digest:
        raise _moved(str(dockerfile))
    return text


def read_ignore_file(spec: BuildSpec, inputs: Inputs) -> bytes | None:
    """The bytes of the ignore file that counts, checked; None without one. Raises TreeMovedError."""
    files = candidates(spec.context, spec.dockerfile)
    text, path = None, files[0]
    for path in files:
        try:
            text = read_bytes(path)
            break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            raise _moved(str(path)) from problem
    if (hashlib.sha256(text).hexdigest() if text is not None else "") != inputs.ignore_digest:
        raise _moved(str(path))
    return text


def write_beside(dockerfile: Path, text: bytes, spec: BuildSpec, inputs: Inputs) -> None:
    """A Dockerfile outside of the context, with the ignore file that counts for `spec` beside it.

    Raises TreeMovedError.
    """
    ignored = read_ignore_file(spec, inputs)
    dockerfile.write_bytes(text)
    if ignored is not None:
        candidates(spec.context, dockerfile)[0].write_bytes(ignored)


def copy_context(
    context: Path, inputs: Inputs, target: Path, *, check: Callable[[], None] = lambda: None
) -> None:
    """The inputs as files below `target`, with modes and mtimes. Some may be left out by the ignore file:
    it has to lie beside the Dockerfile. Terms as for `tar_context`."""
    target.mkdir()
    entries = [inputs.files[path] for path in sorted(inputs.files)]
    for entry in entries:
        check()
        full = target / entry.path
        full.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "dir":
            full.mkdir(exist_ok=True)
        elif entry.kind == "link":
            full.symlink_to(read_link(context / entry.path, entry))
        elif entry.digest:
            with full.open("wb") as file:
                for chunk in read_file(context / entry.path, entry):
                    file.write(chunk)
                    check()
        elif entry.mode & 0o170000 == 0o010000:
            os.mkfifo(full)
    for entry in reversed(entries):  # what lies in a folder changes the folder's mtime
        full = target / entry.path
        if entry.kind != "link" and full.exists():
            full.chmod(entry.mode & 0o7777)
            os.utime(full, ns=(entry.mtime_ns, entry.mtime_ns))


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
