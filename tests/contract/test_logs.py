"""Logs: how much, since when, of which run of the container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.contract.cluster import (
    Namespace,
    Refused,
    after_restarts,
    container_status,
    eventually,
    refused,
    waiting_reason,
)
from tests.contract.objects import container, job, pod

COUNT = "for n in 1 2 3 4 5; do echo line $n; done"


@pytest.fixture(scope="module")
def counted(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A pod `one` that wrote five lines and ended."""
    ns = namespaces()
    ns.create(job(COUNT))
    ns.wait_log("one", "line 5\n")
    yield ns
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


def test_whole_log(counted: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/cluster-administration/logging/#basic-logging-in-kubernetes"""
    answer = counted.cluster.call("GET", counted.path("Pod", "one", "log"), accept="*/*")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "".join(f"line {n}\n" for n in range(1, 6))


def test_last_lines(counted: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    assert counted.log("one", tailLines=2) == "line 4\nline 5\n"
    assert counted.log("one", tailLines=0) == ""
    assert counted.log("one", tailLines=99).count("\n") == 5


def test_limited_bytes(counted: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    assert counted.log("one", limitBytes=8) == "line 1\nl"


def test_timestamps(counted: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    for line in counted.log("one", timestamps=True).splitlines():
        stamp, text = line.split(" ", 1)
        assert datetime.fromisoformat(stamp).tzinfo is not None
        assert text.startswith("line ")


def test_since_seconds(counted: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    assert counted.log("one", sinceSeconds=3600).count("\n") == 5


def test_since_time(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    ns.create(job("echo early; sleep 3; echo late"))
    log = ns.wait_log("one", "late", timestamps=True)
    stamp = datetime.fromisoformat(log.splitlines()[-1].split(" ")[0])
    since = stamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ns.log("one", sinceTime=since) == "late\n"


def test_both_outputs_are_in_the_log(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/cluster-administration/logging/#how-nodes-handle-container-logs"""
    ns.create(job("echo out; echo err >&2; echo end"))
    assert set(ns.wait_log("one", "end").split()) == {"out", "err", "end"}


def test_log_of_the_run_before(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/cluster-administration/logging/#basic-logging-in-kubernetes"""
    script = "test -e /shared/x && { echo second; sleep 3600 & wait; }; touch /shared/x; echo first; exit 1"
    volumes = [{"name": "shared", "emptyDir": {}}]
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    ns.create(pod(container(script, volumeMounts=mounts), volumes=volumes))
    ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p).get("restartCount") == 1 and "running" in container_status(p)["state"],
        seconds=after_restarts(1),
    )
    ns.wait_log("one", "second")
    assert ns.log("one") == "second\n"
    assert ns.log("one", previous=True) == "first\n"


def test_there_may_be_no_run_before(counted: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    with refused(400, "BadRequest"):
        counted.log("one", previous=True)


def test_follow_sends_lines_as_they_come_and_ends_with_the_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    wait = "echo one; while ! test -e /tmp/go; do sleep 0.1; done; echo two"
    ns.create(job(wait))
    ns.wait_log("one", "one")
    lines = ns.follow("one")
    assert next(lines) == "one"
    ns.execute("one", "touch", "/tmp/go")  # ends with the container
    assert list(lines) == ["two"]


def test_follow_can_begin_at_the_end(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    ns.create(job(f"{COUNT}; while ! test -e /tmp/go; do sleep 0.1; done; echo new"))
    ns.wait_log("one", "line 5")
    lines = ns.follow("one", tailLines=1)
    assert next(lines) == "line 5"
    ns.execute("one", "touch", "/tmp/go")  # ends with the container
    assert list(lines) == ["new"]


def test_container_must_be_chosen_among_several(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#read-read-log-of-the-specified-pod"""
    ns.create(
        pod(
            container("echo a", name="a"),
            container("echo b", name="b"),
            restartPolicy="Never",
        )
    )
    assert ns.wait_log("one", "b", container="b") == "b\n"
    assert ns.wait_log("one", "a", container="a") == "a\n"
    with refused(400, "BadRequest") as refusal:
        ns.log("one")
    assert "a container name must be specified" in refusal.message
    with refused(400, "BadRequest") as refusal:
        ns.log("one", container="c")
    assert "container c is not valid for pod one" in refusal.message


def test_log_of_a_container_that_waits_is_a_bad_request(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-pods/"""
    ns.create(pod(container(image="contract-none:1", imagePullPolicy="Never")))
    ns.wait("Pod", "one", lambda p: waiting_reason(p) == "ErrImageNeverPull")
    with refused(400, "BadRequest") as refusal:
        ns.log("one")
    assert 'container "main" in pod "one" is waiting to start' in refusal.message


def test_log_of_a_missing_pod_is_not_found(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(404, "NotFound"):
        ns.log("nowhere")


def test_log_stays_after_the_end_of_the_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/cluster-administration/logging/#basic-logging-in-kubernetes"""
    ns.create(job("echo last words; exit 1"))
    ns.wait("Pod", "one", lambda p: p["status"]["phase"] == "Failed")

    def log() -> str:
        try:
            return ns.log("one")
        except Refused:
            return ""

    eventually(lambda: log() == "last words\n", "the log is gone")
