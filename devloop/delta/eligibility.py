"""What in a Dockerfile keeps a changed file of the context from being a delta."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from devloop.delta.placement import NotProvenError, octal
from devloop.dockerfile.ignore_pattern import go_clean
from devloop.dockerfile.plan import Copy, Plan, Run, Step
from devloop.inputs.selection import pattern_of

_MODELLED = frozenset({"from", "chown", "chmod", "link", "parents", "exclude"})  # or refused by name


def check_plan(plan: Plan) -> None:
    """Raises NotProvenError if it is unknown what the build reads."""
    if plan.whole:
        raise NotProvenError("Unresolvable", plan.whole)


def check_path(plan: Plan, path: str) -> None:
    """Raises NotProvenError if anything but the COPYs into the image itself may depend on the path."""
    chain = [stage.stage.index for stage in plan.chain()]
    for index, stage in plan.stages.items():
        for number, step in enumerate(stage.steps):
            if not reads(step, path):
                continue
            line = step.instruction.line
            if isinstance(step, Run):
                raise NotProvenError("Mounted", "the RUN mounts it", line)
            if index not in chain:
                raise NotProvenError(
                    "OtherStage",
                    f"stage {stage.stage.name or index} reads it, and the image is made from what comes out",
                    line,
                    "a delta needs the file to be copied into the last stage",
                )
            assert isinstance(step, Copy)
            check_copy(step)
            later = [*stage.steps[number + 1 :]]
            for above in chain[chain.index(index) + 1 :]:
                later += plan.stages[above].steps
            for following in later:
                if isinstance(following, Run):
                    raise NotProvenError(
                        "RunAfter",
                        f"this RUN comes after the COPY in line {line} and may depend on it",
                        following.instruction.line,
                        f"move the COPY below it, or copy only what the RUN needs before it (line {line})",
                    )
            _check_taken_from(plan, chain[chain.index(index) :], line)


def check_copy(copy: Copy) -> None:
    """Raises NotProvenError for a COPY that is not modelled."""
    line = copy.instruction.line
    for flag in sorted(copy.instruction.flag_names() - _MODELLED):
        raise NotProvenError("Flag", f"{copy.instruction.keyword} --{flag} is not modelled", line)
    if copy.inline or copy.remote:
        raise NotProvenError(
            "Mixed",
            "files of the context mixed with others",
            line,
            f"give each kind a {copy.instruction.keyword} of its own",
        )
    for flag, used in (("link", copy.link), ("parents", copy.parents), ("exclude", bool(copy.excludes))):
        if used:
            raise NotProvenError("Flag", f"COPY --{flag} is not modelled", line, f"do without --{flag}")
    if copy.owner is None or copy.mode is None:
        raise NotProvenError("Unresolvable", "a variable here is known only to the build", line)
    if copy.mode and octal(copy.mode) is None:
        raise NotProvenError("Flag", f"--chmod={copy.mode} is not modelled", line, "write the mode in octal")


def _check_taken_from(plan: Plan, stages: Iterable[int], line: int) -> None:
    """Does anything take files out of a stage that holds the path?"""
    holding = set(stages)
    for stage in plan.stages.values():
        if stage.base_stage in holding:
            holding.add(stage.stage.index)
    for stage in plan.stages.values():
        for step in stage.steps:
            sources = [step.source] if isinstance(step, Copy) else []
            sources += [mount.source for mount in step.mounts] if isinstance(step, Run) else []
            if any(source.stage in holding for source in sources):
                raise NotProvenError(
                    "TakenFrom",
                    f"it takes files from the stage that line {line} copies into",
                    step.instruction.line,
                )


def reads(step: Step, path: str) -> bool:
    """Does the step read this path of the context?"""
    return any(_covers(source, path) for source in context_sources(step))


def context_sources(step: Step) -> Iterator[str]:
    """The words by which a step reads the context, "" for all of it."""
    if isinstance(step, Copy) and step.source.is_context:
        yield from ("",) if step.sources is None else step.sources
    elif isinstance(step, Run):
        for mount in step.mounts:
            if mount.source.is_context and mount.type == "bind":
                yield go_clean("/" + (mount.path or ""))[1:]


def _covers(source: str, path: str) -> bool:
    return pattern_of(source).fits(tuple(path.split("/")))
