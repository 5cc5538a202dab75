"""Runs of the simulation: `python -m tests.simulation --seed 1 --runs 100`; prints each seed that fails."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.simulation.run import run
from tests.simulation.script import Step, random_script
from tests.simulation.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--script", type=Path, help="steps to do, a line each, in the place of random ones")
    parser.add_argument("--shrink", action="store_true", help="the shortest script of a seed that goes wrong")
    parser.add_argument("--trace", action="store_true", help="what happened, line by line")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of texts is part of a schedule
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
                  {**os.environ, "PYTHONHASHSEED": "0"})  # fmt: skip
    began, bad, trips, steps_done, virtual = time.process_time(), 0, 0, 0, 0.0
    for seed in range(given.seed, given.seed + given.runs):
        lines = given.script.read_text().splitlines() if given.script else ()
        steps = [Step.parse(line) for line in lines] or random_script(seed)
        result = run(seed, steps)
        trips, steps_done, virtual = trips + result.trips, steps_done + len(steps), virtual + result.seconds
        if given.trace:
            print("\n".join(result.trace))
        if result.violations:
            bad += 1
            print(
                f"seed {seed}: {len(result.violations)} violations; the first: {result.violations[0]}",
                flush=True,
            )
            if given.shrink:
                shortest = shrink(steps, lambda fewer, seed=seed: bool(run(seed, fewer).violations))  # type: ignore[misc]
                print(*shortest, sep="\n", flush=True)
    spent = time.process_time() - began
    print(
        f"{given.runs} runs, {bad} bad; {steps_done} steps, {trips} trips, {virtual / 60:.0f} virtual minutes"
        f" in {spent:.1f} s of CPU: {given.runs / spent:.2f} runs and {steps_done / spent:.0f} steps a second"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
