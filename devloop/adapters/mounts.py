"""Which folders lie on a file system that tells the kernel nothing of changes made elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = ("9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs")
USERLAND = ("fuse.glusterfs", "fuse.grpcfuse", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs")
MACHINES = ("drvfs", "vboxsf", "virtiofs", "vmhgfs")
SILENT = frozenset((*NETWORK, *USERLAND, *MACHINES))


def silent_type(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the folder's file system if it must be polled (WSL's /mnt/c, NFS, SMB), else None."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None  # no /proc: not Linux
    best, kind = "", ""
    resolved = os.path.realpath(folder)  # as far as it goes: Path.resolve() raises at links in a circle
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind if kind in SILENT else None
