"""Containers that cannot start, and the words in which a pod says so."""

from __future__ import annotations

from tests.contract.cluster import (
    Namespace,
    after_restarts,
    container_status,
    is_true,
    terminated,
    waiting_reason,
)
from tests.contract.objects import container, pod

UNREACHABLE = "127.0.0.1:1/contract/none:1"


def test_image_that_must_not_be_pulled_and_is_not_there(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy"""
    ns.create(pod(container(image="contract-none:1", imagePullPolicy="Never")))
    seen = ns.wait("Pod", "one", lambda p: waiting_reason(p) == "ErrImageNeverPull")
    assert seen["status"]["phase"] == "Pending"
    assert "contract-none:1" in container_status(seen)["state"]["waiting"]["message"]
    assert ns.wait_event("ErrImageNeverPull", "Pod", "one")["type"] == "Warning"


def test_image_that_cannot_be_pulled(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff"""
    ns.create(pod(container(image=UNREACHABLE)))
    with ns.watch("Pod", fieldSelector="metadata.name=one", timeoutSeconds=120) as watch:
        seen = watch.until(lambda _, p: waiting_reason(p) == "ImagePullBackOff")
    reasons = [waiting_reason(p) for _, p in seen]
    assert "ErrImagePull" in reasons
    assert seen[-1][1]["status"]["phase"] == "Pending"
    assert ns.wait_event("Failed", "Pod", "one")["type"] == "Warning"


def test_image_name_that_is_none(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#image-names"""
    ns.create(pod(container(image="NOT_LOWER_CASE")))
    seen = ns.wait("Pod", "one", lambda p: waiting_reason(p) == "InvalidImageName")
    assert seen["status"]["phase"] == "Pending"


def test_command_that_is_not_in_the_image(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states"""
    ns.create(pod(container(None, command=["/no/such/command"]), restartPolicy="Never"))
    seen = ns.wait("Pod", "one", lambda p: p["status"]["phase"] == "Failed")
    # The runtime names it: containerd StartError (128), Docker ContainerCannotRun (127).
    assert terminated(seen)["reason"] in ("StartError", "ContainerCannotRun")
    assert terminated(seen)["exitCode"] != 0
    assert terminated(seen)["message"]


def test_command_that_is_not_in_the_image_is_tried_again(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    ns.create(pod(container(None, command=["/no/such/command"])))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: waiting_reason(p) in ("RunContainerError", "CrashLoopBackOff"),
        seconds=after_restarts(2),
    )
    assert not is_true(seen, "Ready")
    assert ns.wait_event("Failed", "Pod", "one")["type"] == "Warning"


def test_failing_container_leaves_its_neighbour_running_but_the_pod_unready(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate"""
    missing = container(name="missing", image="contract-none:1", imagePullPolicy="Never")
    ns.create(pod(container(), missing))
    seen = ns.wait(
        "Pod",
        "one",
        lambda p: (
            waiting_reason(p, "missing") == "ErrImageNeverPull"
            and "running" in container_status(p).get("state", {})
        ),
    )
    assert not is_true(seen, "Ready")
    assert not is_true(seen, "ContainersReady")


def test_init_container_with_a_missing_image_holds_the_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-init-containers/"""
    missing = container(name="first", image="contract-none:1", imagePullPolicy="Never")
    ns.create(pod(container(), initContainers=[missing]))
    seen = ns.wait("Pod", "one", lambda p: waiting_reason(p, "first", init=True) == "ErrImageNeverPull")
    assert waiting_reason(seen) == "PodInitializing"
