"""What the watcher costs: save -> delivery, start beside 100,000 ignored files, idle CPU, cancelling.

python bench/watching.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import anyio

from devloop.adapters.watch.backend import local_backend
from devloop.clock import Clock
from devloop.events import Event
from devloop.model import Change
from devloop.watch.watcher import Interest, Watcher

IGNORED_FILES, IGNORED_FOLDERS = 100_000, 2_000
SAVES, IDLE = 60, 10.0


def tree(root: Path) -> None:
    for number in range(200):
        folder = root / "src" / str(number)
        folder.mkdir(parents=True)
        for file in range(20):
            (folder / f"{file}.py").write_text("x")
    for number in range(IGNORED_FOLDERS):
        folder = root / "node_modules" / str(number)
        folder.mkdir(parents=True)
        for file in range(IGNORED_FILES // IGNORED_FOLDERS):
            (folder / f"{file}.js").touch()


async def measure(root: Path) -> None:
    clock = Clock()
    delivered = anyio.Event()
    at = 0.0

    def deliver(service: str, change: Change) -> None:
        nonlocal at
        at = clock.now()
        delivered.set()

    def ignore(event: Event) -> None:
        pass

    interest = Interest(
        "app",
        (root,),
        frozenset(),
        lambda path: "node_modules" not in path.parts,
        lambda path: path.name != "node_modules",
    )
    async with anyio.create_task_group() as group:
        begun = clock.now()
        await group.start(Watcher([interest], clock, ignore, local_backend()).run, deliver)
        print(f"start beside {IGNORED_FILES} ignored files: {(clock.now() - begun) * 1000:.0f} ms")
        took = []
        for number in range(SAVES):
            delivered = anyio.Event()
            saved = clock.now()
            (root / "src" / "1" / "1.py").write_text(str(number))
            await delivered.wait()
            took.append((at - saved) * 1000)
            await anyio.sleep(0.4)
        print(
            f"save -> delivery: median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms of {SAVES}"
        )
        before = time.process_time()
        await anyio.sleep(IDLE)
        print(f"idle: {(time.process_time() - before) / IDLE * 100:.3f} % of a core")
        begun = clock.now()
        group.cancel_scope.cancel()
    print(f"cancelling: {(clock.now() - begun) * 1000:.1f} ms")


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree(Path(folder))
        anyio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
