"""Doing one thing inside a container's namespace, from a thread that is there only for that."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_KINDS = {"uts": 0x04000000, "net": 0x40000000}
_USUAL_ROOTS = {Path(run, "docker/runtime-runc/moby").resolve() for run in ("/run", "/var/run")}
_libc = ctypes.CDLL(None, use_errno=True)
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="namespace")


def mount_memory(path: Path, size: int | None) -> None:
    """A tmpfs that everybody may write to; `size` in bytes, None = the kernel's default."""
    options = "mode=1777" + (f",size={size}" if size is not None else "")
    nosuid_nodev = 0x2 | 0x4
    if _libc.mount(b"tmpfs", bytes(path), b"tmpfs", nosuid_nodev, options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))


def unmount_below(folder: Path) -> None:
    """Let go of every file system mounted in the folder, so that it can be removed."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split(" ")[1].encode().decode("unicode_escape")
        if Path(point).is_relative_to(folder):
            _libc.umount2(point.encode(), 2)  # MNT_DETACH


def _enter(path: str, kind: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        if _libc.setns(handle, _KINDS[kind]) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(handle)


def _within(pid: int, kind: str, work: Callable[[], Result]) -> Result:
    _enter(f"/proc/{pid}/ns/{kind}", kind)
    try:
        return work()
    finally:
        _enter(f"/proc/{os.getpid()}/ns/{kind}", kind)


async def within(pid: int, kind: str, work: Callable[[], Result]) -> Result:
    """Run the blocking `work` in namespace `kind` ("uts", "net") of the process; OSError if refused."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _within, pid, kind, work)


async def set_hostname(pid: int, name: str) -> None:
    await within(pid, "uts", lambda: socket.sethostname(name))


def _created_pid(states: list[Path]) -> int | None:
    """The init process of a container that runc has created, seen before its program runs."""
    for path in states:
        try:
            state = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        return int(state["init_process_pid"]) or None
    return None


def runc_roots(pid: int) -> set[Path]:
    """Where runc keeps its containers' states, found by a process in one of them.

    Its parent is the shim, whose folder is `…/<containerd's namespace>/<container>` and holds the engine's
    options for runc.
    """
    try:
        shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        options = json.loads(Path(f"/proc/{shim}/cwd/options.json").read_bytes())
        return {Path(options["root"], Path(f"/proc/{shim}/cwd").readlink().parent.name)}
    except (OSError, ValueError, LookupError, TypeError):
        return _USUAL_ROOTS


async def name_at_birth(container: str, name: str, holder: int) -> None:
    """Give the pod's name to a container while it starts; `holder` is a process of its pod.
    Cancel it when the start has returned.

    A container that joins another's network takes the other's host name, and a warm holder has none
    of the pod's. runc creates the process, waits, and only then runs the program: in that gap, about
    20 ms, the name is set, so the program never sees another.
    """
    states = [root / container / "state.json" for root in runc_roots(holder)]
    while (pid := _created_pid(states)) is None:  # noqa: ASYNC110  no event for it
        await asyncio.sleep(0.002)
    await set_hostname(pid, name)
