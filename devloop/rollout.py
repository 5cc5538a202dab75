"""Judging a rollout: a snapshot in, a verdict out (over 300 lines: these rules are read side by side).

Pure; symptoms.py reads the pods. The rules are kubectl's (`rollout status`), plus S1 on what a pod must run
and S19 on when to give up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from devloop.model import (
    ContainerView,
    PodView,
    Progressing,
    Ready,
    Revision,
    Snapshot,
    Stuck,
    Verdict,
)
from devloop.references import digest, same, same_repository
from devloop.symptoms import (
    GRACE,
    LAST_EXIT,
    MISSING_IMAGE,
    exits,
    find_symptom,
    probe_failure,
    refusal,
)

# Reasons of `Stuck` after which watching on is useless: the trip starts over from the tree.
REPLACED = "Replaced"
TEMPLATE_CHANGED = "TemplateChanged"
MISSING = "TargetMissing"
DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # Kubernetes' word
START_OVER = frozenset({REPLACED, TEMPLATE_CHANGED, MISSING})

TELLING = 3  # failures from which a probe is worth a word: every process refuses the first one


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a target is to run: `ref` of repository `image`, under the id verified at load ("" = any).

    `generation` and `uid` are those that the PATCH answered; 0 and "" = any. `patched_at` and `changed`
    tell a stale progress deadline from ours; `context` only makes the command lines in hints complete.
    `loaded_at`: when an image that a node had lost was loaded again (S13), which gives its pods new time.
    `restarts`: what `restarts_of` gave when the rollout began, for exits from before are not its own; None:
    nobody looked, and then only a rollout that a PATCH began has its pods from their first start.
    `since`: when the rollout last got any further, 0 = nobody waits for it, so it has no deadline; `timeout`:
    the service's `rollout_timeout`.
    """

    image: str
    ref: str
    image_id: str = ""
    generation: int = 0
    uid: str = ""
    patched_at: float = 0.0
    changed: bool = False
    context: str = ""
    loaded_at: float = 0.0
    restarts: Mapping[tuple[str, str], int] | None = None
    since: float = 0.0
    timeout: float | None = None

    @classmethod
    def of(cls, image: str, revision: Revision, image_id: str, context: str = "") -> Expectation:
        """What the PATCH that gave `revision` is to lead to."""
        return cls(
            image,
            revision.ref,
            image_id,
            revision.generation,
            revision.uid,
            revision.patched_at,
            revision.changed,
            context,
        )


def judge(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict:
    """Where the rollout of `expected` stands (S18, S19). Never raises."""
    return (
        _judge_target(snapshot, expected, now)
        or _judge_completion(snapshot, expected)
        or _judge_trouble(snapshot, expected, now)
        or _wait(snapshot, expected, now)
    )


def carries(snapshot: Snapshot, image: str, ref: str) -> bool:
    """The pod template says `ref` in every container that is this service's (S1, S4)."""
    mine = [text for name, text in snapshot.images.items() if _is_mine(snapshot, image, name, text)]
    return bool(mine) and all(same(text, ref) for text in mine)


def drift(snapshot: Snapshot, image: str, ref: str) -> str | None:
    """A sentence about a template that is neither the tree's nor held (S20, S24), None if all is well."""
    if not snapshot.exists or carries(snapshot, image, ref):
        return None
    if snapshot.hold and snapshot.hold == digest(ref):
        return None
    mine = [text for name, text in snapshot.images.items() if _is_mine(snapshot, image, name, text)]
    writer = f", written by {snapshot.writer}" if snapshot.writer else ""
    carried = ", ".join(sorted(set(mine))) or "no image of ours"
    return f"{snapshot.target} carries {carried}{writer}; the tree is {ref}"


def own_pods(snapshot: Snapshot, image: str, ref: str) -> tuple[PodView, ...]:
    """The pods of the template's revision that run `ref` and are not on their way out, or over (S1)."""
    return tuple(
        pod
        for pod in snapshot.pods
        if not (pod.terminating or pod.over)
        and (not snapshot.revision or pod.revision == snapshot.revision)
        and _runs(snapshot, pod, image, ref)
    )


def serves(snapshot: Snapshot, expected: Expectation) -> bool:
    """Whether the pods that are ready now run exactly what is expected (S1), even amid a rollout: there is
    one, where any is wanted, and none of another image."""
    ready = [pod for pod in snapshot.pods if pod.ready and not (pod.terminating or pod.over)]
    if not ready:
        return snapshot.exists and snapshot.replicas == 0
    return all(
        _runs(snapshot, pod, expected.image, expected.ref) and _wrong_id(snapshot, pod, expected) is None
        for pod in ready
    )


def restarts_of(snapshot: Snapshot) -> Mapping[tuple[str, str], int]:
    """The restart count of every container now, by pod uid and name: where a rollout begins to count."""
    return {(pod.uid, one.name): one.restarts for pod in snapshot.pods for one in pod.containers}


def _watched(snapshot: Snapshot, expected: Expectation) -> tuple[PodView, ...]:
    """`own_pods`, their containers without what they did before the rollout began."""
    return tuple(
        replace(pod, containers=tuple(_since(pod, container, expected) for container in pod.containers))
        for pod in own_pods(snapshot, expected.image, expected.ref)
    )


def _since(pod: PodView, container: ContainerView, expected: Expectation) -> ContainerView:
    """The container, with the instances that ended before the rollout began counted out."""
    if expected.restarts is not None:
        begun = expected.restarts.get((pod.uid, container.name), 0)
    else:
        begun = 0 if expected.changed else container.restarts
    return replace(container, first=max(container.first, begun))


def failed_containers(snapshot: Snapshot, expected: Expectation) -> Iterator[tuple[PodView, ContainerView]]:
    """Containers of new pods that ended with a non-zero code: shown at once, no outcome yet (S19)."""
    for pod in _watched(snapshot, expected):
        for container in pod.containers:
            if container.exit_code and exits(container):
                yield pod, container


def lost_image(snapshot: Snapshot, expected: Expectation) -> bool:
    """A node does not have (any more) the image that it had: load again (S13)."""
    return any(
        container.waiting in MISSING_IMAGE and same(container.image, expected.ref)
        for pod in own_pods(snapshot, expected.image, expected.ref)
        for container in pod.containers
    )


# --- the target ---------------------------------------------------------------------------------


def _judge_target(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict | None:
    target = snapshot.target
    if not snapshot.exists:
        return Stuck(MISSING, f"{target} is not in namespace {target.namespace} (any more)")
    if expected.uid and snapshot.uid != expected.uid:
        return Stuck(REPLACED, f"{target} was deleted and made again; its template has to be written anew")
    if snapshot.deleting:
        return Stuck(
            "Deleting",
            f"{target} is being deleted: its controller makes no pods for it any more",
            hint=f"kubectl get {target} -n {target.namespace} -o jsonpath='{{.metadata.finalizers}}' names"
            " what it waits for",
        )
    if snapshot.generation < expected.generation:
        return _wait(snapshot, expected, now)
    if not carries(snapshot, expected.image, expected.ref):
        said = drift(snapshot, expected.image, expected.ref)
        return Stuck(TEMPLATE_CHANGED, said or f"{target} is held at another image")
    return None


def _settled(snapshot: Snapshot) -> bool:
    """The controller has seen the template as it is now: its numbers speak of it."""
    return snapshot.observed_generation >= snapshot.generation > 0


def _judge_completion(snapshot: Snapshot, expected: Expectation) -> Verdict | None:
    if not _settled(snapshot):
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
    pods = tuple(pod for pod in own_pods(snapshot, expected.image, expected.ref) if pod.ready)
    for pod in pods:
        wrong = _wrong_id(snapshot, pod, expected)
        if wrong:
            return wrong
    return Ready(pods) if counted and len(pods) >= wanted else None


def _judge_trouble(snapshot: Snapshot, expected: Expectation, now: float) -> Verdict | None:
    if snapshot.paused:
        target = snapshot.target
        context = f" --context {expected.context}" if expected.context else ""
        return Stuck(
            "Paused",
            f"{target} is paused: Kubernetes rolls nothing out until it is resumed",
            hint=f"kubectl rollout resume {target} -n {target.namespace}{context}",
        )
    if not _settled(snapshot):
        return None
    found: list[tuple[float | None, Stuck]] = []
    for pod in _watched(snapshot, expected):
        symptom = find_symptom(snapshot, pod, expected.loaded_at)
        if symptom:
            found.append(symptom)
    others = (
        _rewritten(snapshot, expected),
        _turned_away(snapshot, expected),
        refusal(snapshot),
        _blocking_pod(snapshot, expected),
        _on_delete(snapshot, expected),
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
    return Progressing(_note(snapshot, expected), deadline)


def _deadline(snapshot: Snapshot, expected: Expectation) -> float | None:
    """When a rollout that gets no further is given up; None where nobody waits for it."""
    since = expected.since or (expected.patched_at if expected.changed else 0.0)
    if not since:
        return None
    if expected.timeout is not None:
        return since + expected.timeout
    return since + snapshot.progress_deadline + GRACE  # the controller's own word comes first


def _given_up(snapshot: Snapshot, expected: Expectation) -> bool:
    """The controller says so. The stale-deadline trap: a template that returns to an existing ReplicaSet
    keeps that one's old ProgressDeadlineExceeded until pods move, so one from before our PATCH is none."""
    if expected.timeout is not None or snapshot.target.kind == "statefulset":
        return False
    if snapshot.conditions.get("Progressing", ("", "", ""))[1] != DEADLINE_EXCEEDED:
        return False
    stale = expected.changed and snapshot.since.get("Progressing", expected.patched_at) < expected.patched_at
    return not stale


def _late(snapshot: Snapshot, expected: Expectation) -> Stuck:
    """The deadline has passed: told by the probe that keeps failing, if one does."""
    pods = own_pods(snapshot, expected.image, expected.ref)
    waiting = next((pod for pod in pods if not pod.ready), None)
    running = [c.name for c in waiting.containers if not c.ready and not c.init] if waiting else []
    own = expected.timeout is None and snapshot.target.kind == "deployment"
    _, reason, message = snapshot.conditions.get("Progressing", ("", "", ""))
    said = message if own and reason == DEADLINE_EXCEEDED and message else _note(snapshot, expected)
    seconds = snapshot.progress_deadline if expected.timeout is None else expected.timeout
    return Stuck(
        DEADLINE_EXCEEDED if own else "RolloutTimeout",
        said if own else f"no further within {seconds:g} s (rollout_timeout): {said}",
        evidence=tuple(
            dict.fromkeys(f"{e.reason}: {e.message}" for e in snapshot.events if e.type == "Warning")
        )[-5:],
        hint=_late_hint(snapshot, waiting, pods),
        pod=waiting.name if waiting else "",
        container=running[0] if running else "",
    )


def _late_hint(snapshot: Snapshot, waiting: PodView | None, pods: Sequence[PodView]) -> str:
    target = snapshot.target
    if waiting is not None:
        probe = probe_failure(snapshot, waiting)
        if probe:
            return f"the new pod runs, but its probe keeps failing: {probe}"
        return "the new pods do not become ready in time: see their log and readinessProbe"
    ending = blocking_end(snapshot)
    if ending is not None:
        return (
            f"is the node {ending.node} ready? if it is gone: kubectl delete pod {ending.name}"
            f" -n {ending.namespace} --grace-period=0 --force"
        )
    if _settled(snapshot) and not pods:
        return f"no pod of the new template appeared: kubectl describe {target} -n {target.namespace}"
    return (
        f"kubectl describe {target} -n {target.namespace}; where it only needs longer, write a longer"
        " rollout_timeout for the service"
    )


def _turned_away(snapshot: Snapshot, expected: Expectation) -> tuple[float | None, Stuck] | None:
    """One new pod after the other is evicted, or refused by its node: the controller goes on for ever."""
    before = expected.restarts
    if before is None:
        return None
    gone = [pod for pod in _over(snapshot) if not any((pod.uid, c.name) in before for c in pod.containers)]
    if len(gone) < LAST_EXIT:
        return None
    last = gone[-1]
    return None, Stuck(
        last.reason or "Failed",
        f"{len(gone)} new pods ended for good, the last one {_fate(last)}",
        hint=f"kubectl describe node {last.node}; free some of its disk and memory, or lower"
        " resources.requests",
        pod=last.name,
    )


def _over(snapshot: Snapshot) -> list[PodView]:
    """The pods of the template's revision that ended for good."""
    return [pod for pod in snapshot.pods if pod.over and pod.revision == snapshot.revision]


def _fate(pod: PodView) -> str:
    return f"{pod.name}: {pod.reason or pod.phase}{f': {pod.message}' if pod.message else ''}"


def _rewritten(snapshot: Snapshot, expected: Expectation) -> tuple[float | None, Stuck] | None:
    """A pod of this very template that asks for another image than the template does (S1)."""
    for pod in snapshot.pods:
        if pod.terminating or pod.over or not snapshot.revision or pod.revision != snapshot.revision:
            continue
        for container in _ours(snapshot, pod, expected.image):
            if not same(container.image, expected.ref):
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


def _blocking_pod(snapshot: Snapshot, expected: Expectation) -> tuple[float | None, Stuck] | None:
    """A StatefulSet waits for a broken pod of the old template before it makes a new one."""
    if snapshot.target.kind != "statefulset" or own_pods(snapshot, expected.image, expected.ref):
        return None
    for pod in snapshot.pods:
        if pod.terminating or pod.ready or pod.revision == snapshot.revision:
            continue
        symptom = find_symptom(snapshot, pod)
        if symptom:
            since = pod.since if pod.since is not None else snapshot.at
            return max(since, expected.patched_at) + GRACE, Stuck(
                "BrokenPodBlocks",
                f"{pod.name} of the old template is broken ({symptom[1].reason}), and a StatefulSet"
                " replaces no pod before that one is ready",
                hint=f"kubectl delete pod {pod.name} -n {pod.namespace}",
                pod=pod.name,
                container=symptom[1].container,
            )
    return None


def _on_delete(snapshot: Snapshot, expected: Expectation) -> tuple[float | None, Stuck] | None:
    if snapshot.strategy != "OnDelete":
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


# --- pods ---------------------------------------------------------------------------------------


def _is_mine(snapshot: Snapshot, image: str, container: str, text: str) -> bool:
    if snapshot.target.container is not None:
        return container == snapshot.target.container
    return same_repository(text, image)


def _runs(snapshot: Snapshot, pod: PodView, image: str, ref: str) -> bool:
    """Every container of the pod that is ours has the reference in its spec, and an instance of it if any."""
    mine = _ours(snapshot, pod, image)
    return bool(mine) and all(same(c.image, ref) and not c.stale for c in mine)


def _ours(snapshot: Snapshot, pod: PodView, image: str) -> list[ContainerView]:
    """The pod's containers that are ours, by the template too: the pod's own image may be another."""
    names = {name for name, text in snapshot.images.items() if _is_mine(snapshot, image, name, text)}
    return [c for c in pod.containers if c.name in names or _is_mine(snapshot, image, c.name, c.image)]


def _wrong_id(snapshot: Snapshot, pod: PodView, expected: Expectation) -> Stuck | None:
    """A ready container that bears our tag with another content (S1). A repository digest, as a node
    reports it after a pull, is that of the manifest and cannot be compared."""
    for container in _ours(snapshot, pod, expected.image) if expected.image_id else ():
        if container.image_id and "@" not in container.image_id and container.image_id != expected.image_id:
            return Stuck(
                "WrongImage",
                f"{pod.name} runs {container.image_id[:19]} under {container.image}, not the"
                f" {expected.image_id[:19]} that was loaded",
                hint=f"node {pod.node} holds another content under this tag: docker rmi it there, save again",
                pod=pod.name,
                container=container.name,
            )
    return None


# --- words --------------------------------------------------------------------------------------


def _note(snapshot: Snapshot, expected: Expectation) -> str:
    """What kubectl rollout status would say now."""
    if snapshot.generation < expected.generation:
        return "waiting for the watch to show the PATCH"
    if not _settled(snapshot):
        return "waiting for the controller to see the new template"
    pods = _watched(snapshot, expected)
    for pod in pods:
        for container in pod.containers:
            if container.exit_code and exits(container) and not container.running:
                count = exits(container)
                return f"{pod.name}/{container.name} exited with {container.exit_code} ({count} of 3 times)"
    failing = next((said for p in pods if not p.ready and (said := probe_failure(snapshot, p, TELLING))), "")
    return failing or _count_note(snapshot, pods)


def _count_note(snapshot: Snapshot, pods: Sequence[PodView]) -> str:
    """How many pods of which kind are there, and which one the next waits for."""
    ending = blocking_end(snapshot)
    if ending is not None:
        return f"waiting for {ending.name} to end (its grace period is {ending.grace:.0f} s)"
    if len(pods) < snapshot.replicas - snapshot.partition and _over(snapshot):
        return f"a pod ended for good and is made again: {_fate(_over(snapshot)[-1])}"
    if snapshot.updated < snapshot.replicas - snapshot.partition:
        return f"{snapshot.updated} of {snapshot.replicas} pods have the new template"
    if snapshot.current > snapshot.updated:
        return f"{snapshot.current - snapshot.updated} old pods are pending termination"
    ready = sum(pod.ready for pod in pods)
    return f"{ready} of {snapshot.replicas} new pods are ready"
