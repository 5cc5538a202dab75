"""`python -m tests.differential.stages`: random deltas of what other stages bring, against full builds.

    python -m tests.differential.stages --cases 1000 --seed 1
    python -m tests.differential.stages --cases 1 --seed 4711 --show
    python -m tests.differential.stages --planted

A case is one of `tests.differential` with a Dockerfile of its own: stages that make something of the sources,
on each other and beside each other, and a last one that takes it to places that meet. Ends with 1 and the
seeds if anything differed, or if such a build failed where the full one did not.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from devloop.delta import changes, from_stage, outputs
from devloop.delta.changes import Effects
from devloop.delta.delta import NotProven
from devloop.delta.from_stage import IN_A_STAGE, built, exporting
from devloop.dockerfile.plan import Plan
from devloop.model import Inputs
from tests.differential import case as cases
from tests.differential.case import Case
from tests.differential.continued import FailsError, main
from tests.differential.edits import Edit, edits
from tests.differential.images import Image, flatten, settings
from tests.differential.planted import Patch, swap
from tests.differential.runner import Known, Made, Observation, Verdict, by_delta, judge, plan_of
from tests.support.buildkit import RefusedError
from tests.support.delta_bench import BASE, LABEL, Bench

_SETTINGS = (
    "ARG V=1", "ARG V", "ARG OUTER", "ENV V=2", "ENV W=$V", "WORKDIR /w", "USER root", "",
    "# why",
    "ARG TARGETSTAGE", "ENV PATH=/bin:/w", 'SHELL ["/bin/sh", "-ec"]', "LABEL l=$V",
    "RUN echo early > /tmp/e",
)  # fmt: skip
_READ = (
    "COPY src /s", "COPY src/ /s/", "COPY --chown=5:6 src /s", "COPY . /c\nRUN cp -a /c/src /s",
    "COPY conf /s/conf\nCOPY src /s", "COPY src/*.py req* /s/",
    "RUN --mount=type=bind,source=src,target=/m cp -a /m /s",
)  # fmt: skip
_MAKE = (
    "cp -a /s /out", "cp -a /s /out && chown -R 7:8 /out", "cp -a /s /out && rm -rf /out/pkg",
    "mkdir /out && for f in /s/*; do test -d $f || cat $f > /out/${f##*/}; done",
    "cp -a /s /out && find /s | sort > /out/list",
    "cp -a /s /out && chmod -R go-rwx /out && ln -s main.py /out/ln",
    "mkdir -p /out/pkg && cat /s/* > /out/all 2> /tmp/x; echo $V $W $OUTER $TARGETSTAGE > /out/v",
    "cp -a /s /out && cat /proc/sys/kernel/random/uuid > /out/id",
    "mkdir /out && cp -a /s/main.py /out/x.txt",
    "cp -a /s /out && ln /out/main.py /out/hard",
    "cp -a /s /out && mkdir /out/conf && echo c > /out/conf/app.conf",
)  # fmt: skip
_FILL = (  # what may be taken is there
    "RUN cd /out && for f in main.py x.txt v all; do test -e $f || : > $f; done; "
    "mkdir -p pkg && test -e pkg/a.py || : > pkg/a.py"
)
_TAKE = (
    "/out", "/out/", "/out/.", "/out/pkg", "/out/main.py", "/out/x.txt", "/out/*.py", "/out/p*",
    "/out/all /out/v",
    "/",
)  # fmt: skip
_TO = (
    "/app",
    "/app/",
    "./",
    "/srv",
    "/lnk/sub",
    "/odd",
    "/",
    "/app/pkg",
    "/app/main.py",
    "/new/deep/er",
    "/app/conf/",
)
_BESIDE = (
    "COPY conf /app/conf", "COPY src/pkg /app/pkg", "COPY src/main.py /app/", "COPY req* /app/",
    "WORKDIR /app",
    "WORKDIR /app/pkg", "USER app", "ENV A=1", "RUN mkdir -p /app/pkg && echo base > /app/pkg/a.py",
    "RUN true",
    "COPY --from=seed /c /app", "RUN cat /app/main.py > /copy || true", 'CMD ["x"]', "EXPOSE 80",
    "VOLUME /data",
    f"COPY --from={BASE} /srv /app/srv",
)  # fmt: skip


def make(seed: int, features: frozenset[str]) -> Case:
    """The case of this seed: tree and ignore rules of the random cases, a Dockerfile and edits for this."""
    chance = random.Random(f"stages {seed} {sorted(features)}")
    plain = cases.make(seed, BASE, features)
    text = _dockerfile(seed, chance, features)
    tree = {**plain.tree, "conf/app.conf": "conf\n", "src/pkg/a.py": "a\n"}
    first = (Edit("write", "src/main.py", "always"), *edits(chance, tree, text, ["src/main.py"]))
    more = [
        edits(chance, tree, text, ["src/main.py", "conf/app.conf"]) for _ in range(chance.choice((0, 1, 2)))
    ]
    args: Mapping[str, str] = chance.choice(({}, {}, {"V": "given"}, {"OUTER": "o"}))
    return replace(plain, dockerfile=text, tree=tree, steps=(first, *more), args=args)


def _dockerfile(seed: int, chance: random.Random, features: frozenset[str]) -> str:
    lines = ["ARG OUTER=outer"] if chance.random() < 0.3 else []
    lines += [f"FROM {BASE} AS seed", "RUN mkdir /c && echo x > /c/x"]
    below = BASE
    if chance.random() < 0.2:
        lines += [f"FROM {BASE} AS base", "RUN mkdir /w", *chance.choices(_SETTINGS, k=1)]
        below = "base"
    lines += [f"FROM {below} AS b", *chance.choices(_SETTINGS, k=chance.choice((0, 1, 2)))]
    lines += [chance.choice(_READ), *chance.choices(_SETTINGS, k=chance.choice((0, 1)))]
    mount = "--mount=type=cache,target=/k " if chance.random() < 0.1 else ""
    lines += [f"RUN {mount}{chance.choice(_MAKE)}", _FILL]
    taken = ["b"]
    if chance.random() < 0.25:
        lines += ["FROM b AS c", "RUN cp -a /out /more && echo c > /out/c"]
        taken.append("c")
    if chance.random() < 0.25:
        lines += [f"FROM {BASE} AS d", "COPY --from=b /out /out", "RUN echo d > /out/d"]
        taken.append("d")
    # a line of its own: builders take COPYs of other cases from their cache, and do not look at owners
    lines += [f"FROM {below}{chance.choice(('', ' AS last'))}", f"RUN echo {seed} > /tmp/seed"]
    last = [_taken(chance, features, taken) for _ in range(chance.choice((1, 1, 2, 3)))]
    last += chance.choices(_BESIDE, k=chance.choice((0, 1, 2, 3)))
    chance.shuffle(last)
    return "\n".join([*lines, *last]) + "\n"


def _taken(chance: random.Random, features: frozenset[str], stages: list[str]) -> str:
    flags = chance.choice(
        ("", "", "", "--chown=3:4 ", "--chown=app ", "--chmod=640 ", "--chown=app:app --chmod=0755 ")
    )
    if "link" in features and chance.random() < 0.05:
        flags += "--link "
    source, to = chance.choice(_TAKE), chance.choice(_TO)
    return f"COPY {flags}--from={chance.choice(stages)} {source} {to}{'/' if ' ' in source else ''}"


def by_stages(bench: Bench, known: Known, after: Inputs) -> Made | NotProven:
    """The image as a plain delta, or as one of what the stages bring, as devloop would make it."""
    made = by_delta(bench, known, after)
    if not isinstance(made, NotProven) or made.reason not in IN_A_STAGE:
        return made
    plan = plan_of(bench)
    export = exporting(bench.service, known.parent, known.inputs, after, plan, bench.dockerfile)
    if isinstance(export, NotProven):
        return export
    try:
        layers = bench.export(export.dockerfile)
    except RefusedError as problem:
        raise FailsError(str(problem)[-400:]) from problem
    before, rules, labels = known.inputs, bench.rules, {LABEL: "delta"}
    found = built(bench.service, export, layers, (), known.parent, before, after, plan, rules, labels)
    if isinstance(found, NotProven):
        return found
    files = flatten(known.image.files, [found.archive.layer])
    return Made(Image(files, settings(found.archive.config)), found.changed, found.parent)


def judged(observation: Observation) -> Verdict:
    """A build that fails where the full one does too is no fault."""
    try:
        return judge(observation, by_stages)
    except FailsError as problem:
        if any(state.image is None for state in observation.states):
            return Verdict({"fails in both": 1})
        return Verdict(differences=[f"fails alone: {problem}"])


_all, _check_path, _of_layers = Effects.all, changes.check_path, from_stage.of_layers


def _brings(**wrong: int) -> Patch:
    """What a build brings is taken for other than it is."""

    def of_layers(*given: Any) -> Any:
        found = _of_layers(*given)
        for files in found.outputs.values():
            files |= {path: replace(one, **wrong) for path, one in files.items()}
        return found

    return swap(from_stage, "of_layers", of_layers)


def _check_context(plan: Plan, path: str) -> None:
    if not path.startswith("line "):
        _check_path(plan, path)


BUGS: dict[str, Patch] = {
    "what is gone stays": swap(Effects, "all", lambda self: (_all(self)[0], set())),
    "the owners of the stage are lost": _brings(uid=0, gid=0),
    "the times of the stage are lost": _brings(mtime_ns=0),
    "a RUN that sees it is not seen": swap(changes, "check_path", _check_context),
    "what was brought last is not known": swap(
        from_stage, "_last", lambda _, one: {one.root: outputs._directory(one.root)}
    ),
    "what a later line writes is taken for the context's": swap(Effects, "_expected", lambda *_: True),
}


if __name__ == "__main__":
    sys.exit(main("python -m tests.differential.stages", make, judged, BUGS))
