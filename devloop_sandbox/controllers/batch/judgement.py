"""What a Job's pods mean for it: counts, whether it is over and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from devloop_sandbox.controllers.owners import is_active, is_ready, seconds_since
from devloop_sandbox.objects.resources import Obj

INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACKOFF, LAST_BACKOFF = 10.0, 600.0  # seconds between a failed pod and the next


@dataclass(frozen=True, slots=True)
class Count:
    """`terminating`: pods that are being deleted; `done`: the indexes that succeeded, of an Indexed Job."""

    active: tuple[Obj, ...]
    terminating: int
    succeeded: int
    failed: int
    done: frozenset[int]

    @property
    def ready(self) -> int:
        return sum(map(is_ready, self.active))


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is Complete or Failed."""

    kind: str
    reason: str
    message: str

    @property
    def target(self) -> str:
        """The condition that comes first, while its pods are still ending."""
        return "SuccessCriteriaMet" if self.kind == "Complete" else "FailureTarget"


class Tally:
    """Which pods of one Job are over: each counts once, and on after it was deleted.

    `status`: the Job's when its first pods are seen; what that counts beyond them is of pods that are gone.
    """

    def __init__(self, status: Obj, pods: list[Obj]) -> None:
        self._ended: dict[str, str] = {}  # uid -> phase
        self._gone = {"Succeeded": 0, "Failed": 0}
        self.see(pods)
        for phase, name in (("Succeeded", "succeeded"), ("Failed", "failed")):
            self._gone[phase] = max(0, status.get(name, 0) - self.number(phase))

    def see(self, pods: list[Obj]) -> None:
        for pod in pods:
            if (phase := pod.get("status", {}).get("phase")) in self._gone:
                self._ended[pod["metadata"]["uid"]] = phase

    def number(self, phase: str) -> int:
        return self._gone[phase] + list(self._ended.values()).count(phase)


def count(job: Obj, pods: list[Obj], tally: Tally) -> Count:
    """A pod that is over counts on after it was deleted; `tally` has seen it."""
    status, by_phase = job.get("status", {}), [pod.get("status", {}).get("phase") for pod in pods]
    done = _indexes(status.get("completedIndexes", "")) | {
        index_of(pod) for pod, phase in zip(pods, by_phase, strict=True) if phase == "Succeeded"
    }
    ending = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    return Count(
        tuple(pod for pod in pods if is_active(pod)),
        sum(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in ending),
        len(done - {-1}) if is_indexed(job) else tally.number("Succeeded"),
        tally.number("Failed"),
        frozenset(done - {-1}),
    )


def wanted(job: Obj, found: Count) -> int:
    """How many pods should be active now."""
    completions, parallelism = job["spec"].get("completions"), job["spec"]["parallelism"]
    if completions is None:  # a work queue: once one succeeded, the others end by themselves
        return len(found.active) if found.succeeded else int(parallelism)
    return int(min(parallelism, max(0, completions - found.succeeded)))


def verdict(job: Obj, found: Count) -> Verdict | None:
    """None while it goes on."""
    spec, status = job["spec"], job.get("status", {})
    for entry in status.get("conditions") or []:
        if entry["type"] in ("SuccessCriteriaMet", "FailureTarget"):
            kind = "Complete" if entry["type"] == "SuccessCriteriaMet" else "Failed"
            return Verdict(kind, entry.get("reason", ""), entry.get("message", ""))
    if found.failed > spec["backoffLimit"] or _restarted_too_often(job, found):
        return Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if deadline(job) == 0:
        return Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    completions = spec.get("completions")
    if found.succeeded >= completions if completions is not None else found.succeeded and not found.active:
        return Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def deadline(job: Obj) -> float | None:
    """Seconds until activeDeadlineSeconds are over, None without."""
    limit, started = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    if limit is None or started is None:
        return None
    return float(max(0.0, limit - seconds_since(started)))


def backoff(pods: list[Obj], scale: float) -> float:
    """Seconds until the next pod may be made: twice as long after each failure since the last success."""
    ends = {phase: [_end(pod) for pod in pods if pod.get("status", {}).get("phase") == phase]
            for phase in ("Succeeded", "Failed")}  # fmt: skip
    failures = [end for end in ends["Failed"] if end > max(ends["Succeeded"], default="")]
    if not failures:
        return 0.0
    delay = min(FIRST_BACKOFF * 2 ** min(len(failures) - 1, 10), LAST_BACKOFF) * scale
    return float(max(0.0, delay - seconds_since(max(failures))))


def is_indexed(job: Obj) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def index_of(pod: Obj) -> int:
    """-1 for a pod of a Job that is not Indexed."""
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, -1))


def ranges(indexes: frozenset[int]) -> str:
    """ "0,1,3-5"."""
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    texts = (f"{part[0]}-{part[-1]}" if len(part) > 2 else ",".join(map(str, part)) for part in parts)
    return ",".join(texts)


def _indexes(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _restarted_too_often(job: Obj, found: Count) -> bool:
    """With restartPolicy OnFailure the containers of one pod are what is tried again."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    states = [
        state
        for pod in found.active
        for kind in ("initContainerStatuses", "containerStatuses")
        for state in pod.get("status", {}).get(kind) or []
    ]
    restarts, limit = sum(state["restartCount"] for state in states), job["spec"]["backoffLimit"]
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def _end(pod: Obj) -> str:
    """When its last container ended; API times sort as text."""
    states = pod.get("status", {}).get("containerStatuses") or []
    ends = [state["state"]["terminated"]["finishedAt"] for state in states if "terminated" in state["state"]]
    return str(max(ends, default=pod["metadata"]["creationTimestamp"]))


def finished(job: Obj) -> Obj | None:
    """The condition that ended it."""
    conditions = job.get("status", {}).get("conditions") or []
    return next(
        (one for one in conditions if one["type"] in ("Complete", "Failed") and one["status"] == "True"), None
    )


def ended_at(job: Obj) -> datetime:
    ended = finished(job) or {}
    return datetime.fromisoformat(ended.get("lastTransitionTime") or job["metadata"]["creationTimestamp"])
