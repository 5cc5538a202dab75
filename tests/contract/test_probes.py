"""Probes: readiness gates, liveness restarts, startup holds the others."""

from __future__ import annotations

from typing import Any

from tests.contract.cluster import Namespace, Object, after_restarts, condition, container_status, is_true
from tests.contract.objects import container, http_server, pod

HAS_FILE = {"exec": {"command": ["test", "-e", "/tmp/good"]}, "periodSeconds": 1, "timeoutSeconds": 20}


def is_ready(thing: Object) -> bool:
    return is_true(thing, "Ready")


def with_probe(kind: str, main: Object | None = None, **probe: Any) -> Object:
    return pod({**(main or container()), kind: {"periodSeconds": 1, "timeoutSeconds": 20, **probe}})


def running(ns: Namespace) -> Object:
    return ns.wait("Pod", "one", lambda p: "running" in container_status(p).get("state", {}), what="running")


def test_readiness_by_command_gates_and_can_be_lost(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-readiness-probes"""
    ns.create(with_probe("readinessProbe", exec=HAS_FILE["exec"], failureThreshold=1))
    seen = running(ns)
    assert not is_ready(seen)
    assert condition(seen, "Ready")["reason"] == "ContainersNotReady"
    assert ns.execute("one", "touch", "/tmp/good").code == 0
    ns.wait("Pod", "one", is_ready)
    assert ns.execute("one", "rm", "/tmp/good").code == 0
    lost = ns.wait("Pod", "one", lambda p: not is_ready(p))
    assert container_status(lost)["restartCount"] == 0
    assert ns.wait_event("Unhealthy", "Pod", "one")["type"] == "Warning"


def test_readiness_by_http(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#http-probes"""
    ns.create(with_probe("readinessProbe", http_server(), httpGet={"path": "/", "port": "http"}))
    ns.wait("Pod", "one", is_ready)


def test_http_status_of_400_and_above_is_a_failure(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-a-liveness-http-request"""
    ns.create(with_probe("readinessProbe", http_server(), httpGet={"path": "/none", "port": 8080}))
    ns.wait_log("one", "GET /none")
    ns.wait_event("Unhealthy", "Pod", "one")
    assert not is_ready(ns.read("Pod", "one"))


def test_readiness_by_tcp(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-a-tcp-liveness-probe"""
    ns.create(with_probe("readinessProbe", http_server(), tcpSocket={"port": 8080}))
    ns.wait("Pod", "one", is_ready)


def test_closed_port_is_not_ready(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-a-tcp-liveness-probe"""
    ns.create(with_probe("readinessProbe", tcpSocket={"port": 8080}))
    running(ns)
    ns.wait_event("Unhealthy", "Pod", "one")
    assert not is_ready(ns.read("Pod", "one"))


def test_command_over_its_time_is_a_failure(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes"""
    ns.create(with_probe("readinessProbe", exec={"command": ["sleep", "30"]}, timeoutSeconds=1))
    running(ns)
    ns.wait_event("Unhealthy", "Pod", "one")
    assert not is_ready(ns.read("Pod", "one"))


def test_success_threshold_counts(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes"""
    count = "echo x >> /tmp/count; test $(wc -l < /tmp/count) -ge 2"
    probe = {"exec": {"command": ["sh", "-c", count]}, "successThreshold": 2}
    ns.create(with_probe("readinessProbe", **probe))
    ns.wait("Pod", "one", is_ready)
    counted = ns.execute("one", "sh", "-c", "wc -l < /tmp/count")
    assert int(counted.stdout) >= 3


def test_failing_liveness_restarts_the_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-a-liveness-command"""
    alive = {"command": ["test", "!", "-e", "/tmp/bad"]}
    ns.create(with_probe("livenessProbe", exec=alive, failureThreshold=2))
    ns.wait("Pod", "one", is_ready)
    assert ns.execute("one", "touch", "/tmp/bad").code == 0
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p).get("restartCount") == 1 and is_ready(p),
        seconds=after_restarts(1),
    )
    assert "terminated" in container_status(seen)["lastState"]
    assert ns.wait_event("Killing", "Pod", "one")["type"] == "Normal"


def test_startup_holds_the_other_probes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-startup-probes"""
    # Liveness would end the container at its first look, were it not held until the file is there.
    slow = container("sleep 3; touch /tmp/good; sleep 3600 & wait")
    slow["startupProbe"] = {**HAS_FILE, "failureThreshold": 60}
    slow["livenessProbe"] = {**HAS_FILE, "failureThreshold": 1}
    ns.create(pod(slow))
    early = running(ns)
    assert container_status(early)["started"] is False
    assert not is_ready(early)
    seen = ns.wait("Pod", "one", is_ready)
    assert container_status(seen)["started"] is True
    assert container_status(seen)["restartCount"] == 0


def test_failing_startup_restarts_the_container(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#define-startup-probes"""
    ns.create(with_probe("startupProbe", exec={"command": ["false"]}, failureThreshold=1))
    ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p).get("restartCount", 0) >= 1,
        seconds=after_restarts(1),
    )


def test_pod_is_ready_when_all_its_containers_are(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions"""
    gated = {**container(name="gated"), "readinessProbe": HAS_FILE}
    ns.create(pod(container(), gated))
    seen = ns.wait("Pod", "one", lambda p: container_status(p).get("ready"))
    assert not is_ready(seen)
    assert not is_true(seen, "ContainersReady")
    assert ns.execute("one", "touch", "/tmp/good", container="gated").code == 0
    ready = ns.wait("Pod", "one", is_ready)
    assert is_true(ready, "ContainersReady")
