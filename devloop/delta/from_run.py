"""A build that goes on from the RUN that a change reaches, where RUNs follow the COPY of the changed file.

A delta of the whole image is not proven there: the RUN may depend on the file. But the image *below* that
RUN can be a delta, and the builder has to do no more than what follows: it neither reads nor copies the
context again. What follows must be RUNs that see what they see in a full build. Doubt of any kind is
`NotProven`, and a full build follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from devloop.delta.delta import Delta, NotProven, Parent, delta
from devloop.delta.eligibility import check_plan
from devloop.delta.layer_index import Layers
from devloop.delta.placement import NotProvenError, places
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.instructions import Instruction
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Plan, Run, StagePlan, Step
from devloop.model import Inputs, Service

__all__ = ["RUN_AFTER", "Continuation", "continuation", "goes_on", "rest"]

RUN_AFTER = "RunAfter"  # the doubt that a continuation answers
# What may follow the RUN, because no RUN sees it: the config of the image has it already.
_UNSEEN = frozenset(
    ("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME")
)
_MOUNTS = frozenset(("cache", "tmpfs", "secret", "ssh"))  # that need no file of the context
_SPECIAL = frozenset("$\\'\"`")  # in a word that is not what it says


@dataclass(frozen=True, slots=True)
class Continuation:
    """`below`: the image below the RUN in this line of the Dockerfile, on layers of the last full build."""

    below: Delta
    line: int


def continuation(
    service: Service,
    parent: Parent,
    before: Inputs,
    after: Inputs,
    plan: Plan,
    rules: IgnoreRules,
    labels: Mapping[str, str],
    why: NotProven,
    *,
    rebuild_salt: str = "",
    check: Callable[[], None] = lambda: None,
) -> Continuation | NotProven:
    """The image of `after` as far as the RUN that `why` names. `parent`: the last full build, from `before`.

    Reads changed files, in the calling thread. Raises TreeMovedError if one is not what `after` says, and
    whatever `check` raises.
    """
    try:
        while why.reason == RUN_AFTER:
            stage, index = _run_in(plan, why.line)
            lower = _below(parent, _layer_of(parent, plan, stage.steps[index]))
            shorter = replace(stage, steps=stage.steps[:index])
            short = replace(plan, stages={**plan.stages, plan.target: shorter})
            made = delta(
                service, lower, before, after, short, rules, labels, rebuild_salt=rebuild_salt, check=check
            )
            if isinstance(made, Delta):
                return Continuation(made, why.line)
            why = made  # another changed file is seen by an earlier RUN
    except NotProvenError as doubt:
        return NotProven.of(doubt)
    return why


def goes_on(plan: Plan, line: int) -> bool:
    """Whether builds go on from the RUN in this line, as far as the Dockerfile alone shows."""
    try:
        _run_in(plan, line)
    except NotProvenError:
        return False
    return True


def _run_in(plan: Plan, line: int) -> tuple[StagePlan, int]:
    """The last stage, and the index of the RUN in this line, if from there on a RUN's own things suffice."""
    check_plan(plan)
    stage = plan.stages[plan.target]
    if stage.base_stage is not None or stage.stage.platform:
        raise NotProvenError("NotPlain", "the last stage stands on another, or on another platform")
    for step in stage.steps:
        _check_step(step)
    runs = [i for i, one in enumerate(stage.steps) if isinstance(one, Run) and one.instruction.line == line]
    if not runs:
        raise NotProvenError("NotPlain", f"no RUN of the last stage is in line {line}")
    for step in stage.steps[runs[0] :]:
        _check_following(step)
    _shadowed([step.instruction for step in stage.steps])
    return stage, runs[0]


def _layer_of(parent: Parent, plan: Plan, run: Step) -> int:
    """The number of the layer that the RUN made."""
    if parent.full != len(parent.diff_ids):
        raise NotProvenError("NotPlain", "the image known last is a delta itself")
    found = places(plan, parent.full, json.loads(parent.config).get("history") or [])
    return next(place.layer for place in found if place.step is run and place.layer is not None)


def _check_step(step: Step) -> None:
    keyword, line = step.instruction.keyword, step.instruction.line
    if step.onbuild or keyword == "ONBUILD":
        raise NotProvenError("NotPlain", "ONBUILD would be done here, not by the image's user", line)
    if keyword == "ARG" and "$" in step.instruction.text:
        raise NotProvenError("NotPlain", "what this ARG stands for may change below it", line)


def _shadowed(instructions: Iterable[Instruction]) -> set[int]:
    """The lines of ARGs whose names an ENV has set since: a RUN sees the ENV's value, and the image has it.

    The last of both counts in a RUN, and below a FROM every ENV comes first. Raises NotProvenError where
    it cannot be kept apart.
    """
    named: dict[int, set[str]] = {}  # by the line of an ARG
    shadowed: dict[int, set[str]] = {}
    environment: set[str] = set()
    for one in instructions:
        if one.keyword == "ARG":
            names = {word.partition("=")[0] for word in one.args}
            if names & environment:
                raise NotProvenError("NotPlain", "the ARG sets what an ENV has set", one.line)
            named[one.line] = names
        elif one.keyword == "ENV":
            names = set(one.args[::2])
            if any(set(name) & _SPECIAL for name in names):
                raise NotProvenError(
                    "NotPlain", "the name that this ENV sets is known only to the build", one.line
                )
            environment |= names
            for line, arguments in named.items():
                shadowed[line] = shadowed.get(line, set()) | (arguments & names)
    for line, names in shadowed.items():
        if names and names != named[line]:
            raise NotProvenError("NotPlain", "an ENV sets some of this line's names", line)
    return {line for line, names in shadowed.items() if names}


def _check_following(step: Step) -> None:
    line = step.instruction.line
    if isinstance(step, Run):
        if any(mount.type not in _MOUNTS or not mount.source.is_context for mount in step.mounts):
            raise NotProvenError("NotPlain", "the RUN mounts more than it has", line)
    elif step.instruction.keyword not in _UNSEEN:
        raise NotProvenError("NotPlain", f"{step.instruction.keyword} follows the RUN", line)


def _below(parent: Parent, layer: int) -> Parent:
    """The parent without this layer and those above. Its settings stay: no RUN sees what is set later."""
    config = json.loads(parent.config)
    history, layers = [], 0
    for entry in config.get("history") or []:
        layers += not entry.get("empty_layer")
        if layers > layer:
            break
        history.append(entry)
    diff_ids = parent.diff_ids[:layer]
    config["history"], config["rootfs"] = history, {"type": "layers", "diff_ids": list(diff_ids)}
    return replace(
        parent,
        config=json.dumps(config).encode(),
        diff_ids=diff_ids,
        layers=Layers(parent.layers.stack[:layer]),
        full=layer,
    )


def rest(text: str, plan: Plan, line: int, below: str) -> str:
    """The Dockerfile `text` as it goes on from the image `below`: its directives, the ARGs that RUNs see, and
    the RUNs from this line on, in a stage of the same name. All else is empty lines, so what the builder says
    of a line is the user's.
    """
    stage, parsed = plan.stages[plan.target].stage, Dockerfile.parse(text)
    runs = [one for one in stage.instructions if one.keyword == "RUN" and one.line >= line]
    above = [one for one in stage.instructions if one.line < line]
    shadowed = _shadowed(above)
    arguments = [one for one in above if one.keyword == "ARG" and one.line not in shadowed]
    kept = {
        number
        for one in (*parsed.arguments, *arguments, *runs)
        for number in range(one.line, one.end_line + 1)
    }
    lines = text.split("\n")
    head = next((number for number, one in enumerate(lines) if not one.lstrip("\ufeff ").startswith("#")), 0)
    for number in range(head, len(lines)):
        if number + 1 not in kept:
            lines[number] = ""
    lines[stage.line - 1] = f"FROM {below} AS {stage.name}" if stage.name else f"FROM {below}"
    return "\n".join(lines)
