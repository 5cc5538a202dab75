"""What is wrong with a workload as a whole, rather than with one of its pods. Pure; judge.py asks.

Findings are those of symptoms.py: `(deadline, Stuck)`, None = it will not mend by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from devloop.image_refs import digest
from devloop.model import PodView, Snapshot, Stuck
from devloop.rollout.expectation import Expectation, holds, is_stray, our_containers
from devloop.rollout.symptoms import GRACE, LAST_EXIT, Finding, find_symptom

ON_DELETE = "OnDelete"


def rewritten(snapshot: Snapshot, expected: Expectation) -> Finding | None:
    """A pod of this very template that asks for another image than the template does (S1)."""
    for pod in snapshot.pods:
        if pod.terminating or pod.over or not snapshot.revision or pod.revision != snapshot.revision:
            continue
        for container in our_containers(snapshot, pod, expected.image):
            if not (holds(container, expected.ref) or is_stray(snapshot, container, expected)):
                return None, Stuck(
                    "ImageRewritten",
                    f"{pod.name}/{container.name} asks for {container.image}, the template of"
                    f" {snapshot.target} for {expected.ref}: a mutating admission webhook, or somebody,"
                    " changed the pod",
                    hint="kubectl get mutatingwebhookconfigurations lists them: leave the namespace"
                    f" {pod.namespace}, or images with a dl- tag, out of the one that rewrites images",
                    pod=pod.name,
                )
    return None


def turned_away(snapshot: Snapshot, expected: Expectation) -> Finding | None:
    """One new pod after the other is evicted, or refused by its node: the controller goes on for ever."""
    before = expected.restarts
    if before is None:
        return None
    gone = [
        pod
        for pod in pods_that_are_over(snapshot)
        if not any((pod.uid, c.name) in before for c in pod.containers)
    ]
    if len(gone) < LAST_EXIT:
        return None
    last = gone[-1]
    return None, Stuck(
        last.reason or "Failed",
        f"{len(gone)} new pods ended for good, the last one {fate(last)}",
        hint=f"kubectl describe node {last.node}; free some of its disk and memory, or lower"
        " resources.requests",
        pod=last.name,
    )


def blocking_pod(snapshot: Snapshot, expected: Expectation) -> Finding | None:
    """A StatefulSet waits for a broken pod of an old template before it replaces any."""
    for pod, symptom in _broken_old_pods(snapshot):
        since = pod.since if pod.since is not None else snapshot.at
        return max(since, expected.patched_at, expected.replaced_at) + GRACE, Stuck(
            "BrokenPodBlocks",
            f"{pod.name} of the old template is broken ({symptom.reason}), and a StatefulSet"
            " replaces no pod before that one is ready",
            hint=f"kubectl delete pod {pod.name} -n {pod.namespace}",
            pod=pod.name,
            container=symptom.container,
        )
    return None


def pods_to_replace(snapshot: Snapshot, expected: Expectation, now: float) -> tuple[PodView, ...]:
    """The pods that block a StatefulSet because an earlier image of this service breaks them: Kubernetes
    leaves it to whoever wrote that image to delete them
    (https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback).

    Not those that would come back as they are (below the partition), nor where it is the user who deletes
    them (OnDelete)."""
    if snapshot.strategy == ON_DELETE:
        return ()
    broken = [
        pod
        for pod, symptom in _broken_old_pods(snapshot, now)
        for container in our_containers(snapshot, pod, expected.image)
        if container.name == symptom.container and digest(container.image)
    ]
    broken += [pod for pod, deadline in never_ready(snapshot, expected) if deadline <= now]
    return tuple(pod for pod in broken if ordinal(pod) >= snapshot.partition)


def never_ready(snapshot: Snapshot, expected: Expectation) -> list[tuple[PodView, float]]:
    """Old pods that a StatefulSet waits for though an earlier image of this service runs in them without
    ever having been ready, and until when they may still become so."""
    if snapshot.target.kind != "statefulset" or snapshot.strategy == ON_DELETE:
        return []
    return [
        (pod, max(expected.patched_at, pod.started_at) + GRACE)
        for pod in snapshot.pods
        if pod.revision != snapshot.revision
        and pod.started_at is not None
        and pod.ready_at is None
        and not (pod.ready or pod.terminating or pod.over)
        and any(
            not container.ready and container.running and digest(container.image)
            for container in our_containers(snapshot, pod, expected.image)
        )
    ]


def ordinal(pod: PodView) -> int:
    """The number at the end of the name of a StatefulSet's pod, -1 for any other pod."""
    number = pod.name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() else -1


def _broken_old_pods(snapshot: Snapshot, now: float = inf) -> Iterator[tuple[PodView, Stuck]]:
    if snapshot.target.kind != "statefulset":
        return
    for pod in snapshot.pods:
        if pod.terminating or pod.ready or pod.revision == snapshot.revision:
            continue
        symptom = find_symptom(snapshot, pod)
        if symptom and (symptom[0] is None or symptom[0] <= now):
            yield pod, symptom[1]


def on_delete(snapshot: Snapshot, expected: Expectation) -> Finding | None:
    if snapshot.strategy != ON_DELETE:
        return None
    old = [p.name for p in snapshot.pods if not p.terminating and p.revision != snapshot.revision]
    if not old:
        return None
    return None, Stuck(
        "OnDelete",
        f"{snapshot.target} has updateStrategy OnDelete: its pods keep the old image until deleted",
        hint=f"kubectl delete pod {' '.join(old)} -n {snapshot.target.namespace}",
    )


def blocking_end(snapshot: Snapshot) -> PodView | None:
    """The pod whose end the controller awaits before it makes the next one."""
    if snapshot.target.kind != "statefulset" and snapshot.strategy != "Recreate":
        return None
    return next((pod for pod in snapshot.pods if pod.terminating), None)


def pods_that_are_over(snapshot: Snapshot) -> list[PodView]:
    """The pods of the template's revision that ended for good."""
    return [pod for pod in snapshot.pods if pod.over and pod.revision == snapshot.revision]


def fate(pod: PodView) -> str:
    return f"{pod.name}: {pod.reason or pod.phase}{f': {pod.message}' if pod.message else ''}"
