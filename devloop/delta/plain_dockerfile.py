"""Which Dockerfiles only copy and set, so that their first image needs no build."""

from __future__ import annotations

from devloop.delta.eligibility import check_copy, check_plan
from devloop.delta.image_config import is_plain
from devloop.delta.placement import NotProvenError
from devloop.dockerfile.plan import Copy, Plan, Setting, StagePlan, Workdir
from devloop.model import Inputs


def stands_on(plan: Plan, inputs: Inputs) -> str | None:
    """The base image's reference if the Dockerfile is plain enough for `first` to be tried, else None."""
    try:
        stage = only_stage(plan)
        for step in stage.steps:
            check_step(step)
    except NotProvenError:
        return None
    known = {base.ref for base in inputs.bases}
    return stage.base_image if stage.base_image in known else None


def only_stage(plan: Plan) -> StagePlan:
    check_plan(plan)
    stage = plan.stages[plan.target]
    if len(plan.stages) != 1 or stage.base_image is None or any(base.platform for base in plan.bases):
        raise NotProvenError("NotPlain", "more than one stage, or one that stands on no image")
    return stage


def check_step(step: object) -> None:
    if isinstance(step, Copy) and not step.onbuild:
        line = step.instruction.line
        if step.add or not step.source.is_context or step.inline or step.remote or not step.sources:
            raise NotProvenError("NotPlain", "only COPY from the context is plain", line)
        check_copy(step)
    elif isinstance(step, Workdir) and not step.onbuild:
        return
    elif not isinstance(step, Setting) or not is_plain(step):
        raise NotProvenError("NotPlain", "only COPY and plain settings may follow FROM")
