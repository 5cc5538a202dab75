"""`python -m tests.differential.continued`: random builds that go on from a RUN, against full builds.

    python -m tests.differential.continued --cases 1000 --seed 1
    python -m tests.differential.continued --cases 1 --seed 4711 --show
    python -m tests.differential.continued --planted

A case is one of `tests.differential` with a Dockerfile of its own: settings, ARGs, mounts and RUNs around
the COPY of what changes. Ends with 1 and the seeds if anything differed, or if a build that goes on failed
where the full one did not.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import docker
import pytest

from devloop.delta import from_run as continuations
from devloop.delta.delta import NotProven
from devloop.delta.from_run import Continuation, continuation, rest
from devloop.model import Inputs
from tests.differential import case as cases
from tests.differential.case import Case
from tests.differential.edits import Edit, edits
from tests.differential.images import save
from tests.differential.planted import Patch, swap
from tests.differential.runner import (
    Known,
    Made,
    Observation,
    RefusesError,
    Verdict,
    by_delta,
    judge,
    observe,
    plan_of,
)
from tests.differential.server import serving
from tests.support.buildkit import RefusedError
from tests.support.delta_bench import BASE, Bench, make_base

_BEFORE = (
    "ARG V=1", "ARG V", "ARG W=w", "ARG NODE_ENV=production", "ARG OUTER", "ARG TARGETPLATFORM BUILDARCH",
    "ARG TARGETSTAGE", "ENV V=2", "ENV NODE_ENV=$NODE_ENV", "ENV V=$V W=$W", "ENV A='b c' PATH=/bin:/app",
    "ENV HOME=/tmp", "ENV OLD style", "ARG V=3 W=4", "ARG PATH=/bin:/x", "ENV HTTP_PROXY=http://x:1",
    "ENV $W=9", "ENV \"V\"=8", "WORKDIR /app", "WORKDIR sub", "USER 7:8", "USER app",
    "USER root",
    'SHELL ["/bin/sh", "-ec"]', "RUN echo once > /tmp/made", "RUN mkdir -p /app/sub && chmod 700 /app/sub",
    "COPY prod.conf /conf/", "COPY conf /app/", "LABEL l=$V", "EXPOSE 80", "VOLUME /data",
    "STOPSIGNAL SIGINT",
    "RUN echo $V $W $NODE_ENV > /tmp/early", "# a remark", "", "CMD [\"x\"]",
)  # fmt: skip
_RUNS = (
    "cp -a /app /tmp/again", "cp -a /app/. /tmp/other/ || true", "env | grep -v HOSTNAME | sort > /tmp/env",
    "echo $V-$W-$NODE_ENV-$OUTER-$A > /tmp/v", "pwd > /tmp/pwd; id > /tmp/id",
    "cat /app/main.py > /tmp/m || true",
    "find /app | sort | xargs stat -c '%n %a %u:%g %F' > /tmp/list || true", "rm -rf /app/pkg || true",
    "echo $TARGETPLATFORM $TARGETSTAGE $BUILDARCH $HTTP_PROXY > /tmp/p", "ls /c > /tmp/c 2>&1 || true",
    "echo $SOURCE_DATE_EPOCH $no_proxy > /tmp/epoch", "test -e /app/main.py",
    "mkdir -p /app/made && echo x > /app/made/x",
)  # fmt: skip
_MOUNTS = (
    "type=cache,target=/c", "type=cache,target=/c/$V", "type=tmpfs,target=/t", "type=secret,id=none",
    "type=ssh", "type=cache,target=/c,id=x-$W,sharing=private,mode=0700,uid=7",
    "type=cache,from=seed,source=/c,target=/c", "type=bind,from=seed,source=/c,target=/c",
    "type=bind,source=conf,target=/c", f"type=cache,from={BASE},source=/srv,target=/c",
    "type=cache,target=cache",
)  # fmt: skip
_AFTER = (
    'CMD ["sh", "-c", "ls"]', 'ENTRYPOINT ["sh"]', "CMD ls $V", "EXPOSE 90/udp", "LABEL z=$V", "VOLUME /more",
    "STOPSIGNAL 9", "HEALTHCHECK --interval=5s CMD true", "MAINTAINER me", "# the end", "HEALTHCHECK NONE",
)  # fmt: skip
_REFUSED = (
    "ENV Z=1",
    "USER 9",
    "WORKDIR /z",
    "ARG V=7\nRUN echo $V > /tmp/late",
    "COPY req* /r/",
    "ONBUILD RUN x",
)
_ARGS: tuple[Mapping[str, str], ...] = (
    {}, {}, {"V": "given"}, {"V": "given", "W": "w2"}, {"NODE_ENV": "dev"}, {"OUTER": "o", "no_proxy": "x"},
    {"HTTP_PROXY": "http://localhost:1"}, {"SOURCE_DATE_EPOCH": "1000000000"},
)  # fmt: skip


def make(seed: int, features: frozenset[str]) -> Case:
    """The case of this seed: tree and ignore rules of the random cases, a Dockerfile and edits for this."""
    chance = random.Random(f"continued {seed} {sorted(features)}")
    plain = cases.make(seed, BASE, features)
    text = _dockerfile(chance, features)
    step = (Edit("write", "src/main.py", "always"), *edits(chance, plain.tree, text, ["src/main.py"]))
    tree = {**plain.tree, "conf/app.conf": "conf\n"}
    return replace(plain, dockerfile=text, tree=tree, steps=(step,), args=chance.choice(_ARGS))


def _dockerfile(chance: random.Random, features: frozenset[str]) -> str:
    lines = ["# escape=`"] if chance.random() < 0.05 else []
    lines += ["ARG OUTER=outer", "ARG V=global"] if chance.random() < 0.3 else []
    name = chance.choice(("", "", " AS last", " as App.1"))
    lines += [f"FROM {BASE} AS seed", "RUN mkdir /c && echo x > /c/x", f"FROM {BASE}{name}"]
    lines += chance.choices(_BEFORE, k=chance.choice((0, 1, 2, 3, 4, 6)))
    owner = chance.choice(("", "", "--chown=7:8 ", "--chown=app:app "))
    lines += [f"COPY {owner}{chance.choice(('src /app', 'src/ /app/', '. /app/', 'src /lnk/sub'))}"]
    lines += chance.choices(_BEFORE, k=chance.choice((0, 0, 0, 1)))
    for _ in range(chance.choice((1, 1, 2, 3))):
        mount = f"--mount={chance.choice(_MOUNTS)} " if chance.random() < 0.3 else ""
        words = chance.choice(_RUNS)
        if "heredoc" in features and chance.random() < 0.2:
            lines.append(f"RUN {mount}<<E\n{words}\necho more > /tmp/more\nE")
        else:
            lines.append(f"RUN {mount}{words}")
        lines += [chance.choice(_REFUSED)] if chance.random() < 0.04 else []
    lines += chance.choices(_AFTER, k=chance.choice((0, 1, 2)))
    lines += [chance.choice(_REFUSED)] if chance.random() < 0.04 else []
    return "\n".join(lines) + "\n"


class FailsError(Exception):
    """A build that goes on failed. Beside a full build that does not, it is a fault."""


def by_continuation(bench: Bench, known: Known, after: Inputs) -> Made | NotProven:
    """The image by a build that goes on, where devloop would take one; else the delta."""
    made = by_delta(bench, known, after)
    if not isinstance(made, NotProven) or made.reason != continuations.RUN_AFTER:
        return replace(made, parent=None) if isinstance(made, Made) else made
    found = continuation(
        bench.service, known.parent, known.inputs, after, plan_of(bench), bench.rules, {}, made
    )
    if isinstance(found, NotProven):
        return found
    return Made(_build_on(bench, found).image(), found.below.changed, None)


def _build_on(bench: Bench, found: Continuation):  # type: ignore[no-untyped-def]
    below = bench.load(found.below, "below")
    with TemporaryDirectory() as home:
        text = rest(bench.dockerfile, plan_of(bench), found.line, below)
        on = Bench(Path(home) / "on", f"{bench.name}-on", text, "", bench.args)
        try:
            return save(on.client, on.build("on"))
        except RefusedError as problem:
            raise FailsError(str(problem)[-400:]) from problem
        finally:
            on.close()
            bench.remove(below)


Judge = Callable[[Observation], Verdict]
BUGS: dict[str, Patch] = {
    "an ARG hides an ENV": swap(continuations, "_shadowed", lambda instructions: set()),
    "mounts from other stages": swap(continuations, "_check_following", lambda step: None),
}


def run(
    seed: int,
    case: Case,
    server: str,
    hunted: dict[str, list[int]],
    judged: Judge | None = None,
    bugs: Mapping[str, Patch] = BUGS,
) -> Verdict:
    """One case, from nothing to nothing. `hunted`: bugs to plant, and the seeds that saw them."""
    judged = judged or _judged
    with TemporaryDirectory() as home:
        try:
            observation = observe(case, Path(home) / "case", server)
        except RefusesError as problem:
            return Verdict(differences=[f"devloop cannot read it: {problem}"])
        if isinstance(observation, str):
            return Verdict({"refused": 1}, refusal=observation)
        try:
            for bug, seeds in hunted.items():
                if len(seeds) < 2 and _shows(bugs[bug], observation, judged):
                    seeds.append(seed)
            return judged(observation)
        finally:
            observation.close()


def _judged(observation: Observation) -> Verdict:
    try:
        return judge(observation, by_continuation)
    except FailsError as problem:
        if any(state.image is None for state in observation.states):
            return Verdict({"fails in both": 1})
        return Verdict(differences=[f"goes on to fail: {problem}"])


def _shows(bug: Patch, observation: Observation, judged: Judge) -> bool:
    with pytest.MonkeyPatch.context() as monkeypatch:
        bug(monkeypatch)
        try:
            return bool(judged(observation).differences)
        except Exception:  # noqa: BLE001 - a bug may do anything, and is seen then
            return True


def main(
    prog: str = "python -m tests.differential.continued",
    make: Callable[[int, frozenset[str]], Case] = make,
    judged: Judge = _judged,
    bugs: Mapping[str, Patch] = BUGS,
) -> int:
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each case")
    parser.add_argument("--planted", action="store_true", help="look for planted bugs too")
    options = parser.parse_args()
    client = docker.from_env().api
    make_base(client)
    version = client.version()["Version"]
    client.close()
    features = frozenset({"heredoc"}) if int(version.split(".")[0]) >= 23 else frozenset[str]()
    hunted: dict[str, list[int]] = {bug: [] for bug in bugs} if options.planted else {}
    counts: Counter[str] = Counter()
    bad: list[int] = []
    start = time.monotonic()
    with serving() as server:
        for seed in range(options.seed, options.seed + options.cases):
            if time.monotonic() - start > options.seconds:
                break
            case = make(seed, features)
            try:
                verdict = run(seed, case, server, hunted, judged, bugs)
            except Exception as problem:  # noqa: BLE001 - one case must not end a thousand
                verdict = Verdict(differences=[f"{type(problem).__name__}: {problem}"])
            counts["cases"] += 1
            counts.update(verdict.counts)
            if counts["cases"] % 20 == 0:
                print(f"{counts['cases']} cases, {dict(counts)}", file=sys.stderr, flush=True)
            if options.show:
                print(case, verdict, sep="\n", flush=True)
            if verdict.differences:
                bad.append(seed)
                print(f"\nseed {seed} differs: {verdict.differences}", flush=True)
    print(f"\nengine {version}, {time.monotonic() - start:.0f} s")
    for name, number in sorted(counts.items()):
        print(f"{number:>7}  {name}")
    print(f"seeds that differ: {bad or 'none'}")
    for bug, seeds in hunted.items():
        print(f"planted: {bug}: {seeds or 'NOT SEEN'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
