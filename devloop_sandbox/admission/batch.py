"""What Jobs and CronJobs must be before they are stored, and what may not change afterwards."""

from __future__ import annotations

from devloop_sandbox.admission import podspec
from devloop_sandbox.admission.problems import Problems
from devloop_sandbox.objects.cron import schedule_of
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.objects.selectors import matches

_POLICIES = ("OnFailure", "Never")
_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
)  # fmt: skip
_LONGEST = 52  # of a CronJob's name: its Jobs have eleven characters more


def job(problems: Problems, obj: Obj, old: Obj | None) -> None:
    _job_spec(problems, obj["spec"], "spec")
    spec, was = obj["spec"], (old or {}).get("spec")
    if not spec.get("selector"):
        problems.required("spec.selector")
    elif "template" in spec:
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if not matches(spec["selector"], labels):
            problems.invalid(
                "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
            )
    for name in ("selector", "template", "completionMode", "completions") if was else ():
        if spec.get(name) != (was or {}).get(name):
            problems.invalid(f"spec.{name}", spec.get(name), "field is immutable")


def cron_job(problems: Problems, obj: Obj, old: Obj | None) -> None:
    spec = obj["spec"]
    name = obj["metadata"].get("name", "")
    if old is None and len(name) > _LONGEST:
        problems.invalid("metadata.name", name, f"must be no more than {_LONGEST} characters")
    if not spec.get("schedule"):
        problems.required("spec.schedule")
    else:
        _schedule(problems, spec)
    policies = ("Allow", "Forbid", "Replace")
    problems.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies)
    for name in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        problems.at_least(f"spec.{name}", spec.get(name), 0)
    template = spec.get("jobTemplate") or {}
    _job_spec(problems, template.get("spec") or {}, "spec.jobTemplate.spec")


def _job_spec(problems: Problems, spec: Obj, path: str) -> None:
    for name in _COUNTS:
        problems.at_least(f"{path}.{name}", spec.get(name), 0)
    problems.one_of(f"{path}.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"))
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        problems.required(f"{path}.completions", "when completion mode is Indexed")
    if "template" not in spec:
        problems.required(f"{path}.template")
        return
    inner = (spec["template"] or {}).get("spec") or {}
    podspec.check(problems, inner, f"{path}.template.spec", policies=_POLICIES)


def _schedule(problems: Problems, spec: Obj) -> None:
    try:
        schedule_of(spec["schedule"])
    except ValueError as error:
        problems.invalid("spec.schedule", spec["schedule"], str(error))
        return
    try:
        schedule_of(spec["schedule"], spec.get("timeZone") or "")
    except ValueError as error:
        problems.invalid("spec.timeZone", spec["timeZone"], str(error))
