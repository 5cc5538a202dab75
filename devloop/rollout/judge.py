"""Judging a rollout: a snapshot in, a verdict out. Pure.

expectation.py says which pods it is about, symptoms.py and target_symptoms.py what is wrong with them. The
rules are kubectl's (`rollout status`), plus S1 on what a pod must run and S19 on when to give up.
"""

from __future__ import annotations

from collections.abc import Sequence

from devloop.model import PodView, Progressing, Ready, Snapshot, Stuck, Verdict
from devloop.rollout.expectation import (
    Expectation,
    carries,
    drift,
    failed_containers,
    lost_image,
    own_images,
    own_pods,
    restarts_of,
    serves,
    settled,
    strays,
    watched,
    wrong_content,
)
from devloop.rollout.symptoms import GRACE, exits, find_symptom, probe_failure, refusal
from devloop.rollout.target_symptoms import (
    blocking_end,
    blocking_pod,
    fate,
    never_ready,
    on_delete,
    pods_that_are_over,
    rewritten,
    turned_away,
)

__all__ = [
    "MISSING",
    "REPLACED",
    "START_OVER",
    "TEMPLATE_CHANGED",
    "Expectation",
    "blocking_end",
    "carries",
    "drift",
    "failed_containers",
    "judge",
    "lost_image",
    "own_images",
    "own_pods",
    "restarts_of",
    "serves",
    "strays",
]

# Reasons of `Stuck` after which watching on is useless: the trip starts over from the tree.
REPLACED = "Replaced"
TEMPLATE_CHANGED = "TemplateChanged"
MISSING = "TargetMissing"
DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # Kubernetes' word
START_OVER = frozenset({REPLACED, TEMPLATE_CHANGED, MISSING})

TELLING = 3  # failures from which a probe is worth a word: every process refuses the first one


def judge(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict:
    """Where the rollout of `expected` stands (S18, S19). Never raises."""
    return (
        _judge_target(snapshot, expected, now)
        or _judge_completion(snapshot, expected)
        or _judge_trouble(snapshot, expected, now)
        or _wait(snapshot, expected, now)
    )


# --- the target ---------------------------------------------------------------------------------


def _judge_target(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict | None:
    target = snapshot.target
    if not snapshot.exists:
        return Stuck(MISSING, f"{target} is not in namespace {target.namespace} (any more)")
    if expected.uid and snapshot.uid != expected.uid:
        return Stuck(REPLACED, f"{target} was recreated; patching it again")
    if snapshot.deleting:
        return Stuck(
            "Deleting",
            f"{target} is being deleted: its controller creates no more pods for it",
            hint=f"kubectl get {target} -n {target.namespace} -o jsonpath='{{.metadata.finalizers}}' names"
            " what it waits for",
        )
    if snapshot.generation < expected.generation:
        return _wait(snapshot, expected, now)
    if not carries(snapshot, expected.image, expected.ref):
        difference = drift(snapshot, expected.image, expected.ref)
        return Stuck(TEMPLATE_CHANGED, difference or f"{target} is held at another image")
    return None


def _judge_completion(snapshot: Snapshot, expected: Expectation) -> Verdict | None:
    if not settled(snapshot):
        return None
    if snapshot.replicas == 0:
        return Ready(())
    if snapshot.target.kind == "statefulset":
        wanted = snapshot.replicas - snapshot.partition
        if wanted <= 0:
            return Stuck(
                "Partitioned",
                f"updateStrategy.rollingUpdate.partition is {snapshot.partition}: no pod of"
                f" {snapshot.target} takes the new template",
                hint="set the partition to 0",
            )
        counted = snapshot.available >= snapshot.replicas and snapshot.updated >= wanted
    else:
        wanted = snapshot.replicas
        counted = snapshot.updated >= wanted and snapshot.current <= snapshot.updated <= snapshot.available
    pods = []
    for pod in (pod for pod in own_pods(snapshot, expected.image, expected.ref) if pod.ready):
        wrong = wrong_content(snapshot, pod, expected)
        if wrong is None:
            pods.append(pod)
        elif not any(c.updated for c in pod.containers if c.name == wrong.container):
            return wrong  # else the kubelet has yet to come to the new image
    return Ready(tuple(pods)) if counted and len(pods) >= wanted else None


def _judge_trouble(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict | None:
    if snapshot.paused and not snapshot.in_place:
        target = snapshot.target
        context = f" --context {expected.context}" if expected.context else ""
        return Stuck(
            "Paused",
            f"{target} is paused: Kubernetes rolls nothing out until it is resumed",
            hint=f"kubectl rollout resume {target} -n {target.namespace}{context}",
        )
    if not settled(snapshot):
        return None
    found: list[tuple[float | None, Stuck]] = []
    for pod in watched(snapshot, expected):
        symptom = find_symptom(snapshot, pod, expected.loaded_at)
        if symptom:
            found.append(symptom)
    begun = expected.patched_at if expected.changed else 0.0
    lacking = len(own_pods(snapshot, expected.image, expected.ref)) < snapshot.replicas
    others = (
        rewritten(snapshot, expected),
        turned_away(snapshot, expected),
        refusal(snapshot, begun) if lacking else None,
        blocking_pod(snapshot, expected),
        on_delete(snapshot, expected),
    )
    found.extend(finding for finding in others if finding)
    due = [stuck for deadline, stuck in found if deadline is None or deadline <= now]
    if due:
        return due[0]
    if _given_up(snapshot, expected):
        return _late(snapshot, expected)
    waits = [(deadline, stuck) for deadline, stuck in found if deadline is not None]
    if waits:
        deadline, stuck = min(waits, key=lambda wait: wait[0])
        return Progressing(f"{stuck.reason}: {stuck.message}", deadline)
    return None


def _wait(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict:
    """Nothing is known to be wrong: there is time until the deadline."""
    deadline = _deadline(snapshot, expected)
    if deadline is not None and deadline <= now:
        return _late(snapshot, expected)
    for pod, until in never_ready(snapshot, expected):
        if until > now and (deadline is None or until < deadline):
            note = f"{pod.name} of the old template is not ready, and {snapshot.target} waits for it"
            return Progressing(note, until)
    return Progressing(_note(snapshot, expected), deadline)


def _deadline(snapshot: Snapshot, expected: Expectation) -> float | None:
    """When a rollout that gets no further is given up; None where nobody waits for it."""
    if snapshot.awaited:
        return None
    if not (expected.since or expected.changed):
        return None
    since = expected.since or expected.patched_at
    if expected.timeout is not None:
        return since + expected.timeout
    return since + snapshot.progress_deadline + GRACE  # the controller's own word comes first


def _given_up(snapshot: Snapshot, expected: Expectation) -> bool:
    """The controller says so. The stale-deadline trap: a template that returns to an existing ReplicaSet
    keeps that one's old ProgressDeadlineExceeded until pods move, so one from before our PATCH is none."""
    if expected.timeout is not None or snapshot.target.kind == "statefulset" or snapshot.awaited:
        return False
    if snapshot.conditions.get("Progressing", ("", "", ""))[1] != DEADLINE_EXCEEDED:
        return False
    stale = expected.changed and snapshot.since.get("Progressing", expected.patched_at) < expected.patched_at
    return not stale


def _late(snapshot: Snapshot, expected: Expectation) -> Stuck:
    """The deadline has passed: reported by the probe that keeps failing, if one does."""
    pods = own_pods(snapshot, expected.image, expected.ref)
    waiting = next((pod for pod in pods if not pod.ready), None)
    running = [c.name for c in waiting.containers if not c.ready and not c.init] if waiting else []
    own = expected.timeout is None and snapshot.target.kind == "deployment"
    _, reason, message = snapshot.conditions.get("Progressing", ("", "", ""))
    text = message if own and reason == DEADLINE_EXCEEDED and message else _note(snapshot, expected)
    seconds = snapshot.progress_deadline if expected.timeout is None else expected.timeout
    return Stuck(
        DEADLINE_EXCEEDED if own else "RolloutTimeout",
        text if own else f"no progress within {seconds:g} s (rollout_timeout): {text}",
        evidence=_warnings(snapshot, pods),
        hint=_late_hint(snapshot, waiting, pods),
        pod=waiting.name if waiting else "",
        container=running[0] if running else "",
        cause=probe_failure(snapshot, waiting).partition("\n")[0] if waiting else "",
    )


def _warnings(snapshot: Snapshot, pods: Sequence[PodView]) -> tuple[str, ...]:
    """The last warnings on the workload and its new pods; those on older pods are of another template."""
    warnings = [
        event
        for event in snapshot.events
        if event.type == "Warning"
        and (not event.about.startswith("Pod/") or any(event.concerns(pod) for pod in pods))
    ]
    return tuple(dict.fromkeys(f"{event.reason}: {event.message}" for event in warnings))[-5:]


def _late_hint(snapshot: Snapshot, waiting: PodView | None, pods: Sequence[PodView]) -> str:
    target = snapshot.target
    if waiting is not None:
        if probe_failure(snapshot, waiting):
            return (
                "the new pod runs, but its probe keeps failing: does the container serve that port and path,"
                " as soon as the probe asks?"
            )
        return "the new pods do not become ready in time: see their log and readinessProbe"
    ending = blocking_end(snapshot)
    if ending is not None:
        return (
            f"is the node {ending.node} ready? if it is gone: kubectl delete pod {ending.name}"
            f" -n {ending.namespace} --grace-period=0 --force"
        )
    if settled(snapshot) and not pods:
        return f"no pod of the new template appeared: kubectl describe {target} -n {target.namespace}"
    return (
        f"kubectl describe {target} -n {target.namespace}; if it only needs longer, set a longer"
        " rollout_timeout for the service"
    )


# --- words --------------------------------------------------------------------------------------


def _note(snapshot: Snapshot, expected: Expectation) -> str:
    """What kubectl rollout status would say now."""
    if snapshot.generation < expected.generation:
        return "waiting for the watch to show the PATCH"
    if not settled(snapshot):
        return "waiting for the controller to see the new template"
    pods = watched(snapshot, expected)
    for pod in pods:
        for container in pod.containers:
            if container.exit_code and exits(container) and not container.running:
                count = exits(container)
                return f"{pod.name}/{container.name} exited with {container.exit_code} ({count} of 3 times)"
    left = len(list(strays(snapshot, expected)))
    if left:
        return f"{left} of {snapshot.replicas} pods have yet to get the template's image"
    failing = next(
        (failure for p in pods if not p.ready and (failure := probe_failure(snapshot, p, TELLING))), ""
    )
    return failing or _count_note(snapshot, pods)


def _count_note(snapshot: Snapshot, pods: Sequence[PodView]) -> str:
    """How many pods of which kind are there, and which one the next waits for."""
    ending = blocking_end(snapshot)
    if ending is not None:
        return f"waiting for {ending.name} to end (its grace period is {ending.grace:.0f} s)"
    if len(pods) < snapshot.replicas - snapshot.partition and pods_that_are_over(snapshot):
        return f"a pod failed for good and is being replaced: {fate(pods_that_are_over(snapshot)[-1])}"
    if snapshot.updated < snapshot.replicas - snapshot.partition:
        return f"{snapshot.updated} of {snapshot.replicas} pods have the new template"
    if snapshot.current > snapshot.updated:
        return f"{snapshot.current - snapshot.updated} old pods are pending termination"
    ready = sum(pod.ready for pod in pods)
    return f"{ready} of {snapshot.replicas} new pods are ready"
