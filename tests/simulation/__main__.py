"""Runs of the simulation: `python -m tests.simulation --seed 1 --runs 100`; prints each seed that fails."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tests.simulation.planted import PLANTED
from tests.simulation.run import run
from tests.simulation.script import Step, random_script
from tests.simulation.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1, help="one seed after the other")
    parser.add_argument("--seconds", type=float, help="of CPU, instead of --runs")
    parser.add_argument("--without", choices=sorted(PLANTED), help="with this bug planted")
    parser.add_argument("--script", type=Path, help="steps to do, a line each, in the place of random ones")
    parser.add_argument("--shrink", action="store_true", help="the shortest script of a seed that goes wrong")
    parser.add_argument("--trace", action="store_true", help="what happened, line by line")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of texts is part of a schedule
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
                  {**os.environ, "PYTHONHASHSEED": "0"})  # fmt: skip
    began, bad, runs, trips, steps_done, virtual = time.process_time(), 0, 0, 0, 0, 0.0
    answers: Counter[str] = Counter()
    planted = PLANTED[given.without]() if given.without else nullcontext()
    with planted:
        for seed in itertools.count(given.seed):
            lines = given.script.read_text().splitlines() if given.script else ()
            steps = [Step.parse(line) for line in lines] or random_script(seed)
            result = run(seed, steps)
            runs, trips = runs + 1, trips + result.trips
            steps_done, virtual = steps_done + len(steps), virtual + result.seconds
            answers.update(result.answers)
            if given.trace:
                print(*result.trace, sep="\n")
            if result.violations:
                bad += 1
                first = f"{len(result.violations)} violations; the first: {result.violations[0]}"
                print(f"seed {seed}: {first}", flush=True)
                if given.shrink:
                    print(*shrink(steps, partial(_fails, seed)), sep="\n", flush=True)
                if given.without:
                    break
            over = (
                runs >= given.runs if given.seconds is None else time.process_time() - began >= given.seconds
            )
            if over:
                break
    spent = time.process_time() - began
    print(f"{runs} runs from seed {given.seed}, {bad} bad; {steps_done} steps, {trips} trips")
    if answers:
        print("waits: " + ", ".join(f"{count} {state}" for state, count in answers.most_common()))
    rates = f"{runs / spent:.2f} runs, {steps_done / spent:.0f} steps a second"
    print(f"{virtual / 60:.0f} virtual minutes in {spent:.1f} s of CPU: {rates}")
    return 1 if bad else 0


def _fails(seed: int, steps: Sequence[Step]) -> bool:
    return bool(run(seed, steps).violations)


if __name__ == "__main__":
    sys.exit(main())
