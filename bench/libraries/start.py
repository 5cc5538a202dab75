"""What a user waits for at the start, of two checkouts in turns: seconds, CPU and memory of whole processes.

    python bench/libraries/start.py OLD NEW [--config config.yaml] [--rounds 10]

Always `devloop --version`; with --config also `devloop status` and `devloop once` on that project's cluster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MAIN = "import sys; from devloop.cli import main; sys.argv[0] = 'devloop'; sys.exit(main())"


def run(checkout: Path, arguments: list[str]) -> tuple[float, float, float]:
    """(seconds, CPU seconds, MB at most) of one devloop, its own process alone."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(f"{checkout}: devloop {' '.join(arguments)} ends with {process.returncode}", file=sys.stderr)
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkouts", nargs=2, type=Path)
    parser.add_argument("--config")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    commands = [["--version"]]
    if options.config:
        commands += [["status", "--config", options.config], ["once", "--config", options.config]]
    for arguments in commands:
        found: dict[Path, list[tuple[float, float, float]]] = {one: [] for one in options.checkouts}
        for _ in range(options.rounds):
            for checkout, results in found.items():
                results.append(run(checkout.resolve(), arguments))
        for checkout, results in found.items():
            seconds, cpu, memory = (statistics.median(column) for column in zip(*results, strict=True))
            print(f"devloop {arguments[0]}, {checkout}: {seconds:.2f} s, {cpu:.2f} s CPU, {memory:.0f} MB")


if __name__ == "__main__":
    main()
