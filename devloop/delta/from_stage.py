"""A delta of what other stages bring: where the image is made from what a RUN of another stage makes of the
changed files.

That stage is built by the builder, by the user's own lines and over the whole context, so it begins where a
full build of it begins. Only the last stage is left out: instead of it the COPYs out of the other stages go
into an empty image, whose layers are read. What is in there that is not in the image yet is a delta on the
image, by the proof that deltas have: those COPYs are looked at as COPYs out of a context (`combined`).
Doubt of any kind is `NotProven`, and a full build follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from devloop.delta.changes import Effects, Rules, changes
from devloop.delta.combined import combined, root_of
from devloop.delta.delta import Delta, NotProven, check_recipe, make
from devloop.delta.eligibility import check_copy, check_plan, context_sources, reads
from devloop.delta.layer_writer import from_export
from devloop.delta.outputs import Brought, LayerFiles, Output, Outputs, layer_of, of_layer, of_layers
from devloop.delta.parent import Parent
from devloop.delta.placement import NotProvenError, StageStep, numbered, places, roots
from devloop.dockerfile.plan import SCRATCH, Copy, Plan, Run, has_wildcard
from devloop.model import FileEntry, Inputs, Service

__all__ = ["IN_A_STAGE", "Export", "built", "exporting", "layers_of_stages", "not_carried_because"]

IN_A_STAGE = ("OtherStage", "Mounted", "TakenFrom")  # the doubts that this answers
_A_RUN = re.compile(r"\[(.* )?(?P<stage>\S+) +\d+/\d+\] RUN ")  # as builders name a step
_SPECIAL = frozenset("$\\'\"`")  # in a source that is not what it says


@dataclass(frozen=True, slots=True)
class Export:
    """`dockerfile` gives the image to export, with these `copies` in it; `before`: what they brought last.

    `stages`: the names of those whose RUNs the change reaches, and that show in nothing but these copies.
    """

    dockerfile: str
    copies: tuple[Brought, ...]
    before: Outputs
    stages: frozenset[str]

    @property
    def places(self) -> tuple[str, ...]:
        """What each layer of the image brings, lowest first."""
        return tuple(one.place for one in self.copies)

    @property
    def known(self) -> frozenset[str]:
        """The diff_ids of layers that need not be read."""
        return frozenset(layer for one in self.copies if (layer := layer_of(self.before, one.root)))


def not_carried_because(plan: Plan, path: str) -> NotProven | None:
    """What in the Dockerfile keeps an edit of this path, which another stage reads, from being carried by
    what the stage brings; None if nothing does as far as the Dockerfile alone shows."""
    try:
        _copies(plan, [path])
    except NotProvenError as doubt:
        return NotProven.of(doubt)
    return None


def exporting(
    service: Service,
    parent: Parent,
    before: Inputs,
    after: Inputs,
    plan: Plan,
    text: str,
    *,
    rebuild_salt: str = "",
) -> Export | NotProven:
    """What has to be built for the image of `after`, given the parent that was built from `before`. `text`:
    of the Dockerfile."""
    try:
        check_recipe(service, parent, before, after, rebuild_salt)
        changed = changes(before.files, after.files)
        copies = _copies(plan, changed)
        for files in (before.files, after.files):
            _check_no_links(plan, files)
        history = json.loads(parent.config).get("history") or []
        steps = [one for one in places(plan, parent.full, history) if one.step in copies]
        every = (_brought(one, parent) for one in steps)
        brought = tuple(sorted(every, key=lambda one: one.line))
        last = {one.root: _last(parent, one) for one in brought}
        chain = {stage.stage.index for stage in plan.chain()}
        stages = (plan.stages[index].stage for index in _reached(plan, changed) - chain)
        names = frozenset(stage.name or f"stage-{stage.index}" for stage in stages)
        return Export(_dockerfile(text, plan, brought, copies), brought, last, names)
    except NotProvenError as doubt:
        return NotProven.of(doubt)


def built(
    service: Service,
    export: Export,
    layers: LayerFiles,
    ran: Sequence[str],
    parent: Parent,
    before: Inputs,
    after: Inputs,
    plan: Plan,
    rules: Rules,
    labels: Mapping[str, str],
    *,
    check: Callable[[], None] = lambda: None,
) -> Delta | NotProven:
    """The image of `after`, given the layers that the builder made of `export`, and the steps that it did
    anew. Terms as for `delta`."""
    try:
        _check_ran(export, ran)
        exported = of_layers(layers, export.copies, export.before, check)
        last = {**(parent.outputs or {}), **export.before}
        now = {**last, **exported.outputs}
        last |= {root: _without_old_sources(last[root], now[root]) for root in exported.outputs}
        effects = Effects(parent, *combined(before, after, plan, rules, last, now))
        made = make(parent, effects, labels, from_export(service.build.context, exported.at), check)
        return replace(made, parent=replace(made.parent, outputs=now))
    except NotProvenError as doubt:
        return NotProven.of(doubt)


def _without_old_sources(last: Mapping[str, Output], now: Mapping[str, Output]) -> Mapping[str, Output]:
    """What was brought last, but for those of Python's sources that have another time now, where something
    was compiled anew: their time stands in that."""
    if not any(path.endswith(".pyc") for path in changes(last, now)):
        return last
    old = {
        path
        for path, one in now.items()
        if path.endswith(".py") and path in last and last[path].seconds != one.seconds
    }
    return {path: replace(one, digest="") if path in old else one for path, one in last.items()}


def layers_of_stages(plan: Plan, diff_ids: tuple[str, ...]) -> frozenset[str]:
    """Which of the layers of a full build a COPY out of another stage made: of those the content counts."""
    return frozenset(
        diff_ids[one.layer]
        for one in numbered(plan, len(diff_ids))
        if one.layer is not None
        and one.layer >= 0
        and isinstance(one.step, Copy)
        and one.step.source.stage is not None
    )


def _check_ran(export: Export, ran: Sequence[str]) -> None:
    """Raises NotProvenError if a RUN was done anew that the change does not reach: its cache was gone. The
    outputs are then made of what the image does not hold."""
    for step in ran:
        found = _A_RUN.match(step)
        if found is not None and found["stage"] not in export.stages:
            raise NotProvenError("StageRebuilt", f"the builder did {step} again, which no change reaches")


# --- which COPYs


def _copies(plan: Plan, changed: Collection[str]) -> tuple[Copy, ...]:
    """The COPYs of the image out of stages that these paths reach. Raises NotProvenError."""
    check_plan(plan)
    reached = _reached(plan, changed)
    found: list[Copy] = []
    after = None  # the RUN that follows all of them
    for stage in plan.chain():
        for step in stage.steps:
            if isinstance(step, Run) and found:
                after = step
            if isinstance(step, Run) and any(mount.source.stage in reached for mount in step.mounts):
                raise NotProvenError(
                    "Mounted", "the RUN mounts a stage that the change reaches", step.instruction.line
                )
            if isinstance(step, Copy) and step.source.stage in reached:
                _check_copy(step)
                found.append(step)
                after = None
    if not found:
        raise NotProvenError("OtherStage", "no COPY brings what the other stages make of it")
    if after is not None:
        line = found[-1].instruction.line
        raise NotProvenError(
            "RunAfter",
            f"this RUN comes after the COPY in line {line} and may depend on it",
            after.instruction.line,
            f"move the COPY in line {line} below it",
        )
    return tuple(found)


def _reached(plan: Plan, changed: Collection[str]) -> set[int]:
    """The stages in whose files these paths may show. Raises NotProvenError for a path that none reads."""
    reached: set[int] = set()
    for path in changed:
        readers = {
            index for index, stage in plan.stages.items() if any(reads(step, path) for step in stage.steps)
        }
        if not readers:
            raise NotProvenError("Unplaced", f"nothing shows who reads {path}")
        reached |= readers
    grown = True
    while grown:
        more = {
            index
            for index, stage in plan.stages.items()
            if index not in reached
            and (stage.base_stage in reached or any(_takes(step, reached) for step in stage.steps))
        }
        reached |= more
        grown = bool(more)
    return reached


def _takes(step: object, stages: Collection[int]) -> bool:
    if isinstance(step, Copy):
        return step.source.stage in stages
    return isinstance(step, Run) and any(mount.source.stage in stages for mount in step.mounts)


def _check_copy(copy: Copy) -> None:
    check_copy(copy)
    line = copy.instruction.line
    if copy.onbuild or copy.add:
        raise NotProvenError("NotPlain", "it is no COPY of the Dockerfile itself", line)
    if copy.sources is None or copy.destination is None:
        raise NotProvenError("Unresolvable", "a variable here is known only to the build", line)
    if any(_SPECIAL & set(source) or not source.isprintable() for source in copy.sources):
        raise NotProvenError("Unresolvable", "a source here is left to the builder", line)


def _check_no_links(plan: Plan, files: Mapping[str, FileEntry]) -> None:
    """A stage that reads the context through a link reads more than its words say."""
    for stage in plan.stages.values():
        for step in stage.steps:
            for source in context_sources(step):
                if roots(source, files).links:
                    line = step.instruction.line
                    raise NotProvenError("SourceLink", f"{source} is a link, or lies behind one", line)


# --- what they bring


def _brought(place: StageStep, parent: Parent) -> Brought:
    copy, layer, layers = place.step, place.layer, parent.layers
    assert isinstance(copy, Copy)
    assert layer is not None
    assert copy.destination is not None
    line = copy.instruction.line
    target = layers.resolve(copy.destination, layer)
    if target is None:
        raise NotProvenError("Unresolvable", "the destination is a loop of links", line)
    below = layers.find(target, layer)
    into = copy.destination.endswith("/") or (below is not None and below.kind == "dir")
    sources = copy.sources or ()
    if not into and (len(sources) > 1 or any(map(has_wildcard, sources))):
        raise NotProvenError(
            "SeveralSources",
            "several sources, and the destination may be a file",
            line,
            f"end the destination with a slash: {copy.destination}/",
        )
    # A builder takes a COPY of the same content to the same place from its cache, and does not look at the
    # owners: the place must be nobody else's.
    own = f"{line}-{parent.recipe[:16]}"
    return Brought(root_of(copy), own, line, layer, target, into, copy.owner != "")


def _last(parent: Parent, brought: Brought) -> Mapping[str, Output]:
    if parent.outputs and brought.root in parent.outputs:
        return parent.outputs[brought.root]
    return of_layer(parent.layers.stack[brought.layer], brought)


def _dockerfile(text: str, plan: Plan, brought: Collection[Brought], copies: Collection[Copy]) -> str:
    """The user's text up to the last stage; instead of that an empty one of its name with these COPYs, in
    their lines where they are its own: what the builder says of a line is the user's."""
    stage = plan.stages[plan.target].stage
    lines = text.split("\n")[: stage.line - 1]
    lines.append(f"FROM {SCRATCH} AS {stage.name}" if stage.name else f"FROM {SCRATCH}")
    to = {one.line: f"/{one.place}/" if one.into else f"/{one.place}" for one in brought}
    for copy in sorted(copies, key=lambda one: one.instruction.line):
        lines += [""] * (copy.instruction.line - 1 - len(lines))
        words = [*(f"/{source}" for source in copy.sources or ()), to[copy.instruction.line]]
        mode = f"--chmod={copy.mode} " if copy.mode else ""
        lines.append(f"COPY --from={copy.source.stage} {mode}{json.dumps(words, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
