"""What devloop and the sandbox cost while nothing happens: CPU share of one core, and memory.

    python bench/idle.py [--seconds 60] [--settle 0]

Runs the sample on a sandbox of its own under `devloop watch`, and beside it a Python process that sleeps:
what the machine itself makes of "nothing". Rows: after the start, after a storm of edits, and, with
`--settle 600`, after ten minutes of rest. Targets: watch <= 0.8 % between edits, <= 0.3 % after ten idle
minutes, RSS <= 110 MB; sandbox <= 0.5 %.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.conftest import new_project
from tests.support.sample_project import Project, Sandbox, Watch

TIDYING = 10.0  # seconds after a trip in which old images are removed: no rest yet
STORM = 20  # edits


class Meter:
    """CPU seconds and memory of a process with all its children."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self._process = name, psutil.Process(pid)
        self._spent = 0.0

    def begin(self) -> None:
        self._spent = self._seconds()

    def share(self, seconds: float) -> float:
        """Percent of one core since `begin`."""
        return 100 * (self._seconds() - self._spent) / seconds

    def megabytes(self) -> float:
        return sum(p.memory_info().rss for p in self._all()) / 1e6

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)


def measure(what: str, meters: list[Meter], seconds: float) -> None:
    for meter in meters:
        meter.begin()
    time.sleep(seconds)
    cells = "   ".join(f"{m.name} {m.share(seconds):5.2f} % {m.megabytes():6.1f} MB" for m in meters)
    print(f"{what:28} {cells}   load {os.getloadavg()[0]:.1f}", flush=True)


def storm(project: Project, watch: Watch) -> None:
    for number in range(STORM):
        project.greet(f"storm {number}")
        time.sleep(0.3)
    watch.wait("served", lambda: project.served_greeting() == f"storm {STORM - 1}", 180)
    watch.wait("live", watch.live, 180)


def run(seconds: float, settle: float) -> None:
    state = Path(tempfile.mkdtemp(prefix="devloop-idle-"))
    sandbox = Sandbox(f"idle-{os.getpid()}", state)
    sandbox.up()
    sleeper = subprocess.Popen((sys.executable, "-c", "import time; time.sleep(1e6)"))
    project = None
    try:
        project = new_project(sandbox, state / "todo")
        with project.watch() as watch:
            watch.wait("both live", watch.live, 240)
            meters = [
                Meter("watch", watch.process.pid),
                Meter("sandbox", sandbox.pid()),
                Meter("sleeping python", sleeper.pid),
            ]
            time.sleep(TIDYING)
            measure("after the start", meters, seconds)
            storm(project, watch)
            time.sleep(TIDYING)
            measure(f"after {STORM} edits", meters, seconds)
            if settle:
                time.sleep(settle)
                measure(f"after {settle:.0f} s of rest", meters, seconds)
    finally:
        sleeper.kill()
        sleeper.wait()
        if project is not None:
            project.remove()
        sandbox.down()
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long each row is measured")
    parser.add_argument("--settle", type=float, default=0, help="seconds of rest before a last row")
    given = parser.parse_args()
    run(given.seconds, given.settle)


if __name__ == "__main__":
    main()
