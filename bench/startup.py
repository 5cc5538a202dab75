"""What a user waits for at each command, of this tree and another in turns: CPU, seconds and memory.

    python bench/startup.py [OTHER_PYTHON] [--rounds 10] [--folder PROJECT] [COMMAND...]

OTHER_PYTHON is the Python of an environment in which another devloop is installed (`pip install -e .` in a
second worktree). The commands run in a small project whose cluster does not answer, or in --folder, a project
of yours; of `watch` the start is measured, up to its first line. Each environment runs each command once
before, so that byte code is there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("--version", "--help", "schema", "check --offline", "status", "once", "watch")
CONFIG = """
version: 1
cluster: {context: none, allow_remote: true}
services:
  app: {image: app, build: {context: .}}
metrics: {listen: "127.0.0.1:0"}
"""
# Nobody listens there: whatever comes before the first answer of a cluster is measured.
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: it, user: {token: none}}]
contexts: [{name: none, context: {cluster: it, user: it}}]
"""


@dataclass(frozen=True)
class Run:
    """CPU seconds (user and system), seconds, MB at most; of the command's own process alone."""

    cpu: float
    seconds: float
    memory: float
    code: int


def run(python: Path, words: Sequence[str], folder: Path, environ: dict[str, str]) -> Run:
    begun = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", "devloop.cli", *words],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    if words[0] == "watch":
        process.stdout.readline()
        process.terminate()
    seconds = time.perf_counter() - begun
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if words[0] != "watch":
        seconds = time.perf_counter() - begun
    return Run(used.ru_utime + used.ru_stime, seconds, used.ru_maxrss / 1024, process.returncode)


def project(folder: Path) -> dict[str, str]:
    """A small project there; the environment that keeps every cluster and engine of this machine out."""
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / "kubeconfig").write_text(KUBECONFIG)
    return {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "XDG_STATE_HOME": str(folder / "state"),
        "DOCKER_HOST": f"unix://{folder}/none.sock",
    }


def compare(
    pythons: Sequence[Path], words: Sequence[str], rounds: int, folder: Path, environ: dict[str, str]
) -> None:
    found: dict[Path, list[Run]] = {python: [] for python in pythons}
    for python in pythons:
        run(python, words, folder, environ)
    for number in range(rounds):
        for python in pythons if number % 2 else reversed(pythons):
            found[python].append(run(python, words, folder, environ))
    cells = [
        f"{statistics.median(one.cpu for one in runs):5.2f} s CPU "
        f"(least {min(one.cpu for one in runs):.2f}), "
        f"{statistics.median(one.seconds for one in runs):5.2f} s, "
        f"{statistics.median(one.memory for one in runs):3.0f} MB, exit {runs[-1].code}"
        for runs in found.values()
    ]
    ratios = ""
    if len(pythons) == 2:
        here, there = found.values()
        pairs = zip(here, there, strict=True)
        ratios = f"   CPU {statistics.median(a.cpu / b.cpu for a, b in pairs):.2f} of the other"
    print(f"{' '.join(words):16} {'   |   '.join(cells)}{ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", nargs="?", type=Path, metavar="OTHER_PYTHON")
    parser.add_argument("commands", nargs="*", default=COMMANDS, metavar="COMMAND")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="a project of yours, with its cluster")
    given = parser.parse_args()
    # A virtual environment's python is a link, and is that environment's by its path alone.
    pythons = [Path(sys.executable), *([given.other.absolute()] if given.other else [])]
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        environ |= {} if given.folder else project(folder)
        for command in given.commands:
            compare(pythons, command.split(), given.rounds, folder, environ)


if __name__ == "__main__":
    main()
