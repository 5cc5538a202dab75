"""What may change in a pod that is there: images, and a few fields that only ever get stricter."""

from __future__ import annotations

from devloop_sandbox.admission.problems import Problems
from devloop_sandbox.objects.resources import Obj

_CHANGEABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)
_LONGEST = 2**31 - 1  # seconds


def check(problems: Problems, spec: Obj, old: Obj) -> None:
    """`spec` is what a writer wants of a pod whose spec is `old`."""
    for kind in ("containers", "initContainers"):
        wanted = spec.get(kind) or []
        if len(wanted) != len(old.get(kind) or []):
            problems.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")
            return
        for at, container in enumerate(wanted):
            image = container.get("image") or ""
            if image != image.strip():
                why = "must not have leading or trailing whitespace"
                problems.invalid(f"spec.{kind}[{at}].image", image, why)
    _deadline(problems, spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    kept = [_timeless(one) for one in spec.get("tolerations") or []]
    if any(_timeless(one) not in kept for one in old.get("tolerations") or []):
        why = "existing toleration can not be modified except its tolerationSeconds"
        problems.forbidden("spec.tolerations", why)
    if _fixed(spec, old) != _fixed(old, old):
        why = "pod updates may not change fields other than " + ",".join(_CHANGEABLE)
        problems.forbidden("spec", why)


def _deadline(problems: Problems, wanted: int | None, old: int | None) -> None:
    path = "spec.activeDeadlineSeconds"
    if wanted is None:
        if old is not None:
            problems.invalid(path, None, "must not update from a positive integer to nil value")
    elif not 0 <= wanted <= _LONGEST:
        problems.invalid(path, wanted, f"must be between 0 and {_LONGEST}, inclusive")
    elif old is not None and old < wanted:
        problems.invalid(path, wanted, "must be less than or equal to previous value")


def _timeless(toleration: Obj) -> Obj:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _fixed(spec: Obj, old: Obj) -> Obj:
    """The part that nobody may change; the scheduler sets nodeName once."""
    free = ["activeDeadlineSeconds", "tolerations"]
    if not old.get("nodeName"):
        free.append("nodeName")
    if old.get("terminationGracePeriodSeconds", 0) < 0 and spec.get("terminationGracePeriodSeconds") in (
        1,
        old["terminationGracePeriodSeconds"],
    ):
        free.append("terminationGracePeriodSeconds")
    kept = {key: value for key, value in spec.items() if key not in free and value not in (None, [], {})}
    for kind in ("containers", "initContainers"):
        if kind in kept:
            kept[kind] = [{k: v for k, v in one.items() if k != "image"} for one in kept[kind]]
    return kept
