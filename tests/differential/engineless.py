"""`python -m tests.differential.engineless`: random cases without an engine, beside Docker's own code.

    python -m tests.differential.engineless --cases 50000 --seed 1
    python -m tests.differential.engineless --cases 1 --seed 4711 --show   # one again, with all its text

DEVLOOP_ORACLE names the program that answers for Docker (`tests/differential/oracle`). Ends with 1 and the
seeds if anything differed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.shell import UnresolvableError
from devloop.errors import DevloopError
from tests.differential import contexts, texts
from tests.differential.case import Case, make
from tests.differential.oracle import FILE, PROGRAM, Oracle, OracleError, Package
from tests.differential.promises import through
from tests.differential.texts import BASES, Found, Theirs
from tests.differential.wide import NAMES, VALUES, WideWriter

FEATURES = frozenset({"wide"})
MEMORY = Path("/dev/shm")
_ended: list[bool] = []  # by a signal
_WORDS = 8  # of each case, with variables


async def judge(case: Case, oracle: Oracle | None) -> Found:
    """All that can be asked of a case without an engine. Without an oracle: its lines, and what must hold of
    its tree whatever is copied."""
    found, chance = Found(), random.Random(case.seed)
    planned: Plan | None
    if oracle is not None or not Package.is_too_old_for(case.dockerfile):
        texts.parsed(case.dockerfile, oracle or Package(), found)
    if oracle is None:
        try:
            planned = texts.plan_of(case.dockerfile, case.args)
            theirs: Theirs | None = Theirs((), ())
            IgnoreRules.parse(case.ignored)
            if {base.ref for base in planned.bases} - {base.ref for base in BASES}:
                return found
        except (DevloopError, UnresolvableError):
            return found
    else:
        planned, theirs = texts.planned(case.dockerfile, case.args, oracle, found)
        _judge_words(case, chance, oracle, found)
        if texts.ignored(case.ignored, _paths_of(case.tree), oracle, found) is None:
            return found
    if planned is None or theirs is None:
        return found
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as home:
        layout = contexts.Layout.drawn(chance, Path(home))
        context = contexts.Context(layout, case.dockerfile, case.ignored, case.args, chance)
        context.plant(case.tree)
        try:
            await through(context, planned, theirs, case.steps, oracle, found)
        except DevloopError as problem:
            found.differences.append(f"devloop cannot look at it: {problem}")
        except OracleError as problem:
            found.counts[f"not sent: {problem}"] += 1
    return found


def _judge_words(case: Case, chance: random.Random, oracle: Oracle, found: Found) -> None:
    writer = WideWriter(chance, ("base:1",), case.tree)
    for _ in range(_WORDS):
        variables = {name: chance.choice(VALUES) for name in NAMES if chance.random() < 0.5}
        word = writer.word() + writer.variable()
        texts.expanded(word, variables, chance.choice(("\\", "\\", "`")), oracle, found)


def _paths_of(tree: Mapping[str, str | None]) -> list[str]:
    """The paths of a tree, their directories, and some that are not there."""
    paths = {*tree, *(f"{path}/below" for path in tree)}
    for path in tree:
        paths |= {"/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)}
    return sorted(paths)


async def _call(function: Callable[..., object], *arguments: object, **_: object) -> object:
    await anyio.lowlevel.checkpoint()
    return function(*arguments)


async def run(
    seeds: range, oracle: Oracle | None, *, show: bool = False
) -> tuple[Counter[str], dict[int, list[str]]]:
    """Counts over all cases, and the differences by seed; Ctrl-C ends it early."""
    counts: Counter[str] = Counter()
    bad: dict[int, list[str]] = {}
    began = time.monotonic()
    for seed in seeds:
        case = make(seed, BASES[0].ref, FEATURES)
        if _ended:
            break
        try:
            with patch.object(
                anyio.to_thread, "run_sync", _call
            ):  # a switch of threads costs more than the work
                found = await judge(case, oracle)
        except Exception as problem:  # noqa: BLE001 - one case must not end a thousand
            found = Found([f"{type(problem).__name__}: {problem}"])
        counts["cases"] += 1
        counts.update(found.counts)
        if show:
            print(
                case, f"refused by BuildKit: {found.refusal}" if found.refusal else "", sep="\n", flush=True
            )
        if found.differences:
            bad[seed] = found.differences
            print(f"seed {seed}: {found.differences}", flush=True)
        if counts["cases"] % 1000 == 0:
            print(f"{counts['cases']} cases, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return counts, bad


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each case")
    parser.add_argument("--record", action="store_true", help=f"put the answers into {FILE.name}")
    given = parser.parse_args()
    oracle = Oracle.found()
    if oracle is None:
        print(f"{PROGRAM} names no program: build one with tests/differential/oracle/build", file=sys.stderr)
        return 2
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: _ended.append(True))
    seeds = range(given.seed, given.seed + given.cases)
    began = time.process_time()
    oracle.recorded = [] if given.record else None
    counts, bad = anyio.run(partial(run, seeds, oracle, show=given.show))
    with suppress(OSError):
        oracle.close()
    if oracle.recorded is not None:
        lines = ",\n".join(json.dumps(one, ensure_ascii=True) for one in oracle.recorded)
        FILE.write_text(f"[\n{lines}\n]\n")
    for name, number in sorted(counts.items()):
        print(f"{number:>9}  {name}")
    spent = time.process_time() - began
    print(f"seeds {seeds.start} to {seeds.stop - 1}, {spent:.0f} s of CPU, {len(bad)} differ: {[*bad][:20]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
