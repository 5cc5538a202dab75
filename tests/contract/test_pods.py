"""A pod's life: phases, restarts, init containers, neighbours, the end."""

from __future__ import annotations

import re
import threading

import pytest

from tests.contract.cluster import (
    Namespace,
    Object,
    after_restarts,
    condition,
    container_status,
    eventually,
    is_true,
    name_of,
    terminated,
    waiting_reason,
)
from tests.contract.objects import container, fetch, http_server, job, pod

SHARED = {"name": "shared", "mountPath": "/shared"}
VOLUME = {"name": "shared", "emptyDir": {}}


def phase(ns: Namespace, wanted: str, name: str = "one") -> Object:
    return ns.wait("Pod", name, lambda p: p["status"]["phase"] == wanted, what=wanted)


def restarted(ns: Namespace, count: int, name: str = "main") -> Object:
    return ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p, name).get("restartCount", 0) >= count,
        what=f"{count} restarts",
        seconds=after_restarts(count),
    )


# -- running and ending ----------------------------------------------------------------------


def test_running_pod_shows_where_it_is(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions"""
    ns.create(pod())
    seen = ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    status = seen["status"]
    assert status["phase"] == "Running"
    assert status["podIP"] in [entry["ip"] for entry in status["podIPs"]]
    assert status["hostIP"]
    assert status["startTime"]
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        assert is_true(seen, kind), kind
    nodes = {name_of(n) for n in ns.cluster.call("GET", "/api/v1/nodes").json()["items"]}
    assert seen["spec"]["nodeName"] in nodes


def test_running_container_shows_what_it_runs(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states"""
    ns.create(pod())
    status = container_status(ns.wait("Pod", "one", lambda p: is_true(p, "Ready")))
    assert status["state"]["running"]["startedAt"]
    assert status["ready"] is True
    assert status["started"] is True
    assert status["restartCount"] == 0
    assert status["imageID"]
    assert re.match(r"[a-z-]+://[0-9a-f]{64}$", status["containerID"])


def test_node_shows_its_runtime_and_that_it_is_ready(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/node/node-status/"""
    ns.create(pod())
    seen = ns.wait("Pod", "one", lambda p: p["spec"].get("nodeName"))
    node = ns.read("Node", seen["spec"]["nodeName"])
    info = node["status"]["nodeInfo"]
    assert re.match(r"[a-z-]+://", info["containerRuntimeVersion"])
    assert info["architecture"]
    assert info["operatingSystem"] == "linux"
    assert is_true(node, "Ready")
    assert {"cpu", "memory"} <= set(node["status"]["allocatable"])


def test_pod_that_ends_well_succeeded(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase"""
    ns.create(job("exit 0"))
    seen = phase(ns, "Succeeded")
    assert terminated(seen)["exitCode"] == 0
    assert terminated(seen)["reason"] == "Completed"
    assert terminated(seen)["startedAt"] <= terminated(seen)["finishedAt"]
    assert not is_true(seen, "Ready")
    assert condition(seen, "Ready")["reason"] == "PodCompleted"


def test_pod_that_ends_badly_failed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase"""
    ns.create(job("exit 3"))
    seen = phase(ns, "Failed")
    assert terminated(seen)["exitCode"] == 3
    assert terminated(seen)["reason"] == "Error"
    assert container_status(seen)["restartCount"] == 0


def test_pod_runs_until_its_last_container_ended(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase"""
    wait = "while ! test -e /shared/go; do sleep 0.1; done"
    ns.create(
        pod(
            container("exit 0", name="short"),
            container(wait, name="long", volumeMounts=[SHARED]),
            restartPolicy="Never",
            volumes=[VOLUME],
        )
    )
    ns.wait("Pod", "one", lambda p: terminated(p, "short") and p["status"]["phase"] == "Running")
    ns.execute("one", "touch", "/shared/go", container="long")  # ends with the container
    phase(ns, "Succeeded")


def test_container_over_its_memory_limit_is_oom_killed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/#exceed-a-container-s-memory-limit"""
    greedy = ["python3", "-c", "x = b'x' * (256 << 20)"]
    resources = {"limits": {"memory": "48Mi"}}
    main = container(None, command=greedy, resources=resources)
    ns.create(pod(main, restartPolicy="Never"))
    seen = phase(ns, "Failed")
    assert terminated(seen)["reason"] == "OOMKilled"
    assert terminated(seen)["exitCode"] == 137


def test_limits_are_in_the_status(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/"""
    limits = {"memory": "64Mi"}
    ns.create(pod(container(resources={"limits": limits})))
    ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p).get("resources", {}).get("limits", {}).get("memory") == "64Mi",
    )


# -- restarts ----------------------------------------------------------------------------------


def test_always_restarts_even_after_success(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    ns.create(pod(container("exit 0")))
    seen = restarted(ns, 1)
    assert container_status(seen)["lastState"]["terminated"]["exitCode"] == 0
    assert seen["status"]["phase"] not in ("Succeeded", "Failed")


def test_on_failure_restarts_until_success(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    script = "test -e /shared/tried && exit 0; touch /shared/tried; exit 5"
    main = container(script, volumeMounts=[SHARED])
    ns.create(pod(main, restartPolicy="OnFailure", volumes=[VOLUME]))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: p["status"]["phase"] == "Succeeded",
        seconds=after_restarts(1),
    )
    assert container_status(seen)["restartCount"] == 1
    assert container_status(seen)["lastState"]["terminated"]["exitCode"] == 5


def test_container_that_keeps_failing_backs_off(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    ns.create(pod(container("exit 3")))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: waiting_reason(p) == "CrashLoopBackOff",
        seconds=after_restarts(2),
    )
    assert container_status(seen)["lastState"]["terminated"]["exitCode"] == 3
    assert container_status(seen)["ready"] is False
    assert seen["status"]["phase"] == "Running"
    event = ns.wait_event("BackOff", "Pod", "one")
    assert event["type"] == "Warning"


def test_restart_leaves_the_volumes_and_the_neighbour_alone(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#emptydir"""
    script = "echo here >> /shared/log; cat /shared/log; exit 1"
    ns.create(
        pod(
            container(script, volumeMounts=[SHARED]),
            container(name="side"),
            volumes=[VOLUME],
        )
    )
    seen = restarted(ns, 1)
    assert container_status(seen, "side")["restartCount"] == 0
    assert "side" in {s["name"] for s in seen["status"]["containerStatuses"]}
    ns.wait_log("one", "here\nhere", container="main")


# -- init containers ---------------------------------------------------------------------------


def test_init_containers_run_one_after_the_other_before_the_rest(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/init-containers/"""
    first = container("sleep 1; echo first >> /shared/log", name="first", volumeMounts=[SHARED])
    second = container("echo second >> /shared/log", name="second", volumeMounts=[SHARED])
    main = container("cat /shared/log", volumeMounts=[SHARED])
    ns.create(pod(main, initContainers=[first, second], restartPolicy="Never", volumes=[VOLUME]))
    seen = phase(ns, "Succeeded")
    assert ns.wait_log("one", "second", container="main").split() == ["first", "second"]
    assert terminated(seen, "first", init=True)["reason"] == "Completed"
    assert is_true(seen, "Initialized")


def test_pod_is_pending_while_it_initializes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#understanding-init-containers"""
    wait = "while ! test -e /shared/go; do sleep 0.1; done"
    first = container(wait, name="first", volumeMounts=[SHARED])
    ns.create(pod(container(), initContainers=[first], volumes=[VOLUME]))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: "running" in container_status(p, "first", init=True).get("state", {}),
    )
    assert seen["status"]["phase"] == "Pending"
    assert waiting_reason(seen) == "PodInitializing"
    assert condition(seen, "Initialized")["status"] == "False"
    assert condition(seen, "Initialized")["reason"] == "ContainersNotInitialized"
    ns.execute("one", "touch", "/shared/go", container="first")  # ends with the container
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))


def test_failing_init_container_fails_a_pod_that_never_restarts(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#understanding-init-containers"""
    first = container("exit 4", name="first")
    ns.create(pod(container(), initContainers=[first], restartPolicy="Never"))
    seen = phase(ns, "Failed")
    assert terminated(seen, "first", init=True)["exitCode"] == 4
    assert "running" not in container_status(seen).get("state", {})


def test_failing_init_container_is_tried_again(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#understanding-init-containers"""
    first = container("exit 4", name="first")
    ns.create(pod(container(), initContainers=[first]))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: (
            container_status(p, "first", init=True).get("restartCount", 0) >= 1
            and waiting_reason(p, "first", init=True) == "CrashLoopBackOff"
        ),
        seconds=after_restarts(3),
    )
    assert seen["status"]["phase"] == "Pending"
    assert waiting_reason(seen) == "PodInitializing"


# -- neighbours --------------------------------------------------------------------------------


def test_containers_of_a_pod_share_localhost(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-networking"""
    ns.create(pod(http_server("from-the-neighbour", name="server"), container()))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    command = fetch("http://127.0.0.1:8080/")
    eventually(
        lambda: "from-the-neighbour" in ns.execute("one", *command, container="main").stdout.decode(),
        "the neighbour never answered on localhost",
    )


def test_containers_of_a_pod_share_a_volume(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/access-application-cluster/communicate-containers-same-pod-shared-volume/"""
    wait = "while ! test -e /elsewhere/note; do sleep 0.1; done; cat /elsewhere/note"
    other = {"name": "shared", "mountPath": "/elsewhere"}
    ns.create(
        pod(
            container("echo hello > /shared/note", name="writer", volumeMounts=[SHARED]),
            container(wait, name="reader", volumeMounts=[other]),
            restartPolicy="Never",
            volumes=[VOLUME],
        )
    )
    phase(ns, "Succeeded")
    assert ns.wait_log("one", "hello", container="reader").strip() == "hello"


def test_pods_reach_each_other_by_address(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/services-networking/#the-kubernetes-network-model"""
    ns.create(pod(http_server("from-afar"), name="server"))
    ns.create(pod(name="client"))
    server = ns.wait("Pod", "server", lambda p: is_true(p, "Ready"))
    ns.wait("Pod", "client", lambda p: is_true(p, "Ready"))
    command = fetch(f"http://{server['status']['podIP']}:8080/")
    eventually(
        lambda: "from-afar" in ns.execute("client", *command).stdout.decode(),
        "the other pod never answered",
    )


# -- the end -------------------------------------------------------------------------------------


def test_deleted_pod_is_leaving_for_its_grace_period(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination"""
    stubborn = container('trap "" TERM; while :; do sleep 0.2; done')
    ns.create(pod(stubborn, terminationGracePeriodSeconds=3))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    answer = ns.delete("Pod", "one")
    assert (answer["kind"], answer["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 3)
    assert answer["metadata"]["deletionTimestamp"]
    assert ns.exists("Pod", "one")
    ns.wait_gone("Pod", "one")


def test_grace_period_can_be_shortened(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-forced

    In the object: a kubelet of 1.36 that is ending a container already still waits as long as it began to.
    """
    stubborn = container('trap "" TERM; while :; do sleep 0.2; done')
    ns.create(pod(stubborn, terminationGracePeriodSeconds=250))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    ns.delete("Pod", "one")
    answer = ns.delete("Pod", "one", {"gracePeriodSeconds": 1})
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 1
    ns.delete("Pod", "one", {"gracePeriodSeconds": 0})
    assert not ns.exists("Pod", "one")


def test_pod_without_grace_is_gone_at_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-forced"""
    ns.create(pod(terminationGracePeriodSeconds=250))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    ns.delete("Pod", "one", {"gracePeriodSeconds": 0})
    assert not ns.exists("Pod", "one")


def test_pre_stop_runs_before_the_signal(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/#hook-handler-execution"""
    script = (
        "trap 'test -e /tmp/stopping && echo signalled-after-hook || echo signalled; sleep 1;"
        " exit 0' TERM; echo up; sleep 3600 & wait"
    )
    hook = {"preStop": {"exec": {"command": ["touch", "/tmp/stopping"]}}}
    ns.create(pod(container(script, lifecycle=hook), terminationGracePeriodSeconds=20))
    ns.wait_log("one", "up")
    lines: list[str] = []
    opened = threading.Event()

    def follow() -> None:
        for line in ns.follow("one"):
            lines.append(line)
            opened.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    assert opened.wait(30)
    ns.delete("Pod", "one")
    reader.join(60)
    assert lines == ["up", "signalled-after-hook"]
    ns.wait_gone("Pod", "one")


def test_container_is_asked_to_end_before_it_is_killed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow"""
    script = "trap 'echo asked; sleep 1; exit 0' TERM; echo up; sleep 3600 & wait"
    ns.create(pod(container(script), terminationGracePeriodSeconds=20))
    ns.wait_log("one", "up")
    lines: list[str] = []
    opened = threading.Event()

    def follow() -> None:
        for line in ns.follow("one"):
            lines.append(line)
            opened.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    assert opened.wait(30)
    ns.delete("Pod", "one")
    reader.join(60)
    assert lines == ["up", "asked"]


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [container(resources={"requests": {"cpu": "100000"}})]},
        {"containers": [container(resources={"requests": {"memory": "100000Gi"}})]},
        {"nodeSelector": {"contract.example/none": "yes"}},
    ],
)
def test_pod_that_fits_nowhere_is_unschedulable(ns: Namespace, spec: Object) -> None:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/"""
    thing = pod()
    thing["spec"].update(spec)
    ns.create(thing)
    seen = ns.wait("Pod", "one", lambda p: condition(p, "PodScheduled").get("status") == "False")
    assert condition(seen, "PodScheduled")["reason"] == "Unschedulable"
    assert seen["status"]["phase"] == "Pending"
    assert "nodeName" not in seen["spec"]
    assert ns.wait_event("FailedScheduling", "Pod", "one")["type"] == "Warning"


def test_pod_is_scheduled_by_the_labels_of_its_node(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodeselector"""
    ns.create(pod(nodeSelector={"kubernetes.io/os": "linux"}))
    seen = ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    node = ns.read("Node", seen["spec"]["nodeName"])
    assert node["metadata"]["labels"]["kubernetes.io/hostname"]
