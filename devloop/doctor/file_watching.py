"""Whether the kernel lets everything be watched: what inotify may still give this user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from devloop.doctor.diagnosis import Diagnoses, Diagnosis, count, ok, warning
from devloop.model import Service
from devloop.watch.interests import service_interest
from devloop.watch.plan import WatchPlan, nothing, plan

LIMITS = Path("/proc/sys/fs/inotify")
PROCESSES = Path("/proc")
MORE_WATCHES = "sudo sysctl fs.inotify.max_user_watches=1048576"
MORE_INSTANCES = "sudo sysctl fs.inotify.max_user_instances=1024"


@dataclass(frozen=True, slots=True)
class Inotify:
    """What this user may have of one kind, and has already."""

    most_watches: int
    most_instances: int
    watches: int
    instances: int


async def file_watching(services: Iterable[Service]) -> Diagnoses:
    """Whether the kernel lets the contexts of all these services be watched."""
    interests = [service_interest(service, nothing) for service in services]

    def look() -> Diagnoses:
        limits = inotify()
        return [] if limits is None else [judged(limits, _watched(plan(interests)))]

    return await anyio.to_thread.run_sync(look)


def judged(now: Inotify, needed: int) -> Diagnosis:
    """`needed`: folders to watch."""
    if now.instances >= now.most_instances:
        text = f"all {now.most_instances} inotify instances of this user are in use: files are polled instead"
        return warning("file watching", text, MORE_INSTANCES)
    free = max(0, now.most_watches - now.watches)
    if needed > free:
        text = f"{count(needed, 'folder')} to watch, {free} of {now.most_watches} inotify watches are free"
        return warning("file watching", f"{text}: the rest is polled", MORE_WATCHES)
    return ok("file watching", f"{count(needed, 'folder')} to watch, {free} inotify watches free")


def inotify() -> Inotify | None:
    """None where this is not Linux."""
    try:
        watches, instances = (
            int((LIMITS / name).read_text()) for name in ("max_user_watches", "max_user_instances")
        )
    except (OSError, ValueError):
        return None
    used = [sum(line.startswith("inotify wd:") for line in text.splitlines()) for text in _instances()]
    return Inotify(watches, instances, sum(used), len(used))


def _instances() -> Iterator[str]:
    """What the kernel tells of each inotify instance of this user's processes."""
    for process in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid != os.getuid():
                continue
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(link) == "anon_inode:inotify":  # noqa: PTH115
                        yield (process / "fdinfo" / link.name).read_text()


def _watched(wanted: WatchPlan) -> int:
    """How many folders the watcher enters: each is watched once, in however many contexts it lies."""
    found: set[str] = set()
    for root, enters in wanted.folders.items():
        for folder, names, _ in os.walk(root):
            found.add(folder)
            names[:] = [name for name in names if enters(Path(folder, name))]
    return len(found)
