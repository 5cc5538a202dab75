"""What would be lost with watchfiles on Linux (docs/adr/0003), each beside devloop's own watcher.

    python bench/libraries/watchfiles_on_linux.py

Needs no root: a queue runs over because its reader is stopped (SIGSTOP) while 20,000 events come.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

FLOOD = 20_000  # events; the kernel's queue holds 16,384
WATCHFILES = """
import json, sys
from watchfiles import watch
print("ready", flush=True)
for batch in watch(sys.argv[1], watch_filter=None, step=10, rust_timeout=0, yield_on_timeout=True,
                   force_polling="--polling" in sys.argv, poll_delay_ms=100):
    if batch:
        print(json.dumps([path for _, path in batch]), flush=True)
"""
OWN = """
import json, sys
from pathlib import Path
import anyio
from devloop.adapters.watch.inotify import Inotify
from devloop.adapters.watch.polling import Polling
from devloop.watch.source import Roots
source = Polling if "--polling" in sys.argv else Inotify
roots = Roots({Path(sys.argv[1]): lambda folder: folder.name != "node_modules"})
def seen(batch):
    paths = [str(path) for path in (*batch.paths, *batch.fresh)]
    print(json.dumps([*paths, *(["LOST: " + batch.lost] if batch.lost else [])]), flush=True)
async def main():
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: source(roots).run(seen, task_status=task_status))
        print("ready", flush=True)
anyio.run(main)
"""


class Watcher:
    """A watcher in a process of its own; `seen` is every line that it printed, as (moment, names)."""

    def __init__(self, name: str, root: Path, *options: str) -> None:
        self.name = name
        code = WATCHFILES if name == "watchfiles" else OWN
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(root), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.seen: list[tuple[float, list[str]]] = []
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(2)  # watchfiles sets its watches after it was called

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.seen.append((time.monotonic(), json.loads(line)))

    def has(self, text: str, seconds: float = 5.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(text in name for _, names in list(self.seen) for name in names):
                return True
            time.sleep(0.01)
        return False

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def overflow(name: str, root: Path, *, flood_by_writing: bool = False) -> str:
    """Files that nobody changes are read while the watcher is stopped; then one file is saved."""
    for number in range(2):  # by turns: the kernel merges events that are the same
        (root / f"read-{number}.txt").write_text("x")
    watcher = Watcher(name, root)
    watcher.process.send_signal(signal.SIGSTOP)
    for number in range(FLOOD):
        (root / f"read-{number % 2}.txt").read_bytes()
        if flood_by_writing:
            (root / f"{number % 2}.txt").write_text("x")
    (root / "saved.txt").write_text("saved")
    watcher.process.send_signal(signal.SIGCONT)
    saved, lost = watcher.has("saved.txt"), watcher.has("LOST", 0.1)
    watcher.end()
    return (
        f"the save is {'reported' if saved else 'LOST'}, the overflow is {'reported' if lost else 'silent'}"
    )


def overflow_by_writing(name: str, root: Path) -> str:
    return "by writing: " + overflow(name, root, flood_by_writing=True)


def saves_in_a_second(name: str, root: Path) -> str:
    (root / "a.txt").write_text("0")
    watcher = Watcher(name, root, "--polling")
    seen = 0
    for number in range(8):
        before = len(watcher.seen)
        (root / "a.txt").write_text(str(number))
        time.sleep(0.3)
        seen += len(watcher.seen) > before
    watcher.end()
    return f"{seen} of 8 saves 0.3 s apart are seen by polling"


def odd_name(name: str, root: Path) -> str:
    watcher = Watcher(name, root)
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.txt")).write_text("x")
    time.sleep(0.5)
    (root / "after.txt").write_text("x")
    found = watcher.has("after.txt")
    watcher.end()
    return f"a save after a file whose name is not UTF-8 is {'seen' if found else 'LOST'}"


def root_made_again(name: str, root: Path) -> str:
    watcher = Watcher(name, root)
    shutil.rmtree(root)
    time.sleep(0.5)
    root.mkdir()
    time.sleep(0.5)
    (root / "again.txt").write_text("x")
    found = watcher.has(str(root / "again.txt")) or (
        name != "watchfiles" and watcher.has(str(root), 0.1)  # a folder of which anything may have changed
    )
    watcher.end()
    return f"a save in a root that was deleted and made again is {'seen' if found else 'LOST'}"


def hard_link(name: str, root: Path) -> str:
    outside = root.parent / f"outside-{name}.txt"
    outside.write_text("x")
    (root / "linked.txt").hardlink_to(outside)
    watcher = Watcher(name, root)
    outside.write_text("changed")
    found = watcher.has("linked.txt")
    watcher.end()
    return f"a save through another name of the file is {'seen' if found else 'LOST'}"


def idle(name: str, root: Path) -> str:
    watcher = Watcher(name, root)
    process = psutil.Process(watcher.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(20)
    used = (sum(process.cpu_times()[:2]) - before) / 20 * 100
    watcher.end()
    return f"idle: {used:.2f} % of a core"


def latency(name: str, root: Path) -> str:
    watcher = Watcher(name, root)
    took = []
    for number in range(30):
        begun = time.monotonic()
        (root / f"save-{number}.txt").write_text("x")
        assert watcher.has(f"save-{number}.txt")
        moment = next(at for at, names in watcher.seen if any(f"save-{number}.txt" in one for one in names))
        took.append((moment - begun) * 1000)
        time.sleep(0.1)
    watcher.end()
    return f"save to event: median {sorted(took)[15]:.1f} ms"


if __name__ == "__main__":
    for case in (
        overflow,
        overflow_by_writing,
        saves_in_a_second,
        odd_name,
        root_made_again,
        hard_link,
        latency,
        idle,
    ):
        for name in ("watchfiles", "devloop"):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "root"
                root.mkdir()
                print(f"{name:>10}: {case(name, root)}", flush=True)
