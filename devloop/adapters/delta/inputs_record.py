"""The inputs of a build as the state directory keeps them (S27)."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from devloop import state_file
from devloop.dockerfile.plan import Base
from devloop.model import FileEntry, Inputs

MOST = 20_000  # files: to write down more takes longer than it saves


def dump(inputs: Inputs | None) -> str:
    """For a JSON record; "" for nothing, or for too much."""
    if inputs is None or len(inputs.files) > MOST:
        return ""
    files = [[e.path, e.kind, e.mode, e.size, e.mtime_ns, e.digest] for e in inputs.files.values()]
    bases = [[b.ref, b.id, b.onbuild, b.env, b.workdir, b.user] for b in inputs.bases]
    record = [files, bases, inputs.platform, inputs.dockerfile_digest, inputs.ignore_digest]
    return base64.b64encode(zlib.compress(json.dumps(record).encode(), 1)).decode()


def load(text: str) -> Inputs | None:
    """What `dump` was given. Raises whatever it likes for what that did not write."""
    if not text:
        return None
    files, bases, platform, dockerfile, ignored = json.loads(zlib.decompress(base64.b64decode(text)))
    entries = {entry.path: entry for entry in map(_entry, files)}
    for word in (platform, dockerfile, ignored):
        state_file.text(word)
    return Inputs(entries, tuple(map(_base, bases)), platform, dockerfile, ignored)


def _entry(row: Any) -> FileEntry:
    path, kind, mode, size, mtime_ns, digest = row
    if kind not in ("file", "dir", "link"):
        raise ValueError("no kind of file")
    for number in (mode, size, mtime_ns):
        state_file.count(number)
    return FileEntry(state_file.text(path), kind, mode, size, mtime_ns, state_file.text(digest))


def _base(row: Any) -> Base:
    ref, digest, onbuild, env, workdir, user = row
    texts = state_file.each(state_file.text)
    return Base(
        state_file.text(ref),
        state_file.text(digest),
        tuple(texts(onbuild)),
        None if env is None else tuple(texts(env)),
        None if workdir is None else state_file.text(workdir),
        None if user is None else state_file.text(user),
    )
