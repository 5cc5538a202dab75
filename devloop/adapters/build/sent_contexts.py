"""Under which name a context goes to the docker command, so that BuildKit takes no file for another.

BuildKit keeps the files of a context and asks again only for those whose size or mtime moved (S8). It does
not see other content under both, nor another mode of a directory. It finds its copy by the name of the
directory: the whole path (docker 18.09 to 22), or the last part of it (buildx). So a context goes out under
a name that nobody else uses, a link, and a record says what went out under it. Inputs that might be confused
get a new name, and with it a new copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from devloop import scratch
from devloop.dockerfile.dockerignore import candidates
from devloop.errors import BuildError
from devloop.model import BuildSpec, Inputs

_BEGUN, _READ = "begun", "read"
_SPARE = 10_000  # lines beyond twice the inputs, from which on a record is restarted


@dataclass(slots=True)
class Name:
    """One link to a context. `users`: builds that use it now; `over`: no further build may."""

    link: Path
    record: IO[str] | None  # None: nothing can be written down of it
    users: int = 0
    over: bool = False


class SentContexts:
    """The names in use, by service and context. Blocking, and safe in threads."""

    def __init__(self, folder: Path) -> None:
        """`folder`: in the state directory, for this alone."""
        self._folder = folder
        self._names: dict[tuple[str, Path], Name] = {}
        self._lock = threading.Lock()

    def take(self, service: str, spec: BuildSpec, inputs: Inputs) -> Name:
        """The name under which these inputs go out now. `done` must follow, whatever comes of the build."""
        entries = dict(_entries(spec, inputs))
        context = Path(os.path.abspath(spec.context))  # noqa: PTH100 - links stay as they are
        key = service, context
        with self._lock:
            name = self._names.get(key) or self._kept(service, context)
            if name is not None and (name.over or not _add(name, entries)):
                self._end(name)
                name = None
            if name is None:
                name = self._new(service, context)
                name.over = not _add(name, entries)
            name.users += 1
            self._names[key] = name
            return name

    def done(self, name: Name, *, read: bool) -> None:
        """A build has ended. `read`: it read the context to its end, and the inputs were those of `take`."""
        with self._lock:
            name.users -= 1
            if not (read and _say(name, _READ)):
                name.over = True
            if name.over:
                self._end(name)

    def _end(self, name: Name) -> None:
        name.over = True
        if name.users:
            return  # the last of them ends it
        for path in (name.link, _record_of(name.link)):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if name.record is not None:
            with suppress(OSError):
                name.record.close()
        if name.link.parent != self._folder:
            with suppress(OSError):
                name.link.parent.rmdir()

    def _kept(self, service: str, context: Path) -> Name | None:
        """The name that an earlier devloop used last; what else it left goes."""
        kept: Name | None = None
        for file in sorted(self._folder.glob(f"{service}@*.sent")):
            link = file.with_suffix("")
            try:
                name = Name(link, _locked(file.open("r+")))
            except OSError:
                continue  # another devloop's
            if kept is None and _points(link, context) and _known(name) is not None:
                kept = name
            else:
                self._end(name)
        return kept

    def _new(self, service: str, context: Path) -> Name:
        unique = f"{service}@{secrets.token_hex(8)}"
        link = self._folder / unique
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            record = _locked(_record_of(link).open("x+"))
            link.symlink_to(context)
        except OSError:  # no space or no permission: a name for this build alone
            return Name(_link_for_once(unique, context), None)
        return Name(link, record)


def _link_for_once(name: str, context: Path) -> Path:
    try:
        link = scratch.new_folder() / name
        link.symlink_to(context)
    except OSError as problem:
        raise BuildError(
            f"cannot make a link to {context}: {problem.strerror}",
            reason="DiskFailed",
            hint="free space in the temporary directory, or set TMPDIR to another one",
        ) from problem
    return link


def _record_of(link: Path) -> Path:
    return link.with_name(f"{link.name}.sent")


def _points(link: Path, context: Path) -> bool:
    try:
        return os.readlink(link) == os.fspath(context)  # noqa: PTH115 - as text
    except OSError:
        return False


def _locked(record: IO[str]) -> IO[str]:
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        record.close()
        raise
    return record


def _entries(spec: BuildSpec, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """What BuildKit compares of each file, and what it takes to be recognised by that. Both shortened."""
    for entry in inputs.files.values():
        if entry.kind == "dir":
            yield _short(entry.path, "dir"), f"{entry.mode:o}"
        elif entry.kind == "file":
            yield _short(entry.path, entry.size, entry.mtime_ns), entry.digest[:16] or "-"
    others = (
        (spec.dockerfile, inputs.dockerfile_digest),
        *((path, inputs.ignore_digest) for path in _ignore_files(spec)),
    )
    for path, digest in others:
        with suppress(OSError):
            status = path.stat()
            yield _short(os.fspath(path), status.st_size, status.st_mtime_ns), digest[:16] or "-"


def _ignore_files(spec: BuildSpec) -> tuple[Path, ...]:
    """The one that counts."""
    found = [path for path in candidates(spec.context, spec.dockerfile) if path.exists()]
    return tuple(found[:1])


def _short(*values: object) -> str:
    joined = "\0".join(map(str, values)).encode(errors="surrogateescape")
    return hashlib.blake2b(joined, digest_size=8).hexdigest()


def _add(name: Name, entries: Mapping[str, str]) -> bool:
    """Write down that these go out; False if BuildKit might take one of them for another."""
    known = _known(name, running=name.users)
    if known is None or len(known) > 2 * len(entries) + _SPARE:
        return False
    if any(known.get(key, value) != value for key, value in entries.items()):
        return False
    return _say(name, *(f"{key} {value}" for key, value in entries.items() if key not in known), _BEGUN)


def _known(name: Name, *, running: int = 0) -> dict[str, str] | None:
    """What went out under the name. None: of a build that is no longer running it is not known."""
    if name.record is None:
        return None
    try:
        name.record.seek(0)
        lines = name.record.read().splitlines()
        known = dict(line.split(" ") for line in lines if line not in (_BEGUN, _READ))
    except (OSError, ValueError):
        return None
    return known if lines.count(_BEGUN) - lines.count(_READ) == running else None


def _say(name: Name, *lines: str) -> bool:
    """Add lines to the record; it lasts as long as the engine's copy does."""
    if name.record is None:
        return False
    try:
        name.record.seek(0, os.SEEK_END)
        name.record.write("".join(f"{line}\n" for line in lines))
        name.record.flush()
        os.fsync(name.record.fileno())
    except OSError:
        return False
    return True
