"""Fuzzers, each for a time of its own, with seeds that nobody has run before.

    python -m tests.fuzz                            # each for 60 s of CPU
    python -m tests.fuzz --seconds 600 state_files  # this one alone
    python -m tests.fuzz --seed 7                   # the rounds begin with this seed

Prints for each fuzzer its rounds' first seed, cases, seconds of CPU, MB that its memory grew by, and what it
found. Exit code 1 if one found something.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("DEVLOOP_FUZZ_TIMES", "5")
MOST_MEMORY = 4 << 30  # bytes of address space: what needs more has no bound


def fuzzers(names: list[str]) -> dict[str, list[Callable[[], None]]]:
    """The generated tests of each module, by the module's name without "test_"."""
    found: dict[str, list[Callable[[], None]]] = {}
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        name = file.stem.removeprefix("test_")
        if not names or name in names:
            module = importlib.import_module(f"tests.fuzz.{file.stem}")
            found[name] = [one for one in vars(module).values() if hasattr(one, "hypothesis")]
    return found


class Counted:
    """A generated test that counts its cases."""

    def __init__(self, test: Any) -> None:
        self.test, self.count, self.wrong = test, 0, ""
        inner = test.hypothesis.inner_test

        def counting(*args: Any, **kwargs: Any) -> None:
            self.count += 1
            inner(*args, **kwargs)

        test.hypothesis.inner_test = counting

    def round(self, seed: int) -> None:
        from hypothesis import seed as seeded

        try:
            seeded(seed)(self.test)()
        except Exception:  # noqa: BLE001 - whatever it is: that is what is looked for
            self.wrong = traceback.format_exc()


def run(name: str, tests: list[Callable[[], None]], seconds: float, seed: int) -> bool:
    """Each of the fuzzer's tests in turn, until the time is over or all of them found something."""
    counted = [Counted(test) for test in tests]
    began, memory, number = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seed
    while time.process_time() - began < seconds and not all(one.wrong for one in counted):
        for one in counted:
            if not one.wrong:
                one.round(number)
        number += 1
    for one in counted:
        if one.wrong:
            print(f"\n--- {name}: {one.test.__name__}\n{one.wrong}", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) // 1024
    wrong = sum(bool(one.wrong) for one in counted)
    print(
        f"{name}: seeds {seed} to {number - 1}, {sum(one.count for one in counted)} cases, "
        f"{time.process_time() - began:.0f} s of CPU, {grown} MB more, {wrong} found something",
        flush=True,
    )
    return not wrong


def main() -> int:
    from hypothesis import settings

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU, for each")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000_000)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", "Generating overly large repr")
    settings.register_profile("fuzz", derandomize=False, database=None)
    settings.load_profile("fuzz")
    with suppress(ValueError):  # there is a lower limit already
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    results = [run(name, tests, given.seconds, given.seed) for name, tests in fuzzers(given.names).items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
