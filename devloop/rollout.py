"""Judging a rollout: a snapshot in, a verdict out (over 300 lines: these rules are read side by side).

Pure; symptoms.py reads the pods. The rules are kubectl's (`rollout status`), plus S1 on what a pod must run
and S19 on when to give up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devloop.model import (
    ContainerView,
    Phase,
    PodView,
    Progressing,
    Ready,
    Revision,
    Snapshot,
    Stuck,
    Timing,
    Verdict,
)
from devloop.references import digest, same, same_repository
from devloop.symptoms import GRACE, MISSING_IMAGE, exits, find_symptom, probe_failure, refusal

# Reasons of `Stuck` after which watching on is useless: the trip starts over from the tree.
REPLACED = "Replaced"
TEMPLATE_CHANGED = "TemplateChanged"
MISSING = "TargetMissing"
START_OVER = frozenset({REPLACED, TEMPLATE_CHANGED, MISSING})

TELLING = 3  # failures from which a probe is worth a word: every process refuses the first one
SLOW_PHASE = 2.0  # seconds from which a phase of a rollout deserves a reason


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a target is to run: `ref` of repository `image`, under the id verified at load ("" = any).

    `generation` and `uid` are those that the PATCH answered; 0 and "" = any. `patched_at` and `changed`
    tell a stale progress deadline from ours; `context` only makes the command lines in hints complete.
    `loaded_at`: when an image that a node had lost was loaded again (S13), which gives its pods new time.
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

    @classmethod
    def of(cls, image: str, revision: Revision, image_id: str, context: str = "") -> Expectation:
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
        _judge_target(snapshot, expected)
        or _judge_completion(snapshot, expected)
        or _judge_trouble(snapshot, expected, now)
        or Progressing(_note(snapshot, expected), _deadline(snapshot, expected))
    )


def carries(snapshot: Snapshot, image: str, ref: str) -> bool:
    """The pod template says `ref` in every container that is this service's (S1, S4)."""
    mine = own_images(snapshot, image).values()
    return bool(mine) and all(same(text, ref) for text in mine)


def own_images(snapshot: Snapshot, image: str) -> dict[str, str]:
    """What the pod template says in the containers that are this service's: name -> reference."""
    return {name: text for name, text in snapshot.images.items() if _is_mine(snapshot, image, name, text)}


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
    """The pods of the template's revision that run `ref` and are not on their way out (S1)."""
    return tuple(
        pod
        for pod in snapshot.pods
        if not pod.terminating
        and (not snapshot.revision or pod.revision == snapshot.revision)
        and _runs(snapshot, pod, image, ref)
    )


def failed_containers(snapshot: Snapshot, expected: Expectation) -> Iterator[tuple[PodView, ContainerView]]:
    """Containers of new pods that ended with a non-zero code: shown at once, no outcome yet (S19)."""
    for pod in own_pods(snapshot, expected.image, expected.ref):
        for container in pod.containers:
            if container.exit_code:
                yield pod, container


def lost_image(snapshot: Snapshot, expected: Expectation) -> bool:
    """A node does not have (any more) the image that it had: load again (S13)."""
    return any(
        container.waiting in MISSING_IMAGE and same(container.image, expected.ref)
        for pod in own_pods(snapshot, expected.image, expected.ref)
        for container in pod.containers
    )


def phases(snapshot: Snapshot, ref: str, patched_at: float) -> Iterator[tuple[Phase, float, bool]]:
    """(phase, seconds since the PATCH was sent, coarse) as far as the rollout got (S18, S32).

    `complete` is the moment of the first snapshot that is complete by kubectl's rules.
    """
    pods = [pod for pod in own_pods(snapshot, ref, ref) if _settled(snapshot)]
    for phase, field in (("scheduled", "scheduled_at"), ("started", "started_at"), ("serving", "ready_at")):
        times = [(getattr(pod, field), pod.coarse) for pod in pods if getattr(pod, field) is not None]
        if times:
            at, coarse = min(times)
            yield phase, max(0.0, at - patched_at), coarse  # type: ignore[misc]
    if pods and isinstance(judge(snapshot, Expectation(ref, ref), snapshot.at), Ready):
        yield "complete", max(0.0, snapshot.at - patched_at), False


def why_long(snapshots: Sequence[Snapshot], timing: Timing) -> str:
    """One line on what a long rollout waited for, "" if it was not long or nothing explains it."""
    seconds = timing.seconds().get("rollout", 0.0)
    if seconds < SLOW_PHASE:
        return ""
    at: dict[str, float] = {"patched": 0.0, **{str(phase): at for phase, at in timing.phases.items()}}
    names = [name for name in ("patched", "scheduled", "started", "serving", "complete") if name in at]
    steps = [(at[end] - at[begin], end) for begin, end in pairwise(names)]
    if not steps:
        return ""
    longest, phase = max(steps)
    if longest < seconds / 2:
        return ""
    reason = _slow_reason(phase, snapshots)
    return f"rollout {seconds:.1f} s: {reason}"


# --- the target ---------------------------------------------------------------------------------


def _judge_target(snapshot: Snapshot, expected: Expectation) -> Verdict | None:
    target = snapshot.target
    if not snapshot.exists:
        return Stuck(MISSING, f"{target} is not in namespace {target.namespace} (any more)")
    if expected.uid and snapshot.uid != expected.uid:
        return Stuck(REPLACED, f"{target} was deleted and made again; its template has to be written anew")
    if snapshot.generation < expected.generation:
        return Progressing("waiting for the watch to show the PATCH")
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
    for pod in own_pods(snapshot, expected.image, expected.ref):
        symptom = find_symptom(snapshot, pod, expected.loaded_at)
        if symptom:
            found.append(symptom)
    others = (refusal(snapshot), _blocking_pod(snapshot, expected), _on_delete(snapshot, expected))
    found.extend(finding for finding in others if finding)
    due = [stuck for deadline, stuck in found if deadline is None or deadline <= now]
    if due:
        return due[0]
    if _deadline_exceeded(snapshot, expected, now):
        return _late(snapshot, expected)
    waits = [(deadline, stuck) for deadline, stuck in found if deadline is not None]
    if waits:
        deadline, stuck = min(waits, key=lambda wait: wait[0])
        return Progressing(f"{stuck.reason}: {stuck.message}", deadline)
    return None


def _deadline_exceeded(snapshot: Snapshot, expected: Expectation, now: float) -> bool:
    """The stale-deadline trap: a template that returns to an existing ReplicaSet keeps that one's old
    ProgressDeadlineExceeded until pods move, so one from before our PATCH does not count."""
    if snapshot.target.kind == "statefulset":
        return False
    own = expected.patched_at + snapshot.progress_deadline
    if expected.changed and expected.patched_at and now >= own + GRACE:
        return True
    if snapshot.conditions.get("Progressing", ("", "", ""))[1] != "ProgressDeadlineExceeded":
        return False
    stale = expected.changed and snapshot.since.get("Progressing", expected.patched_at) < expected.patched_at
    return not stale


def _late(snapshot: Snapshot, expected: Expectation) -> Stuck:
    """The progress deadline has passed: told by the probe that keeps failing, if one does."""
    _, reason, message = snapshot.conditions.get("Progressing", ("", "", ""))
    pods = own_pods(snapshot, expected.image, expected.ref)
    waiting = next((pod for pod in pods if not pod.ready), None)
    probe = probe_failure(snapshot, waiting) if waiting else ""
    running = [c.name for c in waiting.containers if not c.ready and not c.init] if waiting else []
    return Stuck(
        "ProgressDeadlineExceeded",
        message if reason == "ProgressDeadlineExceeded" and message else _note(snapshot, expected),
        evidence=tuple(
            dict.fromkeys(f"{e.reason}: {e.message}" for e in snapshot.events if e.type == "Warning")
        )[-5:],
        hint=f"the new pod runs, but its probe keeps failing: {probe}"
        if probe
        else "the new pods do not become ready in time: see their log and readinessProbe",
        pod=waiting.name if waiting else "",
        container=running[0] if running else "",
    )


def _deadline(snapshot: Snapshot, expected: Expectation) -> float | None:
    if not (expected.changed and expected.patched_at) or snapshot.target.kind == "statefulset":
        return None
    return expected.patched_at + snapshot.progress_deadline + GRACE


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


# --- pods ---------------------------------------------------------------------------------------


def _is_mine(snapshot: Snapshot, image: str, container: str, text: str) -> bool:
    if snapshot.target.container is not None:
        return container == snapshot.target.container
    return same_repository(text, image)


def _runs(snapshot: Snapshot, pod: PodView, image: str, ref: str) -> bool:
    mine = [c for c in pod.containers if _is_mine(snapshot, image, c.name, c.image)]
    return bool(mine) and all(same(c.image, ref) for c in mine)


def _wrong_id(snapshot: Snapshot, pod: PodView, expected: Expectation) -> Stuck | None:
    """A ready container that bears our tag with another content (S1). A repository digest, as a node
    reports it after a pull, is that of the manifest and cannot be compared."""
    for container in pod.containers:
        if not expected.image_id or not _is_mine(snapshot, expected.image, container.name, container.image):
            continue
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
    if not _settled(snapshot):
        return "waiting for the controller to see the new template"
    pods = own_pods(snapshot, expected.image, expected.ref)
    for pod in pods:
        for container in pod.containers:
            if container.exit_code and not container.running:
                count = exits(container)
                return f"{pod.name}/{container.name} exited with {container.exit_code} ({count} of 3 times)"
    failing = next((said for p in pods if not p.ready and (said := probe_failure(snapshot, p, TELLING))), "")
    if failing:
        return failing
    if snapshot.updated < snapshot.replicas - snapshot.partition:
        return f"{snapshot.updated} of {snapshot.replicas} pods have the new template"
    if snapshot.current > snapshot.updated:
        return f"{snapshot.current - snapshot.updated} old pods are pending termination"
    ready = sum(pod.ready for pod in pods)
    return f"{ready} of {snapshot.replicas} new pods are ready"


def _slow_reason(phase: str, snapshots: Sequence[Snapshot]) -> str:
    if phase == "serving":
        notes = [s.probe_note for s in snapshots if s.probe_note]
        return notes[0] if notes else "the new process took long to become ready"
    if phase == "scheduled":
        return "waiting for a place on a node"
    if phase == "started":
        return "making the container (volumes, init containers, a pull)"
    return "old pods had to end, or the other replicas to start"
