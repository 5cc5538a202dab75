"""CronJobs: a Job whenever its time has come."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.batch.judgement import ended_at, finished
from devloop_sandbox.controllers.owners import controller_key, controller_of, delete_quietly, reference_to
from devloop_sandbox.objects.cron import schedule_of
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.store.store import Event

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
LATE = 0.05  # seconds: a timer may be a little early


class CronJobs(Controller):
    component = "cronjob-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("cronjobs")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "cronjobs":
            return [key_of(event.obj)]
        owner = controller_key(event.obj, "CronJob") if event.resource == "jobs" else None
        return [owner] if owner else []

    @override
    def sync(self, key: Key) -> float | None:
        cron = self.store.find("cronjobs", *key)
        if cron is None or "deletionTimestamp" in cron["metadata"]:
            return None
        jobs = self._tidy(cron, self._jobs(cron))
        spec, moment = cron["spec"], self.now()
        if spec.get("suspend"):
            self._write_status(cron, jobs, None)
            return None
        schedule = schedule_of(spec["schedule"], spec.get("timeZone") or "")
        begun = self._begun(cron)
        due = schedule.last(moment, begun)
        if due is not None and due > self._since(cron, moment) and self._may_start(cron, jobs):
            jobs = [*jobs, *self._start(cron, due)]
            self._write_status(cron, jobs, due)
        else:
            self._write_status(cron, jobs, None)
        following = schedule.next(moment, begun)
        return None if following is None else (following - self.now()).total_seconds() + LATE

    def now(self) -> datetime:
        return datetime.now(UTC)

    def _jobs(self, cron: Obj) -> list[Obj]:
        meta = cron["metadata"]
        return [
            job
            for job in self.store.list("jobs", meta["namespace"])
            if (controller_of(job) or {}).get("uid") == meta["uid"]
        ]

    def _begun(self, cron: Obj) -> datetime:
        last = cron.get("status", {}).get("lastScheduleTime") or cron["metadata"]["creationTimestamp"]
        return datetime.fromisoformat(last)

    def _since(self, cron: Obj, moment: datetime) -> datetime:
        """Times after this one are due: the last that was taken, and not too long ago."""
        since = self._begun(cron)
        limit = cron["spec"].get("startingDeadlineSeconds")
        return since if limit is None else max(since, moment - timedelta(seconds=limit))

    def _may_start(self, cron: Obj, jobs: list[Obj]) -> bool:
        """As concurrencyPolicy says; Replace ends what still runs."""
        policy, active = cron["spec"]["concurrencyPolicy"], [job for job in jobs if finished(job) is None]
        if policy == "Forbid" and active:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.record(cron, "Normal", "JobAlreadyActive", text)
            return False
        for job in active if policy == "Replace" else ():
            if delete_quietly(self.store, "jobs", job):
                name = job["metadata"]["name"]
                self.record(cron, "Normal", "SuccessfulDelete", f"Deleted job {name}")
        return True

    def _start(self, cron: Obj, due: datetime) -> list[Obj]:
        meta, template = cron["metadata"], cron["spec"]["jobTemplate"]
        own = clone(template.get("metadata") or {})
        name = f"{meta['name']}-{int(due.timestamp()) // 60}"
        job = {
            "metadata": {
                **{key: own[key] for key in ("labels", "annotations") if key in own},
                "name": name,
                "namespace": meta["namespace"],
                "ownerReferences": [reference_to(cron)],
            },
            "spec": clone(template["spec"]),
        }
        stamp = due.strftime("%Y-%m-%dT%H:%M:%SZ")
        job["metadata"]["annotations"] = {**(own.get("annotations") or {}), SCHEDULED: stamp}
        try:
            made = self.store.create("jobs", job)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return []
            self.record(cron, "Warning", "FailedCreate", f"Error creating job: {error.message}")
            raise
        self.record(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        return [made]

    def _tidy(self, cron: Obj, jobs: list[Obj]) -> list[Obj]:
        """Without the oldest of those that are over, as far as the history limits go."""
        gone = []
        for kind, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
            over = [job for job in jobs if (finished(job) or {}).get("type") == kind]
            over.sort(key=ended_at, reverse=True)
            gone += over[cron["spec"][field] :]
        for job in gone:
            delete_quietly(self.store, "jobs", job)
        return [job for job in jobs if job not in gone]

    def _write_status(self, cron: Obj, jobs: list[Obj], due: datetime | None) -> None:
        old = cron.get("status", {})
        status: Obj = {key: old[key] for key in ("lastScheduleTime", "lastSuccessfulTime") if key in old}
        if due is not None:
            status["lastScheduleTime"] = due.strftime("%Y-%m-%dT%H:%M:%SZ")
        ends = [job["status"]["completionTime"] for job in jobs if "completionTime" in job.get("status", {})]
        if ends:
            status["lastSuccessfulTime"] = max([*ends, status.get("lastSuccessfulTime", "")])
        active = [job for job in jobs if finished(job) is None]
        if active:
            status["active"] = [_reference(job) for job in active]
        for job in jobs:
            known = [one["uid"] for one in old.get("active") or []]
            if (end := finished(job)) is not None and job["metadata"]["uid"] in known:
                text = f"Saw completed job: {job['metadata']['name']}, condition: {end['type']}"
                self.record(cron, "Normal", "SawCompletedJob", text)
        if status != old:

            def change(copy: Obj) -> None:
                copy["status"] = status

            self.store.mutate("cronjobs", *key_of(cron), change, subresource="status")


def _reference(job: Obj) -> Obj:
    meta = job["metadata"]
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }
