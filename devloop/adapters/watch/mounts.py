"""Mounts: which file systems tell the kernel nothing of changes made elsewhere, and when mounts change."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anyio

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = ("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs")
USERLAND = ("fuse.glusterfs", "fuse.grpcfuse", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs")
MACHINES = ("drvfs", "vboxsf", "virtiofs", "vmhgfs")
SILENT = frozenset((*NETWORK, *USERLAND, *MACHINES))


@dataclass(frozen=True, slots=True)
class Mount:
    point: str
    kind: str


def mounts_of(table: Path = MOUNTS) -> tuple[Mount, ...]:
    """All mounts, in the order in which they were made; () where there is no /proc: not Linux."""
    try:
        lines = table.read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return ()
    found = []
    for line in filter(None, lines):
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        found.append(Mount(_plain(point), after.split(" ")[0]))
    return tuple(found)


def silent_type(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the folder's file system if it must be polled (WSL's /mnt/c, NFS, SMB), else None."""
    best, kind = "", ""
    resolved = os.path.realpath(folder)  # as far as it goes: Path.resolve() raises at links in a circle
    for mount in mounts_of(mounts):
        if is_within(resolved, mount.point) and len(mount.point) >= len(best):
            best, kind = mount.point, mount.kind
    return kind if kind in SILENT else None


def silent_below(folder: Path, mounts: Path = MOUNTS) -> dict[Path, str]:
    """Folders below this one that must be polled though it need not itself, and their types."""
    resolved = os.path.realpath(folder)
    return {
        folder / mount.point[len(resolved) :].lstrip("/"): mount.kind
        for mount in mounts_of(mounts)
        if mount.kind in SILENT and mount.point != resolved and is_within(mount.point, resolved)
    }


def touching(roots: Sequence[str], table: Path = MOUNTS) -> frozenset[str]:
    """The lines on mounts that a change of what lies at or below these real paths can come from.

    Asked whenever anything is mounted anywhere, by each container that starts: cheap, no thread needed.
    """
    try:
        text = table.read_text("utf-8", "surrogateescape")
    except OSError:
        return frozenset()
    found = set()
    for line in text.split("\n"):
        point = _plain(line.split(" ", 5)[4]) if line else None
        if point and any(is_within(point, root) or is_within(root, point) for root in roots):
            found.add(line)
    return frozenset(found)


class KernelMountAlarm:
    """`wait` returns when something was mounted or unmounted; never where the kernel does not say."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._poll = None
        if hasattr(select, "epoll") and MOUNTS.exists():
            table = self._stack.enter_context(MOUNTS.open("rb"))
            # A loop waits for "readable", the kernel reports mounts by EPOLLPRI: a poll within the poll.
            self._poll = self._stack.enter_context(select.epoll())
            self._poll.register(table, select.EPOLLPRI)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def wait(self) -> None:
        if self._poll is None:
            await anyio.sleep_forever()
        else:
            await anyio.wait_readable(self._poll.fileno())
            self._poll.poll(0)


def _plain(point: str) -> str:
    """A path as it is: mountinfo writes blanks and the like as \\040."""
    if "\\" not in point:
        return point
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), point)


def is_within(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")
