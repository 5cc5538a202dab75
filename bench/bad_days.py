"""`devloop watch` driven through bad days on the sandbox, one after the other, in one process.

    python bench/bad_days.py                       # every day once, then again until --minutes are over
    python bench/bad_days.py --minutes 30
    python bench/bad_days.py --only 'Dockerfile'   # the days whose names contain this

A day breaks something, looks at what devloop says of it in every place that tells it (/api/status,
devloop_live), mends it, and waits until the pods hold exactly what is on disk, as read out of the containers.
At the end nothing may be left: the process lives, everything is live and converged, descriptors, threads,
children, temporary files and state are bounded, Ctrl-C ends it within two seconds, and no traceback was ever
printed. Exit code 1 where one of these does not hold.

Needs a Docker engine, root and the base of `scripts/base-image --tiny-only`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.days import DAYS, SETTLE, Day, World  # noqa: E402
from tests.support.sample_project import Project, Sandbox, free_port  # noqa: E402


def resources(pid: int, world: World) -> dict[str, int]:
    """What may not grow: descriptors, threads, children, kB of memory, temporary folders, kB of state."""
    status = Path(f"/proc/{pid}/status").read_text()
    state = Path(world.sandbox.environ["XDG_STATE_HOME"]) / "devloop"
    own = [path for path in state.iterdir() if path.name != "sandbox"] if state.is_dir() else []
    size = sum(file.stat().st_size for folder in own for file in folder.rglob("*") if file.is_file())
    children = [one for one in Path("/proc").glob("[0-9]*/stat") if _parent(one) == pid]
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "children": len(children),
        "rss_kb": int(status.partition("VmRSS:")[2].split()[0]),
        "temporary": len(list(world.scratch.glob("*"))),
        "state_kb": size // 1024,
    }


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


BOUNDS = {
    "descriptors": 20,
    "threads": 12,
    "children": 2,
    "rss_kb": 60_000,
    "temporary": 2,
    "state_kb": 20_000,
}


def run_days(world: World, days: dict[str, Day], ends: float) -> list[str]:
    """The days that went wrong, each with what was seen."""
    assert world.watch is not None
    wrong: list[str] = []
    first = True
    while first or time.monotonic() < ends:
        for name, function in days.items():
            if not first and time.monotonic() > ends:
                break
            began = time.monotonic()
            mark = len(world.watch.text())
            try:
                function(world)
                world.watch.wait("converged after it was mended", world.converged, SETTLE)
                result = "ok"
            except (AssertionError, OSError) as error:
                result = f"WRONG: {str(error).splitlines()[0]}"
                wrong.append(f"{name}: {result}\n{world.watch.text()[mark:][-3000:]}")
            if "Traceback (most recent call last)" in world.watch.text()[mark:]:
                result = "WRONG: a traceback was printed"
                wrong.append(f"{name}: {result}\n{world.watch.text()[mark:][-3000:]}")
            print(f"{time.monotonic() - began:6.1f} s  {name}: {result}", flush=True)
            if world.watch.process.poll() is not None:
                return [*wrong, f"devloop watch ended with {world.watch.process.returncode} in {name}"]
        first = False
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    days = {name: function for name, function in DAYS.items() if given.only in name}
    ends = time.monotonic() + 60 * given.minutes
    home = Path(tempfile.mkdtemp(prefix="bad-days-"))
    scratch = home / "tmp"
    scratch.mkdir()
    sandbox = Sandbox(f"bad-days-{os.getpid()}", home / "state", variables={"TMPDIR": str(scratch)})
    sandbox.state.mkdir()
    sandbox.up()
    world = World(home / "project", sandbox, f"days-{os.getpid()}", free_port(), scratch=scratch)
    sandbox.kubectl("create", "namespace", world.namespace)
    world.root.mkdir()
    world.write()
    project = Project(world.root, sandbox, world.namespace, metrics_port=world.port)
    try:
        with project.watch() as watch:
            world.watch = watch
            watch.wait("the first versions are live", world.converged)
            before = resources(watch.process.pid, world)
            wrong = run_days(world, days, ends)
            if watch.process.poll() is None:
                after = resources(watch.process.pid, world)
                for what, bound in BOUNDS.items():
                    print(f"{what}: {before[what]} at the start, {after[what]} at the end")
                    if after[what] - before[what] > bound:
                        wrong.append(f"{what} grew from {before[what]} to {after[what]}")
                began = time.monotonic()
                watch.stop()
                took = time.monotonic() - began
                print(f"Ctrl-C: ended after {took:.1f} s")
                if took > 2.0:
                    wrong.append(f"Ctrl-C took {took:.1f} s")
        project.remove()
    finally:
        sandbox.down()
        shutil.rmtree(home, ignore_errors=True)
    for one in wrong:
        print(f"\n{one}")
    print(f"\n{len(days)} days, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
