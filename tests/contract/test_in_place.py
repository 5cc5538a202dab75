"""A running pod whose image is changed: its container starts again in the same pod, at once or later."""

from __future__ import annotations

from typing import Any

from tests.contract.cluster import (
    Namespace,
    Object,
    after_restarts,
    container_status,
    is_true,
    uid,
    version_of,
    waiting_reason,
)
from tests.contract.objects import NAMES, SLEEP, container, pod

SHARED = {"name": "shared", "mountPath": "/shared"}
VOLUME = {"name": "shared", "emptyDir": {}}
# Processes that handle SIGTERM from their first line on, which a shell between two commands may miss.
GOOD = """exec python3 -c '
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("up", flush=True)
signal.sigwait([signal.SIGTERM])'"""
SLOW = f"{GOOD[:-1]}; import time; time.sleep(2)'"
DEAF = 'trap "" TERM; while true; do sleep 1; done'
UNLESS_BAD = f"test -e /shared/bad && exit 3; {SLEEP}"


def put_image(ns: Namespace, image: str, at: int = 0, what: str = "containers") -> Object:
    path = f"/spec/{what}/{at}/image"
    return ns.json_patch("Pod", "one", [{"op": "replace", "path": path, "value": image}])


def runs(thing: Object, name: str = "main") -> bool:
    return "running" in container_status(thing, name).get("state", {})


def ready(ns: Namespace) -> Object:
    return ns.wait("Pod", "one", lambda p: is_true(p, "Ready"), what="Ready")


def restarted(ns: Namespace, count: int = 1, seconds: float = 60.0, name: str = "main") -> Object:
    return ns.wait(
        "Pod",
        "one",
        lambda p: container_status(p, name)["restartCount"] == count and runs(p, name),
        what=f"{name}, {count} times restarted",
        seconds=seconds,
    )


def until_restarted(ns: Namespace, patched: Object, seconds: float = 60) -> list[Object]:
    """What the pod looked like from its PATCH until another container of `main` runs."""
    before = container_status(patched)["containerID"]

    def is_new(_: str, thing: Object) -> bool:
        return container_status(thing)["containerID"] != before and runs(thing)

    about: dict[str, Any] = {"resourceVersion": version_of(patched), "timeoutSeconds": int(seconds)}
    with ns.watch("Pod", fieldSelector="metadata.name=one", **about) as watch:
        return [patched, *(thing for _, thing in watch.until(is_new))]


# -- the restart -------------------------------------------------------------------------------


def test_new_image_restarts_its_container_in_the_same_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    ns.create(pod(container(GOOD), container(name="side")))
    ns.wait_log("one", "up", container="main")
    before = ready(ns)
    put_image(ns, NAMES[1])
    after = restarted(ns)
    assert uid(after) == uid(before)
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["status"]["startTime"] == before["status"]["startTime"]
    assert after["spec"]["containers"][0]["image"] == NAMES[1]
    last = container_status(after)["lastState"]["terminated"]
    assert last["containerID"] == container_status(before)["containerID"]
    assert last["exitCode"] == 0  # SIGTERM ended it
    side = container_status(after, "side")
    assert side["containerID"] == container_status(before, "side")["containerID"]
    assert side["restartCount"] == 0
    ready(ns)
    event = ns.wait_event("Killing", "Pod", "one")
    assert "Container main definition changed" in event["message"]


def test_process_that_is_deaf_is_killed_after_the_grace_period(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination"""
    ns.create(pod(container(DEAF), terminationGracePeriodSeconds=2))
    ready(ns)
    put_image(ns, NAMES[1])
    assert container_status(restarted(ns))["lastState"]["terminated"]["exitCode"] == 137


def test_pre_stop_runs_before_the_restart(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/#container-hooks"""
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /shared/log"]}}}
    main = container(
        "test -e /shared/log && cat /shared/log; " + SLEEP, lifecycle=hook, volumeMounts=[SHARED]
    )
    ns.create(pod(main, volumes=[VOLUME], terminationGracePeriodSeconds=10))
    ready(ns)
    put_image(ns, NAMES[1])
    restarted(ns)
    assert ns.wait_log("one", "hook").split() == ["hook"]


def test_status_is_the_old_containers_until_the_new_one_runs(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states"""
    ns.create(pod(container(SLOW), terminationGracePeriodSeconds=20))
    ns.wait_log("one", "up")
    before = ready(ns)
    seen = until_restarted(ns, put_image(ns, NAMES[1]))
    old, new = container_status(before), container_status(seen[-1])
    assert all(thing["spec"]["containers"][0]["image"] == NAMES[1] for thing in seen)
    for thing in seen[:-1]:
        assert container_status(thing) == old
        assert is_true(thing, "Ready")
    assert new["restartCount"] == 1
    assert new["state"]["running"]["startedAt"] >= new["lastState"]["terminated"]["finishedAt"]
    assert new["lastState"]["terminated"]["finishedAt"] > old["state"]["running"]["startedAt"]


def test_generation_is_observed_before_the_new_container_runs(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-generation"""
    ns.create(pod(container(SLOW), terminationGracePeriodSeconds=20))
    ns.wait_log("one", "up")
    before = ready(ns)
    assert before["status"]["observedGeneration"] == before["metadata"]["generation"] == 1
    seen = until_restarted(ns, put_image(ns, NAMES[1]))
    assert seen[0]["metadata"]["generation"] == 2
    assert 2 in [thing["status"]["observedGeneration"] for thing in seen[:-1]]


def test_images_that_come_while_the_old_container_ends_all_run(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    # The kubelet ends what it has begun: it starts the image for which it kills, then looks at the pod again.
    ns.create(pod(container(SLOW), terminationGracePeriodSeconds=5))
    ns.wait_log("one", "up")
    patched = put_image(ns, NAMES[1])
    ns.wait_event("Killing", "Pod", "one")
    put_image(ns, NAMES[2])
    first = until_restarted(ns, patched)[-1]
    assert first["spec"]["containers"][0]["image"] == NAMES[2]
    assert container_status(first)["restartCount"] == 1
    last = restarted(ns, 2)
    ended = container_status(last)["lastState"]["terminated"]["containerID"]
    assert ended == container_status(first)["containerID"]


def test_container_without_probes_is_ready_as_soon_as_it_runs_again(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#types-of-probe"""
    ns.create(pod())
    ready(ns)
    assert all(is_true(thing, "Ready") for thing in until_restarted(ns, put_image(ns, NAMES[1])))


def test_readiness_is_found_out_anew(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#types-of-probe"""
    probe = {"exec": {"command": ["test", "-e", "/tmp/good"]}, "periodSeconds": 1, "timeoutSeconds": 20}
    ns.create(pod(container(readinessProbe=probe)))
    ns.wait("Pod", "one", runs)
    assert ns.execute("one", "touch", "/tmp/good").code == 0
    ready(ns)
    restart = until_restarted(ns, put_image(ns, NAMES[1]))
    assert not is_true(restart[-1], "Ready")
    assert container_status(restart[-1])["ready"] is False
    assert ns.execute("one", "touch", "/tmp/good").code == 0
    assert container_status(ready(ns))["restartCount"] == 1


def test_startup_is_found_out_anew(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#types-of-probe"""
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "timeoutSeconds": 20}
    ns.create(pod(container(startupProbe={**probe, "failureThreshold": 300})))
    ns.wait("Pod", "one", runs)
    assert ns.execute("one", "touch", "/tmp/up").code == 0
    ready(ns)
    restart = until_restarted(ns, put_image(ns, NAMES[1]))
    assert container_status(restart[-1])["started"] is False
    assert not is_true(restart[-1], "Ready")
    assert ns.execute("one", "touch", "/tmp/up").code == 0
    assert container_status(ready(ns))["started"] is True


def test_pod_that_never_restarts_does_so_for_a_new_image(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    ns.create(pod(restartPolicy="Never"))
    ready(ns)
    put_image(ns, NAMES[1])
    assert restarted(ns)["status"]["phase"] == "Running"


def test_init_container_that_is_done_does_not_run_again(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#detailed-behavior"""
    first = container("echo ran >> /shared/log", name="first", volumeMounts=[SHARED])
    ns.create(pod(container(volumeMounts=[SHARED]), initContainers=[first], volumes=[VOLUME]))
    before = ready(ns)
    put_image(ns, NAMES[1], what="initContainers")
    put_image(ns, NAMES[1])
    after = restarted(ns)
    known = container_status(before, "first", init=True)["containerID"]
    assert container_status(after, "first", init=True)["containerID"] == known
    assert ns.execute("one", "cat", "/shared/log").stdout.split() == [b"ran"]


# -- images that do not run --------------------------------------------------------------------


def test_missing_image_ends_the_old_container_and_a_good_one_mends_it(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy"""
    ns.create(pod(container(imagePullPolicy="Never")))
    before = ready(ns)
    put_image(ns, "contract-none:1")
    lost = ns.wait("Pod", "one", lambda p: waiting_reason(p) == "ErrImageNeverPull")
    assert not is_true(lost, "Ready")
    assert container_status(lost)["restartCount"] == 0
    last = container_status(lost)["lastState"]["terminated"]
    assert last["containerID"] == container_status(before)["containerID"]
    put_image(ns, NAMES[1])
    restarted(ns)
    ready(ns)


def test_image_that_crashes_is_kept_waiting_and_the_next_one_is_not(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    # `twin` crashes as `main` does, one back-off behind it: its own, which is over long before main's, is the
    # clock, and leaves main time enough to start on a machine that has much to do.
    names = ("main", "twin", "hand")
    scripts = (UNLESS_BAD, UNLESS_BAD, SLEEP)
    every = [container(s, name=n, volumeMounts=[SHARED]) for s, n in zip(scripts, names, strict=True)]
    ns.create(pod(*every, volumes=[VOLUME]))
    ready(ns)
    assert ns.execute("one", "touch", "/shared/bad", container="hand").code == 0

    def waits(thing: Object, name: str, how_long: str) -> bool:
        waiting = container_status(thing, name)["state"].get("waiting", {})
        return waiting.get("reason") == "CrashLoopBackOff" and f"back-off {how_long} " in waiting["message"]

    put_image(ns, NAMES[1], 0)
    ns.wait("Pod", "one", lambda p: waits(p, "main", "2m40s"), seconds=after_restarts(5))
    put_image(ns, NAMES[1], 1)
    ns.wait(
        "Pod",
        "one",
        lambda p: waits(p, "main", "5m0s") and waits(p, "twin", "2m40s"),
        what="back-offs of 300 and of 160 s",
        seconds=after_restarts(6),
    )
    assert ns.execute("one", "rm", "/shared/bad", container="hand").code == 0
    put_image(ns, NAMES[2], 0)
    after = ns.wait("Pod", "one", runs, what="main on another image")
    assert waits(after, "twin", "2m40s")


def test_images_that_take_turns_are_kept_waiting(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy"""
    # The wait is reckoned per image: a new one starts at once, one that is back within its back-off not.
    ns.create(pod())
    ready(ns)
    firsts = [until_restarted(ns, put_image(ns, name)) for name in NAMES[1:3]]
    assert not {waiting_reason(thing) for seen in firsts for thing in seen} & {"CrashLoopBackOff"}
    for turn in range(6):
        seen = until_restarted(ns, put_image(ns, NAMES[1 + turn % 2]), after_restarts(turn))
        held = [thing for thing in seen if waiting_reason(thing) == "CrashLoopBackOff"]
        if held:
            break
    assert held
    status = container_status(held[-1])
    assert "restarting failed container=main" in status["state"]["waiting"]["message"]
    assert not is_true(held[-1], "Ready")
    assert until_restarted(ns, put_image(ns, NAMES[3]))[-1]["spec"]["containers"][0]["image"] == NAMES[3]
