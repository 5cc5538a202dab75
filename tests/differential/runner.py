"""Runs a case: what the engine builds of each state of the tree, and what devloop makes of it instead.

`observe` asks the engine and is slow; `judge` is asked as often as one likes, with one method or another
(deltas here; anything that gives an image can be one), so that a planted bug costs no builds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker

from devloop.delta.delta import Delta, NotProven, Parent, delta, recipe
from devloop.delta.from_base import first
from devloop.delta.layer_index import Layers
from devloop.delta.plain_dockerfile import stands_on
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan
from devloop.dockerfile.planner import plan
from devloop.dockerfile.shell import UnresolvableError
from devloop.errors import DevloopError
from devloop.inputs import snapshot as tree
from devloop.inputs.selection import Selection
from devloop.inputs.stat_cache import StatCache
from devloop.model import Inputs
from tests.differential.case import SERVER, Case
from tests.differential.images import Image, Saved, flatten, save, settings
from tests.support.buildkit import RefusedError, docker_cli
from tests.support.delta_bench import LABEL, Bench, Item, differences, fix_times, plant


@dataclass(frozen=True)
class State:
    """The tree at one moment, and what `docker build` makes of it. `saved` None: `refusal`."""

    bench: Bench
    saved: Saved | None
    image: Image | None
    refusal: str = ""


@dataclass(frozen=True)
class Observation:
    """The states of a case: as it begins, and after each step."""

    case: Case
    states: tuple[State, ...]

    def close(self) -> None:
        for state in reversed(self.states):
            with suppress(docker.errors.APIError):  # another run removes an image that is the same
                state.bench.close()
        shutil.rmtree(self.states[0].bench.home.parent)


@dataclass(frozen=True)
class Known:
    """What devloop knows of the last image: its parent for deltas, its files, the inputs it was made of."""

    parent: Parent
    image: Image
    inputs: Inputs


@dataclass(frozen=True)
class Made:
    """An image that devloop made without a full build. `parent` None: the next step has none."""

    image: Image
    changed: tuple[str, ...]
    parent: Parent | None


Method = Callable[[Bench, Known, Inputs], Made | NotProven]


@dataclass
class Verdict:
    """What came out of the steps of one case: how often each thing happened, and what differs, in words."""

    counts: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    refusal: str = ""  # what the engine says of a case that it does not build

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


# --- the engine


class RefusesError(Exception):
    """devloop cannot read a Dockerfile that the engine builds."""


def observe(case: Case, home: Path, server: str) -> Observation | str:
    """Build every state of the case in full. Text: what the engine says where it refuses the first one.

    Raises RefusesError."""
    try:
        first = _state(case, home / "0", None, server)
    except (DevloopError, UnresolvableError) as problem:
        refusal = _engine_refuses(case, home / "0")
        shutil.rmtree(home)
        if not refusal:
            raise RefusesError(str(problem)) from problem
        return refusal
    if first.saved is None:
        Observation(case, (first,)).close()
        return first.refusal
    states = [first]
    for number, step in enumerate(case.steps, 1):
        last = states[-1].bench.context
        states.append(_state(case, home / str(number), last, server, step))
    return Observation(case, tuple(states))


def _state(case: Case, home: Path, last: Path | None, server: str, step: tuple[object, ...] = ()) -> State:
    """A directory of its own for each state: BuildKit sends it whole, and confuses it with no other."""
    text = case.dockerfile.replace(SERVER, server)
    bench = Bench(home, f"case-{case.seed}-{home.name}", text, case.ignored, case.args)
    if last is None:
        _plant(bench.context, case.tree)
    else:
        bench.context.rmdir()
        subprocess.run(["cp", "-a", str(last), str(bench.context)], check=True)
        for edit in step:
            edit.apply(bench.context)  # type: ignore[attr-defined]
    fix_times(bench.context)
    try:
        saved = save(bench.client, bench.build("full"))
    except RefusedError as problem:
        return State(bench, None, None, str(problem))
    return State(bench, saved, saved.image())


def _engine_refuses(case: Case, home: Path) -> str:
    """Why the engine does not build a Dockerfile that devloop cannot read; "" if it does."""
    _plant(home / "context", case.tree)
    args = [part for name, value in case.args.items() for part in ("--build-arg", f"{name}={value}")]
    done = subprocess.run(
        [docker_cli(), "build", "-q", *args, "-f", str(home / "Dockerfile"), str(home / "context")],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        check=False,
    )
    return done.stderr.decode(errors="replace") or "no" if done.returncode else ""


def _plant(context: Path, files: Mapping[str, str | None]) -> None:
    links = {path: text[3:] for path, text in files.items() if text and text.startswith("=> ")}
    plant(context, {path: text for path, text in files.items() if path not in links})
    for path, target in links.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).hardlink_to(context / target)


# --- devloop


def judge(observation: Observation, method: Method) -> Verdict:
    """What devloop makes of each step, against what the engine built."""
    verdict = Verdict()
    first, *rest = observation.states
    assert first.saved is not None
    assert first.image is not None
    inputs, digest = read_inputs(first.bench)
    known: Known | None = Known(parent_of(first.bench, first.saved, inputs), first.image, inputs)
    before = first
    for state in rest:
        after, digest_after = read_inputs(state.bench)
        if digest_after == digest:
            _same_fingerprint(verdict, before, state)
        elif known is not None:
            known = _step(verdict, method, known, state, after)
        if known is None and state.saved is not None and state.image is not None:
            known = Known(parent_of(state.bench, state.saved, after), state.image, after)
        before, digest = state, digest_after
    return verdict


def _same_fingerprint(verdict: Verdict, before: State, after: State) -> None:
    """Nothing is built then, so nothing may have changed."""
    verdict.count("same fingerprint")
    if before.image is None or after.image is None:
        if before.image is not after.image:
            verdict.differences.append("same fingerprint, and only one of the two builds works")
    elif found := differences(before.image.files, after.image.files, ()):
        verdict.differences += [f"same fingerprint: {one}" for one in found]


def _step(verdict: Verdict, method: Method, known: Known, state: State, after: Inputs) -> Known | None:
    made = method(state.bench, known, after)
    if isinstance(made, NotProven):
        verdict.count(f"full build: {made.reason}")
        return None
    verdict.count("made")
    if state.image is None:
        verdict.differences.append(f"made, but the full build fails: {state.refusal.strip()[-300:]}")
        return None
    verdict.differences += differences(state.image.files, made.image.files, made.changed)
    if state.image.config != made.image.config:
        verdict.differences.append(f"config: {state.image.config} in full, {made.image.config} in the delta")
    return Known(made.parent, made.image, after) if made.parent else None


def judge_first(observation: Observation, verdict: Verdict) -> None:
    """The first image of a service, made on its base without a build: in each state of the case."""
    for state in observation.states:
        bench = state.bench
        inputs, _ = read_inputs(bench)
        base = stands_on(plan_of(bench), inputs)
        if base is None or state.image is None:
            continue
        saved = save(bench.client, base)
        parent = parent_of(bench, saved, inputs)
        made = first(bench.service, parent, inputs, plan_of(bench), bench.rules, {LABEL: "first"})
        if isinstance(made, NotProven):
            verdict.count(f"first, full build: {made.reason}")
            continue
        verdict.count("first, made")
        files = flatten(saved.image().files, [blob for _, blob in made.archive.new])
        found = differences(state.image.files, files, made.changed)
        verdict.differences += [f"first: {one}" for one in found]
        if (config := settings(made.archive.config)) != state.image.config:
            verdict.differences.append(f"first: config: {state.image.config} in full, {config} made")


def plan_of(bench: Bench) -> Plan:
    """Read again, so that a bug that was planted since counts."""
    parsed = Dockerfile.parse(bench.dockerfile)
    return plan(parsed, target=None, args=bench.args, platform="linux/amd64", bases=bench.bases)


def read_inputs(bench: Bench) -> tuple[Inputs, bytes]:
    """The inputs of a build, and what the fingerprint says of its files."""
    selection = Selection.of(plan_of(bench).reads, bench.rules)
    cache = StatCache(bench.home / "never-written.db")
    found = tree.read(bench.context, selection, set(), cache, lambda: None)
    known = bench.inputs()
    return Inputs(found.files, known.bases, known.platform, known.dockerfile_digest, ""), found.digest


def parent_of(bench: Bench, saved: Saved, inputs: Inputs) -> Parent:
    known = recipe(bench.service.build, inputs)
    return Parent(known, saved.config, saved.diff_ids, Layers(saved.index()), len(saved.layers))


def by_delta(bench: Bench, known: Known, after: Inputs) -> Made | NotProven:
    """The method of deltas. The layer is put on top here; `by_loaded_delta` has the engine do that."""
    made = _delta(bench, known, after)
    if isinstance(made, NotProven):
        return made
    files = flatten(known.image.files, [blob for _, blob in made.archive.new])
    return Made(Image(files, settings(made.archive.config)), (*made.changed,), made.parent)


def by_loaded_delta(bench: Bench, known: Known, after: Inputs) -> Made | NotProven:
    """As `by_delta`, with a real load and a real container."""
    made = _delta(bench, known, after)
    if isinstance(made, NotProven):
        return made
    files: Mapping[str, Item] = bench.files(bench.load(made, "delta"))
    return Made(Image(files, settings(made.archive.config)), (*made.changed,), made.parent)


def _delta(bench: Bench, known: Known, after: Inputs) -> Delta | NotProven:
    made = delta(
        bench.service, known.parent, known.inputs, after, plan_of(bench), bench.rules, {LABEL: "delta"}
    )
    assert isinstance(made, NotProven) or json.loads(made.archive.config)
    return made
