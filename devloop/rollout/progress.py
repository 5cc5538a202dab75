"""What a rollout does over time: whether it gets any further, what it waits for, how far it came. Pure.

judge.py judges one moment; here is what only several moments show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from devloop.model import Phase, PodView, Revision, Snapshot, Timing
from devloop.rollout.judge import Expectation, blocking_end, own_pods

SLOW_ROLLOUT = 2.0  # seconds from which a rollout deserves a reason
COARSE = 1.0  # seconds that a time of the API may be too early: it writes whole ones
DEAF = 1.0  # seconds before the end of its grace period from which a process counts as deaf to SIGTERM
NODE_SILENT = 15.0  # seconds after the grace period by which a kubelet that lives has killed the pod
SLOW_START = "the new process took long to become ready"
SLOW_STARTS = "the new processes of {} pods had to become ready"  # each may have been quick
DOES_NOT_REACT = "its process does not react to SIGTERM"


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """The furthest that a target's rollout has come, by template, and when: a step back is none forward."""

    at: float
    best: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def seen(self, snapshot: Snapshot, expected: Expectation, now: float) -> RolloutProgress:
        """With what the snapshot shows: one pod more is updated or ready, or one old pod fewer is there."""
        if snapshot.observed_generation < snapshot.generation:
            return self
        pods = own_pods(snapshot, expected.image, expected.ref)
        ready = sum(pod.ready for pod in pods)
        old = sum(pod.revision != snapshot.revision and not pod.over for pod in snapshot.pods)
        now_is = (snapshot.updated, ready, -old)
        known = self.best.get(snapshot.revision)
        furthest = now_is if known is None else tuple(map(max, now_is, known))
        if furthest == known:
            return self
        best = {**self.best, snapshot.revision: (furthest[0], furthest[1], furthest[2])}
        return RolloutProgress(now if self.best else self.at, best)


@dataclass(frozen=True, slots=True)
class Waits:
    """The seconds that a rollout spent on each thing it waited for, and the words for it."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def spent(self, snapshot: Snapshot, expected: Expectation, begun: float, now: float) -> Waits:
        """From `begun` to `now` the target was as the snapshot shows it."""
        key, words = waits_for(snapshot, expected, now)
        seconds = self.seconds.get(key, 0.0) + max(0.0, now - begun)
        return Waits({**self.seconds, key: seconds}, {**self.words, key: words})

    def reason(self, total: float) -> str:
        """What took most of `total` seconds, "" if nothing took half of them."""
        if not self.seconds:
            return ""
        key = max(self.seconds, key=lambda key: self.seconds[key])
        return self.words[key] if self.seconds[key] >= total / 2 else ""


def waits_for(snapshot: Snapshot, expected: Expectation, now: float) -> tuple[str, str]:
    """(key, words) of what the target's rollout waits for: the words may count, the key does not."""
    if snapshot.generation < expected.generation or snapshot.observed_generation < snapshot.generation:
        return _same("the controller had yet to see the new template")
    pods = own_pods(snapshot, expected.image, expected.ref)
    wanted = snapshot.replicas - snapshot.partition
    ending = blocking_end(snapshot)
    if len(pods) < wanted and ending is not None:
        return f"end of {ending.uid}", _ending(ending, now)
    waiting = next((pod for pod in pods if not pod.ready), None)
    if waiting is None:
        if len(pods) < wanted:
            return _same("the controller had yet to make the new pods")
        return _same(snapshot.probe_note or "old pods had to end, or the controller to count the new ones")
    if not waiting.scheduled:
        return _same("waiting for a place on a node")
    main = [container for container in waiting.containers if not container.init]
    if not any(container.running or container.exit_code is not None for container in main):
        what = "the container" if wanted < 2 else f"the containers of {wanted} pods"
        return _same(f"creating {what} (volumes, init containers, a pull)")
    slow = SLOW_START if wanted < 2 else SLOW_STARTS.format(wanted)
    return _same(snapshot.probe_note or slow + _throttled(snapshot))


def _throttled(snapshot: Snapshot) -> str:
    return f", with a CPU limit of {snapshot.cpu_limit}" if snapshot.cpu_limit else ""


def _same(words: str) -> tuple[str, str]:
    return words, words


def _ending(pod: PodView, now: float) -> str:
    """A pod that has to end before the next is made: how long it took, and whose fault that is."""
    took = max(0.0, now - pod.ending_since) if pod.ending_since is not None else 0.0
    if took > pod.grace + NODE_SILENT:
        return (
            f"{pod.name} did not end for {took:.0f} s, {pod.grace:.0f} s were its grace period: is its node"
            f" {pod.node} ready?"
        )
    if not pod.grace or took < pod.grace - DEAF:
        return f"{pod.name} took {took:.1f} s to end (its grace period is {pod.grace:.0f} s)"
    blame = "its preStop hook or its process takes longer" if pod.pre_stop else DOES_NOT_REACT
    return f"{pod.name} took its whole grace period of {pod.grace:.0f} s to end: {blame}"


def why_long(timing: Timing) -> str:
    """One line on what a long rollout waited for, "" if it was not long or nothing explains it."""
    seconds = timing.seconds().get("rollout", 0.0)
    if seconds < SLOW_ROLLOUT or not timing.reason:
        return ""
    return f"rollout {seconds:.1f} s: {timing.reason}"


def phases(image: str, targets: Sequence[tuple[Snapshot, Revision]]) -> Iterator[tuple[Phase, float, bool]]:
    """(phase, seconds since the PATCH was sent, coarse) as far as the first new pod of all targets got
    (S18, S32). A target that was not PATCHed has none: its pods are not of this trip. Those of an update in
    place, whose pods were there before, are noted where it happens."""
    found = [
        (pod, revision.patched_at)
        for snapshot, revision in targets
        if revision.changed
        and revision.how == "roll"
        and snapshot.observed_generation >= snapshot.generation >= revision.generation
        for pod in own_pods(snapshot, image, revision.ref)
        if _made_since(pod, revision.patched_at)
    ]
    for phase, name in (("scheduled", "scheduled_at"), ("started", "started_at"), ("serving", "ready_at")):
        times = [(getattr(pod, name) - at, pod.coarse) for pod, at in found if getattr(pod, name) is not None]
        if times:
            seconds, coarse = min(times)
            yield phase, max(0.0, seconds), coarse  # type: ignore[misc]


def _made_since(pod: PodView, patched_at: float) -> bool:
    """Not one that was there already, of a template that came back."""
    return pod.scheduled_at is None or pod.scheduled_at >= patched_at - COARSE * pod.coarse


def first_patch(revisions: Sequence[Revision]) -> float | None:
    """When the first PATCH of the trip was sent; None where nothing was PATCHed."""
    return min((revision.patched_at for revision in revisions if revision.changed), default=None)
