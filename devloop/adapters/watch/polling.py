"""File events by looking: for network file systems, and where the kernel has no watches left.

watchfiles' own polling compares whole seconds of mtime, so the second of two saves in a second is
lost; this one compares what the stat cache compares (S7).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from devloop.concurrency import in_stoppable_thread
from devloop.watch.source import Batch, Limit, WatchRoots

SHORTEST, LONGEST = 0.3, 10.0  # seconds between two looks
REST = 20  # a look may take 1/20 of the time

Signature = tuple[int, int, int, int, int]
State = dict[str, Signature]


class Polling:
    def __init__(self, roots: WatchRoots) -> None:
        self._roots = roots

    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        """Report what differs from one look to the next; never ends by itself."""
        state, cost = await in_stoppable_thread(self._look)
        task_status.started()
        while True:
            await anyio.sleep(min(LONGEST, max(SHORTEST, cost * REST)))
            before = state
            state, cost = await in_stoppable_thread(self._look)
            changed = {path for path in before.keys() | state.keys() if before.get(path) != state.get(path)}
            if changed:
                moved = _renamed(before, state, changed)
                seen(Batch(len(changed), {Path(path): True for path in changed}, moved=moved))

    def _look(self, stop: threading.Event) -> tuple[State, float]:
        begun = time.thread_time()
        state: State = {}
        for file in self._roots.files:
            _note(state, str(file))
        for root, enters in self._roots.folders.items():
            _walk(state, str(root), enters, stop)
        return state, time.thread_time() - begun


def _renamed(before: State, now: State, changed: set[str]) -> dict[Path, Path]:
    """Old path -> new path of files whose inode has another name now."""
    inode = 3
    gone = {before[path][inode]: path for path in changed if path in before and path not in now}
    came = (path for path in changed if path in now and path not in before)
    return {Path(gone[now[path][inode]]): Path(path) for path in came if now[path][inode] in gone}


def _note(state: State, path: str) -> None:
    try:
        stat = os.lstat(path)
    except OSError:
        return
    state[path] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino, stat.st_mode)


def _walk(state: State, root: str, enters: Callable[[Path], bool], stop: threading.Event) -> None:
    waiting = [root]
    while waiting and not stop.is_set():
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        _note(state, entry.path)
                    elif enters(Path(entry.path)):
                        mode = entry.stat(follow_symlinks=False).st_mode
                        state[entry.path] = (0, 0, 0, entry.inode(), mode)
                        waiting.append(entry.path)
        except OSError:
            continue  # gone, or not readable
