"""The context and what other stages bring, as one tree with one plan: what of both lies where in the image.

A COPY out of another stage is then a COPY like those out of the context: its source is a directory, or a
file, of the tree. The context lies in a directory beside those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from devloop.delta.changes import Rules, changes
from devloop.delta.eligibility import reads
from devloop.delta.outputs import Outputs
from devloop.dockerfile.ignore_pattern import go_clean
from devloop.dockerfile.plan import CONTEXT, Copy, CopySource, Plan, Run, RunMount, Step
from devloop.model import FileEntry, Inputs

__all__ = ["combined", "root_of"]

_PLACE = "context"  # of the context in the tree
_ELSEWHERE = CopySource(image="")  # what a stage takes that is not in the tree


def root_of(copy: Copy) -> str:
    """What stands for the source of a COPY out of another stage."""
    return f"line {copy.instruction.line}"


def combined(
    before: Inputs, after: Inputs, plan: Plan, rules: Rules, brought: Outputs, brings: Outputs
) -> tuple[Inputs, Inputs, Plan, Rules]:
    """Both states, plan and rules of the one tree. `brought`, `brings`: before and after, of the same COPYs.

    What changed in the context and only other stages read is left out: what they bring stands for it.
    """
    chain = {stage.stage.index for stage in plan.chain()}
    steps = [step for index in chain for step in plan.stages[index].steps]
    changed = changes(before.files, after.files)
    unread = {path for path in changed if not any(reads(step, path) for step in steps)}
    return (
        replace(before, files=_tree(before.files, brought, unread)),
        replace(after, files=_tree(after.files, brings, unread)),
        _plan(plan, chain, brings.keys()),
        _Rules(rules),
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """The ignore rules of the context, where it lies now."""

    rules: Rules

    def disputed(self, path: str) -> bool:
        place, _, rest = path.partition("/")
        return place == _PLACE and self.rules.disputed(rest)


def _tree(files: Mapping[str, FileEntry], outputs: Outputs, unread: Collection[str]) -> dict[str, FileEntry]:
    tree: dict[str, FileEntry] = {_PLACE: FileEntry(_PLACE, "dir", 0o755, 0, 0, "")}
    tree |= {f"{_PLACE}/{path}": entry for path, entry in files.items() if path not in unread}
    for brought in outputs.values():
        tree |= brought
    return tree


def _plan(plan: Plan, chain: Collection[int], roots: Collection[str]) -> Plan:
    """The stages that the image is not made of only count for what takes files out of whom."""
    stages = {
        index: replace(
            stage, steps=tuple(_step(step, roots if index in chain else None) for step in stage.steps)
        )
        for index, stage in plan.stages.items()
    }
    return replace(plan, stages=stages)


def _step(step: Step, roots: Collection[str] | None) -> Step:
    """`roots` None: of a stage that the image is not made of."""
    if isinstance(step, Run):
        return replace(step, mounts=tuple(_mount(mount, in_image=roots is not None) for mount in step.mounts))
    if not isinstance(step, Copy):
        return step
    if roots is not None and step.source.stage is not None and root_of(step) in roots:
        return replace(step, source=CONTEXT, sources=(root_of(step),))
    if not step.source.is_context:
        return step
    if roots is None:
        return replace(step, source=_ELSEWHERE)
    return replace(step, sources=_placed(step.sources))


def _placed(sources: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return (
        None if sources is None else tuple(f"{_PLACE}/{source}" if source else _PLACE for source in sources)
    )


def _mount(mount: RunMount, *, in_image: bool) -> RunMount:
    if not mount.source.is_context or (in_image and mount.path is None):
        return mount
    if not in_image:
        return replace(mount, source=_ELSEWHERE)
    return replace(mount, path=f"{_PLACE}{go_clean('/' + (mount.path or ''))}")
