"""Jobs and CronJobs: pods that run to their end, once or whenever their time has come."""

from __future__ import annotations

import pytest

from tests.contract.cluster import (
    Namespace,
    Object,
    after_restarts,
    condition,
    is_true,
    name_of,
    owners,
    refused,
    uid,
)
from tests.contract.objects import SLEEP, container, pod_spec


def job(script: str, name: str = "work", policy: str = "Never", **spec: object) -> Object:
    template = {"spec": {**pod_spec(container(script)), "restartPolicy": policy}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def cron_job(schedule: str = "* * * * *", script: str = "true", **spec: object) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job(script)["spec"]}, **spec},
    }


def complete(ns: Namespace, name: str = "work") -> Object:
    return ns.wait("Job", name, lambda one: is_true(one, "Complete"), what="its end")


def failed(ns: Namespace, seconds: float = 60.0) -> Object:
    return ns.wait("Job", "work", lambda one: is_true(one, "Failed"), what="its failure", seconds=seconds)


def test_a_job_runs_a_pod_to_its_end(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/"""
    made = ns.create(job("echo done"))
    done = complete(ns)
    assert (done["status"]["succeeded"], done["status"].get("active", 0)) == (1, 0)
    assert done["status"]["completionTime"] >= done["status"]["startTime"]
    (pod,) = ns.items("Pod")
    assert owners(pod) == [uid(made)]
    assert name_of(pod).startswith("work-")
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "work"
    assert pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == uid(made)
    assert ns.log(name_of(pod)) == "done\n"
    ns.wait_event("Completed", "Job", "work")


def test_defaults_and_what_the_server_adds(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/"""
    spec = ns.create(job("true", suspend=True))["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert spec["completionMode"] == "NonIndexed"
    selected = spec["selector"]["matchLabels"]
    assert selected.items() <= spec["template"]["metadata"]["labels"].items()


def test_several_completions_side_by_side(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#parallel-jobs"""
    ns.create(job("true", completions=3, parallelism=2))
    assert complete(ns)["status"]["succeeded"] == 3
    assert len(ns.items("Pod")) == 3


def test_an_indexed_job_numbers_its_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode"""
    ns.create(job("echo $JOB_COMPLETION_INDEX", completions=2, parallelism=2, completionMode="Indexed"))
    assert complete(ns)["status"]["completedIndexes"] == "0,1"
    pods = ns.items("Pod")
    key = "batch.kubernetes.io/job-completion-index"
    assert {pod["metadata"]["annotations"][key] for pod in pods} == {"0", "1"}
    assert {ns.log(name_of(pod)).strip() for pod in pods} == {"0", "1"}


def test_a_job_that_fails_too_often_is_given_up(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy"""
    ns.create(job("exit 3", backoffLimit=1))
    gone = failed(ns, 60 + after_restarts(1))
    assert condition(gone, "Failed")["reason"] == "BackoffLimitExceeded"
    assert gone["status"]["failed"] == 2
    assert len(ns.items("Pod")) == 2


def test_on_failure_restarts_the_container_of_the_same_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#handling-pod-and-container-failures"""
    script = "test -e /state/once && exit 0; touch /state/once; exit 1"
    thing = job(script, policy="OnFailure")
    inner = thing["spec"]["template"]["spec"]
    inner["volumes"] = [{"name": "state", "emptyDir": {}}]
    inner["containers"][0]["volumeMounts"] = [{"name": "state", "mountPath": "/state"}]
    ns.create(thing)
    done = ns.wait("Job", "work", lambda one: is_true(one, "Complete"), seconds=60 + after_restarts(1))
    assert "failed" not in done["status"]
    (pod,) = ns.items("Pod")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_job_that_takes_too_long_is_ended(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-termination-and-cleanup"""
    ns.create(job(SLEEP, activeDeadlineSeconds=2))
    assert condition(failed(ns), "Failed")["reason"] == "DeadlineExceeded"
    ns.wait_items("Pod", lambda pods: not pods, what="no pods")


def test_a_suspended_job_has_no_pods_until_it_goes_on(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#suspending-a-job"""
    ns.create(job("true", suspend=True))
    ns.wait("Job", "work", lambda one: is_true(one, "Suspended"))
    assert not ns.items("Pod")
    ns.merge("Job", "work", {"spec": {"suspend": False}})
    complete(ns)


def test_a_finished_job_goes_after_its_time_with_its_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/"""
    ns.create(job("true", ttlSecondsAfterFinished=1))
    ns.wait_gone("Job", "work")
    ns.wait_items("Pod", lambda pods: not pods, what="no pods")


def test_deleting_a_job_in_the_background_takes_its_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#background-deletion"""
    ns.create(job(SLEEP))
    ns.wait("Job", "work", lambda one: one["status"].get("ready"))
    ns.delete("Job", "work", {"propagationPolicy": "Background"})
    ns.wait_gone("Job", "work")
    ns.wait_items("Pod", lambda pods: not pods, what="no pods")


def test_what_a_job_may_not_be(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-template"""
    with refused(422, "Invalid") as refusal:
        ns.create(job("true", policy="Always"))
    assert "spec.template.spec.restartPolicy" in refusal.causes
    ns.create(job("true", suspend=True))
    made = ns.wait("Job", "work", lambda one: is_true(one, "Suspended"))
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    with refused(422, "Invalid") as refusal:
        ns.replace(made)
    assert "spec.template" in refusal.causes
    assert "field is immutable" in refusal.message


def test_a_cron_job_makes_a_job_when_its_time_has_come(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"""
    made = ns.create(cron_job(script="echo tick"))
    ns.wait("CronJob", "tick", lambda one: one["status"].get("lastScheduleTime"), seconds=120)
    jobs = ns.wait_items("Job", lambda found: any(is_true(one, "Complete") for one in found), what="an end")
    assert owners(jobs[0]) == [uid(made)]
    assert name_of(jobs[0]).startswith("tick-")
    ns.wait("CronJob", "tick", lambda one: one["status"].get("lastSuccessfulTime"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("schedule", "every day"), ("schedule", "61 * * * *"), ("timeZone", "Mars/Phobos")],
)
def test_a_schedule_that_is_none_is_refused(ns: Namespace, field: str, value: str) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax"""
    with refused(422, "Invalid") as refusal:
        ns.create(cron_job(**{field: value}))
    assert f"spec.{field}" in refusal.causes


def test_the_template_of_a_cron_job_is_checked(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"""
    thing = cron_job()
    thing["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    with refused(422, "Invalid") as refusal:
        ns.create(thing)
    assert "spec.jobTemplate.spec.template.spec.restartPolicy" in refusal.causes
