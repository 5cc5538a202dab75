"""What devloop reads in Dockerfiles, words and ignore files, beside what Docker's own code reads in them.

Each function gives the differences in words, none where both agree; what only one of them refuses is one
where devloop is the one: what Docker refuses, its build will name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.ignore_pattern import go_clean
from devloop.dockerfile.instructions import Instruction
from devloop.dockerfile.parser import Dockerfile, _Lines
from devloop.dockerfile.plan import Base, Copy, Plan, Run
from devloop.dockerfile.planner import plan
from devloop.dockerfile.shell import ExpansionError, UnresolvableError, expand
from devloop.errors import DevloopError
from tests.differential.oracle import Line, Oracle, OracleError, Parser

BASES = (
    Base("base:1", "sha256:1", (), ("PATH=/bin", "A=of base", "é=x"), "", ""),
    Base(
        "other:1", "sha256:2", ("COPY src /onbuild/", "ENV B=onbuild", "ADD . $A"), ("A=src",), "/site", "app"
    ),
    Base("tools:1", "sha256:3", (), (), "/", "0"),
)
_REMOTE = re.compile(r"git:/|git@")
_SPLIT = frozenset({"HEALTHCHECK", "ONBUILD"})  # of which devloop keeps the text
_KNOWN = frozenset(
    """ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL
    USER VOLUME WORKDIR""".split()  # noqa: SIM905
)


@dataclass
class Found:
    """What came of a comparison: `differences` in words, `counts` of what happened."""

    differences: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refusal: str = ""  # what BuildKit says of a Dockerfile that it does not take


# --- lines


def parsed(text: str, oracle: Parser, found: Found) -> None:
    """The lines of a Dockerfile beside BuildKit's."""
    try:
        lines = [_mine(one) for one in _Lines(text).instructions()]
    except DevloopError as problem:
        found.counts["lines that devloop refuses"] += 1
        if _takes(oracle, text):
            found.differences.append(f"BuildKit's parser takes it: {problem}")
        return
    try:
        theirs = oracle.parse(text)
    except OracleError:
        found.counts["lines that only BuildKit refuses"] += 1
        return
    found.counts["instructions"] += len(theirs)
    _compare_lines(lines, theirs, found)


def _takes(oracle: Parser, text: str) -> bool:
    try:
        oracle.parse(text)
    except OracleError:
        return False
    return True


def _compare_lines(mine: Sequence[Line], theirs: Sequence[Line], found: Found) -> None:
    if len(mine) != len(theirs):
        found.differences.append(f"{len(mine)} instructions, and {len(theirs)} to BuildKit")
    for ours, other in zip(mine, theirs, strict=False):
        known = (ours.sub or ours.keyword) in _KNOWN - _SPLIT
        for name in ("keyword", "sub", "json", "flags", "words", "heredocs", "lines"):
            a, b = getattr(ours, name), getattr(other, name)
            if a != b and b is not None and (known or name not in ("words", "json")):
                found.differences.append(f"line {other.lines}: {name} {a!r}, {b!r} to BuildKit")


def _mine(one: Instruction) -> Line:
    inner = one.trigger or one
    heredocs = tuple((h.name, h.content, h.expand, h.chomp) for h in inner.heredocs)
    sub = one.trigger.keyword if one.trigger else ""
    flags = (*one.flags, *(one.trigger.flags if one.trigger else ()))
    return Line(one.keyword, sub, inner.json, flags, inner.args, heredocs, (one.line, one.end_line))


# --- plans


@dataclass(frozen=True)
class Theirs:
    """BuildKit's plan: the paths that it asks the command for ([] = the whole context), and the COPYs of
    them."""

    reads: Sequence[str]
    copies: Sequence[Mapping[str, Any]]


def plan_of(text: str, args: Mapping[str, str]) -> Plan:
    """devloop's plan. Raises DevloopError, UnresolvableError."""
    return plan(Dockerfile.parse(text), target=None, args=args, platform="linux/amd64", bases=BASES)


def planned(
    text: str, args: Mapping[str, str], oracle: Oracle, found: Found
) -> tuple[Plan | None, Theirs | None]:
    """devloop's plan, and BuildKit's: None where it refuses the Dockerfile or reads nothing."""
    configs = {one.ref: _config(one) for one in BASES}
    problem: Exception | None = None
    ours = None
    try:
        ours = plan_of(text, args)
    except (DevloopError, UnresolvableError) as refusal:
        problem = refusal
    try:
        answer = oracle.plan(text, args, configs)
    except OracleError as refusal:
        found.counts["plans that BuildKit refuses" + (" alone" if ours else "")] += 1
        found.refusal = str(refusal)
        return ours, None
    if ours is None:
        found.differences.append(f"only devloop refuses it: {problem}")
        return None, None
    found.counts["plans"] += 1
    reads = (answer["Reads"] or [""]) if answer["Local"] else []
    if ours.whole:
        found.counts["plans with the whole context"] += 1
        found.counts[f"whole: {_without_names(ours.whole)}"] += 1
    elif reads == [""] and _mounts_nothing(ours):
        found.counts["plans with a mount for which BuildKit asks for everything"] += 1
        reads = sorted({read.pattern for read in ours.reads})
    else:
        _compare_reads(ours, reads, found)
    _compare_bases(ours, answer["Bases"] or (), found)
    _compare_copies(ours, answer["Copy"] or (), found)
    whole = "" in reads
    return ours, Theirs([] if whole else reads, answer["Copy"] or ()) if answer["Local"] else None


def _mounts_nothing(ours: Plan) -> bool:
    """A cache or a tmpfs: it reads nothing of the context, and BuildKit counts its empty source as a path."""
    steps = [step for stage in ours.stages.values() for step in stage.steps if isinstance(step, Run)]
    return any(mount.type != "bind" and mount.source.is_context for step in steps for mount in step.mounts)


def _without_names(why: str) -> str:
    return re.sub(r"line \d+: |\$\S+", "", why)


def _config(base: Base) -> dict[str, Any]:
    return {"Env": base.env, "WorkingDir": base.workdir, "User": base.user, "OnBuild": base.onbuild}


def _compare_reads(ours: Plan, theirs: Sequence[str], found: Found) -> None:
    mine = {read.pattern for read in ours.reads}
    if "" in mine and "" in theirs:
        return
    parents = {read.pattern for read in ours.reads if read.parents}  # they stop at the first wildcard
    theirs = [one for one in theirs if not _REMOTE.match(one)]  # a git repository counts as a path too there
    missing = [one for one in theirs if one not in mine and not any(_above(a, one) for a in parents)]
    more = [one for one in mine - parents if one not in theirs]
    if missing or more:
        found.differences.append(f"reads {sorted(mine)}, {sorted(theirs)} to BuildKit")


def _above(directory: str, path: str) -> bool:
    return directory in ("", path) or path.startswith(f"{directory}/")


def _compare_bases(ours: Plan, theirs: Iterable[str], found: Found) -> None:
    mine = {one.ref for one in ours.bases}
    missing = {_short(one) for one in theirs} - mine
    if missing:
        found.differences.append(f"bases {sorted(mine)}, and {sorted(missing)} to BuildKit")


def _short(reference: str) -> str:
    return reference.partition("@")[0].removeprefix("docker.io/library/")


def _compare_copies(ours: Plan, theirs: Iterable[Mapping[str, Any]], found: Found) -> None:
    """Sources, destination and flags of what is copied from the context; lines that hang on something that
    only the build knows are left out, with their number."""
    steps = [step for stage in ours.stages.values() for step in stage.steps if isinstance(step, Copy)]
    steps = [step for step in steps if step.source.is_context]
    mine: Counter[tuple[object, ...]] = Counter()
    for step in steps:
        if None in (step.sources, step.destination, step.owner, step.mode):
            found.counts["copies that hang on the build"] += 1
            return
        for source in step.sources or ():  # of --parents it is the root, and a pattern
            mine[
                "" if step.parents else source,
                step.destination,
                _owner(step.owner or ""),
                _mode(step.mode or ""),
                step.excludes,
            ] += 1
    other: Counter[tuple[object, ...]] = Counter()
    for one in theirs:
        source = go_clean("/" + one["Source"])[1:]
        excludes = tuple(one["Exclude"] or ())
        other[source, _into(one["Destination"]), one["Owner"], one["Mode"], excludes] += 1
    found.counts["copies"] += sum(other.values())
    if missing := other - mine:
        found.differences.append(f"copies {[*(mine - other)]}, {[*missing]} to BuildKit")


def _into(destination: str) -> str:
    """`/app/.` is the directory as `/app/` is."""
    return destination.removesuffix(".") if destination.endswith("/.") else destination


def _mode(text: str) -> str:
    return f"{int(text, 8):o}" if text.isdigit() else text


def _owner(text: str) -> str:
    if not text:
        return ""
    user, colon, group = text.partition(":")
    return f"{_number(user)}:{_number(group) if colon else ''}"


def _number(name: str) -> str:
    return "0" if name in ("", "root") else name


# --- words


def expanded(word: str, variables: Mapping[str, str], escape: str, oracle: Oracle, found: Found) -> None:
    """One word of a Dockerfile, its variables replaced."""
    found.counts["words"] += 1
    try:
        mine: str | None = expand(word, variables.get, escape)
    except ExpansionError:
        mine = None
    try:
        theirs: str | None = oracle.expand(word, variables, escape)
    except OracleError:
        theirs = None
    if mine != theirs:
        found.differences.append(f"word {word!r} with {dict(variables)}: {mine!r}, {theirs!r} to BuildKit")


# --- ignore files


def ignored(text: str, paths: Sequence[str], oracle: Oracle, found: Found) -> IgnoreRules | None:
    """The rules, if devloop takes them; which paths they leave out."""
    try:
        theirs: list[bool] | None = oracle.ignores(text, paths)
    except OracleError:
        theirs = None
    try:
        rules = IgnoreRules.parse(text)
    except DevloopError as problem:
        found.counts["ignore files that devloop refuses"] += 1
        if theirs is not None:
            found.differences.append(f"only devloop refuses the ignore file: {problem}")
        return None
    if theirs is None:
        found.counts["ignore files that only Docker refuses"] += 1
        return None
    found.counts["paths of ignore files"] += len(paths)
    for path, out in zip(paths, theirs, strict=True):
        sure = not any(one.unsure for one in rules.patterns)
        if sure and rules.matches(path) is not out:
            found.differences.append(f"{path} is {'out' if out else 'in'} to Docker, by {text!r}")
        if rules.leaves_out(path) and not out:
            found.differences.append(f"{path} is left out, by {text!r}")
    return rules
