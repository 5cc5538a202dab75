"""The real BuildKit as an oracle: what `docker build` makes of a context, as a tar, no image left behind."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

# Debian's CLI has BuildKit built in; others need the buildx plugin.
_CANDIDATES = ("/usr/bin/docker", "docker")


class RefusedError(Exception):
    """BuildKit refused; the text is its own."""


def docker_cli() -> str:
    for candidate in _CANDIDATES:
        found = shutil.which(candidate)
        if found:
            return found
    raise RuntimeError("no docker command on this machine")


@dataclass(frozen=True)
class Built:
    """One file of a built file system."""

    type: str  # file, dir, link, fifo, hard
    mode: int
    uid: int
    gid: int
    mtime: float
    link: str
    content: bytes


def build(context: Path, dockerfile: str | Path = "FROM scratch\nCOPY . /\n", *args: str) -> dict[str, Built]:
    """Path -> entry of the target's file system. A text is given to docker as a Dockerfile of its own
    outside the context. Raises RefusedError."""
    command = [docker_cli(), "build", *args, "-o", "-", "-f"]
    if isinstance(dockerfile, str):
        outside = context.parent / f"{context.name}.Dockerfile"
        outside.write_text(dockerfile)
        dockerfile = outside
    done = subprocess.run(
        [*command, str(dockerfile), str(context)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RefusedError(done.stderr.decode(errors="replace"))
    return read_tar(done.stdout)


def read_tar(data: bytes) -> dict[str, Built]:
    types = {
        tarfile.DIRTYPE: "dir",
        tarfile.SYMTYPE: "link",
        tarfile.FIFOTYPE: "fifo",
        tarfile.LNKTYPE: "hard",
    }
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isfile() else None
            files[member.name.strip("/").removeprefix("./")] = Built(
                types.get(member.type, "file"),
                member.mode,
                member.uid,
                member.gid,
                member.mtime,
                member.linkname,
                opened.read() if opened else b"",
            )
    files.pop("", None)
    files.pop(".", None)
    return files
