"""The rollout stage: watch the targets until every one is ready, or one is stuck.

judge.py decides; this module waits, reports what it sees meanwhile (phases, first exits), and
brings back an image that a node lost (S13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import anyio

from devloop.activity import Activity, bounded
from devloop.errors import LoadError, OvertakenError, RolloutError, StageError
from devloop.events import Notice, RolloutPhase
from devloop.model import (
    Image,
    LoadedImage,
    Phase,
    PodView,
    Progressing,
    Ready,
    Revision,
    Service,
    Snapshot,
    Stuck,
    Verdict,
)
from devloop.ports import Feed, World
from devloop.rollout.judge import (
    MISSING,
    REPLACED,
    TEMPLATE_CHANGED,
    Expectation,
    failed_containers,
    judge,
    lost_image,
    restarts_of,
    strays,
)
from devloop.rollout.progress import RolloutProgress, Waits, first_patch, phases
from devloop.rollout.symptoms import exited, read_log
from devloop.rollout.target_symptoms import pods_to_replace
from devloop.stopwatch import Stopwatch

RELOADS = 3  # times an image is brought back to a node within one rollout
TELL_AFTER = 10.0  # seconds from which a rollout reports what it waits for
MOST_STRAYS = 3  # for each pod that is wanted: how many with another image are deleted within one rollout
RELOAD_PAUSE = 15.0  # seconds between two of them: the kubelet looks again only after 10 to 15 s


async def follow(
    service: Service,
    feeds: Sequence[Feed],
    revisions: Sequence[Revision],
    loaded: LoadedImage,
    world: World,
    watch: Stopwatch,
) -> tuple[PodView, ...]:
    """The pods that run the image once every target is ready.

    Raises RolloutError with Kubernetes' own reason when a target is stuck (S19).
    """
    following = _Follower(service, feeds, revisions, loaded, world, watch)
    try:
        while True:
            following.look()
            following.tell_phases()
            await following.tell_exits()
            await following.bring_back_lost_image()
            await following.replace_broken_pods()
            await following.replace_strays()
            verdicts = await following.judged()
            waiting = [verdict for verdict in verdicts if isinstance(verdict, Progressing)]
            if not waiting:
                following.complete()
                return tuple(
                    pod for verdict in verdicts if isinstance(verdict, Ready) for pod in verdict.pods
                )
            await any_newer(feeds, following.seen, following.tell_wait(waiting))
            following.account()
    except anyio.get_cancelled_exc_class():
        following.account()
        raise


class _Follower:
    """What `follow` keeps from one look at its targets to the next."""

    def __init__(
        self,
        service: Service,
        feeds: Sequence[Feed],
        revisions: Sequence[Revision],
        loaded: LoadedImage,
        world: World,
        watch: Stopwatch,
    ) -> None:
        self._service, self._feeds, self._revisions = service, feeds, revisions
        self._loaded, self._world, self._watch = loaded, world, watch
        self._begun = self._now = world.clock.now()
        self.seen: list[Snapshot] = [feed.latest for feed in feeds]
        self._expected = [
            replace(
                Expectation.of(service.image, revision, loaded.image.id, world.cluster.context),
                restarts=restarts_of(snapshot),
                since=revision.patched_at if revision.changed else self._begun,
                timeout=service.rollout_timeout,
            )
            for revision, snapshot in zip(revisions, self.seen, strict=True)
        ]
        self._progress = [RolloutProgress(expected.since) for expected in self._expected]
        self._waits = Waits()
        self._unready: list[int] = []  # targets, by their place, that were not ready at the last look
        self._exits: set[tuple[str, str, int]] = set()
        self._notes: set[str] = set()
        self._reloads: list[float] = []
        self._replaced: set[tuple[str, str]] = set()  # name and revision of pods
        self._dropped: set[str] = set()  # uids of strays that were deleted

    def look(self) -> None:
        """Take what the feeds show now."""
        self._now = self._world.clock.now()
        self.seen = [feed.latest for feed in self._feeds]
        self._progress = [
            progress.seen(snapshot, expected, self._now)
            for progress, snapshot, expected in zip(self._progress, self.seen, self._expected, strict=True)
        ]
        self._expected = [
            replace(expected, since=progress.at)
            for expected, progress in zip(self._expected, self._progress, strict=True)
        ]

    async def judged(self) -> list[Verdict]:
        """Where each target stands. Raises what a stuck one asks for."""
        now = self._world.clock.now()
        verdicts = [judge(s, e, now) for s, e in zip(self.seen, self._expected, strict=True)]
        self._unready = [place for place, v in enumerate(verdicts) if not isinstance(v, Ready)]
        for snapshot, verdict in zip(self.seen, verdicts, strict=True):
            if isinstance(verdict, Stuck):
                raise await _stuck(snapshot, verdict, self._world)
        return verdicts

    def account(self) -> None:
        """Note what the time since the last look was spent on."""
        now = self._world.clock.now()
        for place in self._unready:
            self._waits = self._waits.spent(self.seen[place], self._expected[place], self._now, now)
        self._watch.reason = self._waits.reason(now - self._begun)

    def complete(self) -> None:
        """All targets are ready: the phase and the stage end with the same moment."""
        first = first_patch(self._revisions)
        if first is not None:
            self._tell_phase("complete", self._world.clock.now() - first, coarse=False)

    def tell_phases(self) -> None:
        targets = list(zip(self.seen, self._revisions, strict=True))
        for phase, seconds, coarse in phases(self._service.image, targets):
            self._tell_phase(phase, seconds, coarse=coarse)

    def _tell_phase(self, phase: Phase, seconds: float, *, coarse: bool) -> None:
        if self._watch.phase(phase, seconds, coarse=coarse):
            self._world.emit(RolloutPhase(self._service.name, phase, *self._watch.noted(phase)))

    def tell_wait(self, waiting: Sequence[Progressing]) -> float | None:
        """Say what a long rollout waits for, each thing once; how long to wait at most for something new."""
        now = self._world.clock.now()
        ends = [verdict.deadline - now for verdict in waiting if verdict.deadline is not None]
        patience = self._begun + TELL_AFTER - now
        if patience > 0:
            return min([*ends, patience])
        for verdict in waiting:
            key = "".join(char for char in verdict.note if not char.isdigit())
            if key not in self._notes:
                self._notes.add(key)
                self._world.emit(Notice(self._service.name, "info", f"still rolling out: {verdict.note}"))
        return min(ends) if ends else None

    async def tell_exits(self) -> None:
        """Show a first non-zero exit at once with its log, though it is no outcome yet (S19)."""
        for snapshot, expectation in zip(self.seen, self._expected, strict=True):
            for pod, container in failed_containers(snapshot, expectation):
                key = (pod.uid, container.name, container.restarts)
                if key in self._exits:
                    continue
                self._exits.add(key)
                log = await self._world.cluster.last_words(snapshot.target, pod.name, container.name)
                self._world.emit(exited(self._service.name, pod, container, log))

    async def bring_back_lost_image(self) -> None:
        """Load the image again where a node lost it, which gives its pods new time (S13)."""
        if not any(lost_image(s, e) for s, e in zip(self.seen, self._expected, strict=True)):
            return
        now = self._world.clock.now()
        recent = self._reloads and now - self._reloads[-1] <= RELOAD_PAUSE
        if recent or len(self._reloads) >= RELOADS:
            return
        text = f"{self._loaded.image.ref} is gone from a node; loading it again"
        self._world.emit(Notice(self._service.name, "warning", text))
        load = partial(self._world.loader.load, self._loaded.image)
        idle = self._service.build.idle_timeout
        await bounded(load, idle, partial(load_idle, self._loaded.image))
        now = self._world.clock.now()
        self._reloads.append(now)
        self._expected = [replace(expected, loaded_at=now) for expected in self._expected]

    async def replace_broken_pods(self) -> None:
        """Delete what an earlier image of this service broke, and a StatefulSet would wait for for ever."""
        now = self._world.clock.now()
        for place, (snapshot, expected) in enumerate(zip(self.seen, self._expected, strict=True)):
            for pod in pods_to_replace(snapshot, expected, now):
                if (pod.name, pod.revision) in self._replaced:
                    continue
                self._replaced.add((pod.name, pod.revision))
                text = (
                    f"{pod.name} does not get ready with an earlier image, and {snapshot.target} waits for"
                    " it: deleting it"
                )
                self._world.emit(Notice(self._service.name, "info", text))
                await self._world.cluster.delete_pod(snapshot.target, pod.name, pod.uid)
                self._expected[place] = replace(expected, replaced_at=self._world.clock.now())

    async def replace_strays(self) -> None:
        """Delete pods that an update in place left with another image of this service. After a sync, a
        container that was restarted runs the older image of its pod: it is given the new one (S37).

        Of those that serve, one after the other."""
        for snapshot, expected in zip(self.seen, self._expected, strict=True):
            ready = sum(pod.ready and not pod.terminating and not pod.over for pod in snapshot.pods)
            for pod, container in strays(snapshot, expected):
                target = snapshot.target
                if pod.uid in self._dropped or len(self._dropped) >= MOST_STRAYS * max(1, snapshot.replicas):
                    continue  # somebody gives it to each new pod: the rollout ends at its deadline
                if pod.ready and ready < snapshot.replicas:
                    continue  # when the others are ready
                ready -= pod.ready
                self._dropped.add(pod.uid)
                async with self._world.cluster.in_place(target, self._service, expected.ref) as update:
                    done = "deleting it"
                    if self._service.update == "sync":
                        done = await update.mend(pod.name, pod.uid, container.name)
                    elif not await update.drop(pod.name, pod.uid, container.name):
                        done = ""
                    if done:
                        text = f"{pod.name} has an image that {target} does not name: {done}"
                        self._world.emit(Notice(self._service.name, "info", text))


def load_idle(image: Image, activity: Activity) -> LoadError:
    return LoadError(
        f"load of {image.ref}: stopped, no progress for {activity.idle:.0f} s",
        reason="LoadIdle",
        evidence=activity.lines,
        hint="does the node's engine answer, and is its disk full (df -h)? devloop doctor checks that;"
        f" services.{image.service}.build.idle_timeout is how long it may take",
    )


async def any_newer(feeds: Sequence[Feed], seen: Sequence[Snapshot], seconds: float | None = None) -> None:
    """Wait until one feed shows something newer than `seen`, or `seconds` have passed."""

    async def wait(feed: Feed, snapshot: Snapshot) -> None:
        await feed.next(snapshot)
        group.cancel_scope.cancel()

    with anyio.move_on_after(None if seconds is None else max(0.0, seconds)):
        async with anyio.create_task_group() as group:
            for feed, snapshot in zip(feeds, seen, strict=True):
                group.start_soon(wait, feed, snapshot)


async def _stuck(snapshot: Snapshot, verdict: Stuck, world: World) -> StageError:
    """The verdict as an error, with the log of the container that died and the events that matter."""
    log: tuple[str, ...] = ()
    if verdict.pod and verdict.container:
        log = await world.cluster.last_words(snapshot.target, verdict.pod, verdict.container)
        verdict = read_log(verdict, log)
    kinds: dict[str, type[StageError]] = {
        REPLACED: OvertakenError,
        TEMPLATE_CHANGED: OvertakenError,
        MISSING: OvertakenError,  # where the manifests or a release hold it, the next trip brings it back
    }
    return kinds.get(verdict.reason, RolloutError)(
        verdict.message,
        reason=verdict.reason,
        evidence=verdict.evidence,
        hint=verdict.hint,
        cause=verdict.cause,
    )
