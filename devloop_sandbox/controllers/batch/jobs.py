"""Jobs: pods until enough of them have succeeded, or too many failed."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.batch import judgement
from devloop_sandbox.controllers.batch.judgement import Count, Tally, Verdict
from devloop_sandbox.controllers.owners import (
    claimed,
    controller_key,
    delete_quietly,
    is_active,
    pod_from,
    seconds_since,
)
from devloop_sandbox.controllers.replicaset import usefulness
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Event, Store, now


class Jobs(Controller):
    component = "job-controller"

    def __init__(self, store: Store, options: Options) -> None:
        super().__init__(store, options)
        self._tallies: dict[Key, tuple[str, Tally]] = {}  # with the uid of the Job

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("jobs")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "jobs":
            return [key_of(event.obj)]
        owner = controller_key(event.obj, "Job") if event.resource == "pods" else None
        return [owner] if owner else []

    @override
    def sync(self, key: Key) -> float | None:
        job = self.store.find("jobs", *key)
        if job is None or "deletionTimestamp" in job["metadata"]:
            self._tallies.pop(key, None)
            return None
        if judgement.finished(job):
            self._tallies.pop(key, None)
            return self._expire(job)
        pods = claimed(self.store, "pods", job)
        found = self._count(key, job, pods)
        verdict, suspended = judgement.verdict(job, found), bool(job["spec"].get("suspend"))
        if verdict is not None or suspended:
            for pod in found.active:
                self._delete(job, pod)
            again = None
        else:
            again = self._scale(job, pods, found)
        pods = claimed(self.store, "pods", job)
        self._write_status(job, self._count(key, job, pods), verdict, suspended=suspended)
        waits = (again, None if verdict else judgement.deadline(job))
        return min((wait for wait in waits if wait is not None), default=None)

    def _count(self, key: Key, job: Obj, pods: list[Obj]) -> Count:
        uid, tally = self._tallies.get(key, ("", None))
        if tally is None or uid != job["metadata"]["uid"]:
            tally = Tally(job.get("status", {}), pods)
            self._tallies[key] = job["metadata"]["uid"], tally
        tally.see(pods)
        return judgement.count(job, pods, tally)

    def _scale(self, job: Obj, pods: list[Obj], found: Count) -> float | None:
        """Make or delete pods; the seconds until a failed one may be replaced."""
        missing = judgement.wanted(job, found) - len(found.active)
        for pod in sorted(found.active, key=usefulness)[: max(0, -missing)]:
            self._delete(job, pod)
        if missing <= 0:
            return None
        if wait := judgement.backoff(pods, self.options.backoff_scale):
            return wait
        taken = found.done | {judgement.index_of(pod) for pod in pods if is_active(pod)}
        free = (index for index in range(job["spec"].get("completions") or 0) if index not in taken)
        for _ in range(missing):
            self._create(job, next(free, None) if judgement.is_indexed(job) else None)
        return None

    def _create(self, job: Obj, index: int | None) -> None:
        pod = pod_from(job, job["spec"]["template"])
        if index is not None:
            _number(pod, job["metadata"]["name"], index)
        try:
            made = self.store.create("pods", pod)
        except ApiError as error:
            self.record(job, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self.record(job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    def _delete(self, job: Obj, pod: Obj) -> None:
        if delete_quietly(self.store, "pods", pod):
            self.record(job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _expire(self, job: Obj) -> float | None:
        """Away with it, and its pods, when ttlSecondsAfterFinished are over."""
        after = job["spec"].get("ttlSecondsAfterFinished")
        if after is None:
            return None
        left = after - seconds_since(judgement.ended_at(job).isoformat())
        if left > 0:
            return float(left)
        delete_quietly(self.store, "jobs", job)
        return None

    def _write_status(self, job: Obj, found: Count, verdict: Verdict | None, *, suspended: bool) -> None:
        old = job.get("status", {})
        counts = {"active": len(found.active), "succeeded": found.succeeded, "failed": found.failed}
        status: Obj = {name: number for name, number in counts.items() if number}
        status |= {"ready": found.ready, "terminating": found.terminating, "uncountedTerminatedPods": {}}
        if judgement.is_indexed(job) and found.done:
            status["completedIndexes"] = judgement.ranges(found.done)
        if not suspended:
            status["startTime"] = old.get("startTime") or now()
        conditions = _conditions(old.get("conditions") or [], suspended=suspended)
        over = verdict is not None and not found.active and not found.terminating
        if verdict is not None:
            for kind in (verdict.target, verdict.kind) if over else (verdict.target,):
                conditions = _with(conditions, kind, "True", verdict.reason, verdict.message)
            if over and verdict.kind == "Complete":
                status["completionTime"] = now()
        if conditions:
            status["conditions"] = conditions
        if status == old:
            return

        def change(copy: Obj) -> None:
            copy["status"] = status

        self.store.mutate("jobs", *key_of(job), change, subresource="status")
        if over and verdict is not None:
            self._report(job, verdict)

    def _report(self, job: Obj, verdict: Verdict) -> None:
        if verdict.kind == "Complete":
            self.record(job, "Normal", "Completed", "Job completed")
        else:
            self.record(job, "Warning", verdict.reason, verdict.message)


def _number(pod: Obj, job: str, index: int) -> None:
    """What tells a pod of an Indexed Job its part of the work."""
    meta, text = pod["metadata"], str(index)
    meta["generateName"] = f"{job}-{index}-"
    for place in ("labels", "annotations"):
        meta[place] = {**(meta.get(place) or {}), judgement.INDEX: text}
    pod["spec"].setdefault("hostname", f"{job}-{index}")
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or []:
            variables = [one for one in container.get("env") or [] if one["name"] != "JOB_COMPLETION_INDEX"]
            container["env"] = [*variables, {"name": "JOB_COMPLETION_INDEX", "value": text}]


def _conditions(known: list[Obj], *, suspended: bool) -> list[Obj]:
    was = any(one["type"] == "Suspended" and one["status"] == "True" for one in known)
    if suspended:
        return _with(known, "Suspended", "True", "JobSuspended", "Job suspended")
    return _with(known, "Suspended", "False", "JobResumed", "Job resumed") if was else known


def _with(known: list[Obj], kind: str, value: str, reason: str, message: str) -> list[Obj]:
    """The conditions with this one; its times move only when its status does."""
    if any(one["type"] == kind and one["status"] == value for one in known):
        return known
    moment = now()
    made = {"type": kind, "status": value, "lastProbeTime": moment, "lastTransitionTime": moment}
    others = [one for one in known if one["type"] != kind]
    return [*others, made | {"reason": reason, "message": message}]
