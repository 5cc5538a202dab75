"""`python -m tests.differential`: runs random cases on the engine of DOCKER_HOST and prints counts.

    python -m tests.differential --cases 1000 --seed 1        # a thousand, from this seed on
    python -m tests.differential --cases 1 --seed 4711 --show # one again, with all its text
    python -m tests.differential --planted                    # and which planted bugs the cases see

Ctrl-C and SIGTERM end it early, with the counts so far.
Ends with 1 and the seeds if anything differed. A smaller case is looked for before it is printed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import docker

from tests.differential.case import Case, make
from tests.differential.planted import BUGS, FLAG_BUGS, Hunt
from tests.differential.runner import (
    Method,
    RefusesError,
    Verdict,
    by_delta,
    by_loaded_delta,
    judge,
    judge_first,
    observe,
)
from tests.differential.server import serving
from tests.differential.shrink import shrink
from tests.support.delta_bench import BASE, make_base

FEATURES = ("heredoc", "link", "parents", "exclude")
_LOAD_EVERY = 20  # so many cases are judged without the engine for one whose deltas are loaded into it


def run(case: Case, server: str, method: Method, hunt: Hunt | None = None) -> Verdict:
    """One case, from nothing to nothing."""
    verdict = Verdict()
    with TemporaryDirectory() as home:
        try:
            observation = observe(case, Path(home) / "case", server)
        except RefusesError as problem:
            verdict.differences.append(f"devloop cannot read it: {problem}")
            return verdict
        if isinstance(observation, str):
            verdict.count("refused")
            verdict.refusal = observation
            return verdict
        try:
            verdict = judge(observation, method)
            judge_first(observation, verdict)
            if hunt is not None:
                hunt.judge(observation)
            return verdict
        finally:
            observation.close()


def _fails(server: str, method: Method, case: Case) -> bool:
    return bool(run(case, server, method).differences)


def features_of(client: docker.APIClient) -> frozenset[str]:
    """What the engine's own Dockerfile frontend knows, without `# syntax`."""
    major = int(client.version()["Version"].split(".")[0])
    return frozenset({"heredoc", "link"}) if major >= 23 else frozenset()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each case")
    parser.add_argument("--features", help="comma-separated, instead of what the engine's version tells")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--planted", action="store_true", help="look for planted bugs too")
    options = parser.parse_args()
    client = docker.from_env().api
    make_base(client)
    features = features_of(client)
    if options.features is not None:
        features = frozenset(filter(None, options.features.split(",")))
    version = client.version()["Version"]
    client.close()
    hunt = Hunt(BUGS | (FLAG_BUGS if "link" in features else {})) if options.planted else None
    counts: Counter[str] = Counter()
    bad: list[int] = []
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serving() as server, suppress(KeyboardInterrupt):  # what is done by then is shown
        for seed in range(options.seed, options.seed + options.cases):
            case = make(seed, BASE, features)
            method = by_loaded_delta if seed % _LOAD_EVERY == 0 else by_delta
            try:
                verdict = run(case, server, method, hunt)
            except Exception as problem:  # noqa: BLE001 - one case must not end a thousand
                verdict = Verdict(differences=[f"{type(problem).__name__}: {problem}"])
            counts["cases"] += 1
            counts.update(verdict.counts)
            if counts["cases"] % 100 == 0:
                print(
                    f"{counts['cases']} cases, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
                )
            if options.show:
                print(case, verdict, sep="\n", flush=True)
            if verdict.differences:
                bad.append(seed)
                counts["cases that differ"] += 1
                print(f"\nseed {seed} differs: {verdict.differences}", flush=True)
                if not options.no_shrink:
                    print(shrink(case, partial(_fails, server, method)), flush=True)
    print(f"\nengine {version}, features {sorted(features)}, {time.monotonic() - start:.0f} s")
    for name, number in sorted(counts.items()):
        print(f"{number:>7}  {name}")
    print(f"seeds that differ: {bad or 'none'}")
    for bug, seeds in hunt.found.items() if hunt else ():
        print(f"planted: {bug}: {seeds or 'NOT SEEN'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
