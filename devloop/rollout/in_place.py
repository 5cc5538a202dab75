"""An update in place: a Deployment's pods get the new image while they run, one after the other (S33).

Only when all of them are available with it, the Deployment and its ReplicaSet come to name it too. What this
cannot do is rolled, and reported with its reason; a new container that ends gives way to the image before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from devloop.concurrency import gather
from devloop.errors import InPlaceError, OvertakenError, RolloutError, TargetMissingError
from devloop.events import Notice, RolloutPhase, UpdateFallback
from devloop.image_refs import same
from devloop.model import (
    ContainerView,
    InPlacePlan,
    LoadedImage,
    Phase,
    PodToUpdate,
    PodView,
    Refusal,
    Revision,
    Service,
    Snapshot,
    Stuck,
    Target,
    UpdateMode,
)
from devloop.ports import Feed, InPlaceUpdate, World
from devloop.rollout.judge import MISSING
from devloop.rollout.symptoms import (
    GRACE,
    MISSING_IMAGE,
    exited,
    exits,
    first_trouble,
    probe_failure,
    read_log,
)
from devloop.stopwatch import Stopwatch

REPORT_AFTER = 10.0  # seconds from which an update reports what it waits for


async def update_in_place(
    service: Service, feed: Feed, loaded: LoadedImage, world: World, watch: Stopwatch
) -> Revision | None:
    """The target's revision once every pod runs the image; None where it has to be rolled instead.

    Raises RolloutError where a new container ends, or does not get ready: its pods run the image before.
    """
    target = feed.latest.target
    async with world.cluster.in_place(target, service, loaded.image.ref) as update:
        plan = await update.look()
        if isinstance(plan, InPlacePlan):
            try:
                pods = _Pods(service, feed, plan, loaded.image.id, update, world, watch)
                await pods.take_the_image()
                return await update.finish()
            except InPlaceError as error:
                plan = Refusal(error.reason, error.message)
            except TargetMissingError as error:  # the next trip brings it back, where the manifests have it
                raise OvertakenError(f"{target} was deleted meanwhile", reason=MISSING) from error
    report_refusal(service, target, plan, world, "in-place")
    return None


def report_refusal(
    service: Service, target: Target | None, refusal: Refusal, world: World, wanted: UpdateMode
) -> None:
    """Count it, and report each reason once."""
    if refusal.reason:
        key = (service.name, target, wanted, refusal.reason)
        first = key not in world.reported
        world.reported.add(key)
        world.emit(UpdateFallback(service.name, refusal.reason, refusal.message, first, wanted))


class _Time:
    """The time that a pod has to get ready, which begins when the process before has ended; that one has its
    grace period."""

    def __init__(self, begun: float, patience: float) -> None:
        self._begun, self._patience = begun, patience
        self._end, self._gave_way = begun + patience, False

    def until(self, now: float, grace: float, *, gives_way: bool) -> float:
        if gives_way:
            self._end = min(now, self._begun + grace) + self._patience
        elif self._gave_way:
            self._end = now + self._patience
        self._gave_way = gives_way
        return self._end


class _Pods:
    """The pods of one plan, on their way to the new image."""

    def __init__(
        self,
        service: Service,
        feed: Feed,
        plan: InPlacePlan,
        image_id: str,
        update: InPlaceUpdate,
        world: World,
        watch: Stopwatch,
    ) -> None:
        self._image_id = image_id
        self._service, self._feed, self._plan, self._update = service, feed, plan, update
        self._world, self._watch = world, watch
        self._begun = world.clock.now()
        self._put: list[PodToUpdate] = []
        self._writes = anyio.Lock()  # none is under way any more when pods get their image back
        self._over = False
        self._reported = False  # that it takes long
        self._hurried: set[str] = set()  # instances
        self._ends_at: dict[str, float] = {}  # by instance: when it is killed that has not ended

    async def take_the_image(self) -> None:
        """As many at once as may be unavailable, each available before the next."""
        places = anyio.CapacityLimiter(self._plan.at_once)

        async def one(pod: PodToUpdate) -> None:
            async with places:
                async with self._writes:
                    if self._over:
                        return
                    before = self._view(pod)
                    self._put.append(pod)
                    there = await self._update.put(pod)
                if there:
                    await self._available(pod, before)

        await gather(one, self._plan.pods)

    async def _hurry(self, view: PodView, container: ContainerView) -> None:
        """Do not wait for the grace period of a process that SIGTERM does not reach (S35), such as one that
        just starts; a preStop hook has its time. Each instance that gives way is looked at once."""
        node, instance = view.node, container.instance
        if not (container.running and instance) or instance in self._hurried:
            return
        self._hurried.add(instance)
        killed = not view.pre_stop and await self._world.loader.end(node, instance, deaf=True)
        if not killed and self._service.stop_after is not None:
            self._ends_at[instance] = self._world.clock.now() + self._service.stop_after

    async def _end_late(self, view: PodView, container: ContainerView, now: float) -> float | None:
        """Kill an instance that has not ended within `stop_after`; seconds until then, None where there is
        nothing to kill."""
        ends_at = self._ends_at.get(container.instance)
        if ends_at is None or now < ends_at:
            return None if ends_at is None else ends_at - now
        del self._ends_at[container.instance]
        await self._world.loader.end(view.node, container.instance, deaf=False)
        return None

    def _view(self, pod: PodToUpdate) -> PodView | None:
        return next((one for one in self._feed.latest.pods if one.uid == pod.uid), None)

    async def _available(self, pod: PodToUpdate, before: PodView | None) -> None:
        """Wait until it is. Raises RolloutError (all pods go back), InPlaceError (the image is gone)."""
        replaced = _container(before, self._plan)
        waited = _waiting(replaced)
        if before is not None and replaced is not None and not same(replaced.image, self._plan.ref):
            await self._hurry(before, replaced)
        first: int | None = None  # restart count of the first instance that was seen of this image
        since: float | None = None  # when it got ready
        time = _Time(self._world.clock.now(), self._patience())
        while True:
            seen, now = self._feed.latest, self._world.clock.now()
            view = next((one for one in seen.pods if one.uid == pod.uid and not one.terminating), None)
            container = _container(view, self._plan)
            if view is None or container is None:
                return  # deleted, or scaled away: the one that replaces it is found when it is all over
            if self._runs(container):
                first = container.restarts if first is None else first
                container = replace(container, first=first)
                self._note_phases(view, now)
                await self._refuse_trouble(seen, view, container)
                if container.ready and (view.ready or _waits_for_others(seen, view, container)):
                    since = now if since is None else since
                    if now >= since + self._plan.min_ready:
                        return
                else:
                    since = None
            elif same(container.image, self._plan.ref):
                await self._hurry(view, container)  # which may have begun since
                if container.waiting != waited:
                    # Of no instance: the status still has the id of the old one.
                    await self._refuse_trouble(seen, view, container)
            deadline = time.until(now, view.stop_grace, gives_way=self._gives_way(container))
            if since is None and now >= deadline:
                await self._give_up(self._late(view, container), view, container)
            end = deadline if since is None else since + self._plan.min_ready
            notice = self._report_wait(view, container, now, ready=since is not None)
            waits = end - now, notice, await self._end_late(view, container, now)
            with anyio.move_on_after(min(seconds for seconds in waits if seconds is not None)):
                await self._feed.next(seen)

    def _runs(self, container: ContainerView) -> bool:
        """The instance that the status shows is one of the new image (S33): not the one that it replaces, nor
        one of an image that was PATCHed just before, which the kubelet still starts for a moment."""
        if not same(container.image, self._plan.ref) or container.stale:
            return False
        comparable = container.image_id and self._image_id and "@" not in container.image_id
        if comparable and container.image_id != self._image_id:
            return False
        return container.running or container.exit_code is not None or bool(container.waiting)

    def _report_wait(
        self, view: PodView, container: ContainerView, now: float, *, ready: bool
    ) -> float | None:
        """Report once that a pod takes long to get ready; the seconds until then, None if there is nothing to
        report any more."""
        if self._reported or ready:
            return None
        if now < self._begun + REPORT_AFTER:
            return self._begun + REPORT_AFTER - now
        self._reported = True
        text = f"still updating in place: {self._waits_for(view, container)}"
        self._world.emit(Notice(self._service.name, "info", text))
        return None

    def _waits_for(self, view: PodView, container: ContainerView) -> str:
        if self._gives_way(container):
            return f"the process before in {view.name} has not ended yet"
        why = probe_failure(self._feed.latest, view)
        return f"{view.name} is not ready{f': {why}' if why else ''}"

    def _gives_way(self, container: ContainerView) -> bool:
        return container.running and not self._runs(container)

    def _late(self, view: PodView, container: ContainerView) -> Stuck:
        hint = (
            "see its log and readinessProbe; if it needs longer, set a longer rollout_timeout for the service"
        )
        if self._gives_way(container):
            hint = (
                "make it end at SIGTERM, or set update.stop_after or a longer rollout_timeout for the service"
            )
        text = f"not updated within {self._patience():g} s: {self._waits_for(view, container)}"
        return Stuck("RolloutTimeout", text, hint=hint)

    def _patience(self) -> float:
        timeout = self._service.rollout_timeout
        return timeout if timeout is not None else self._feed.latest.progress_deadline + GRACE

    async def _refuse_trouble(self, seen: Snapshot, view: PodView, container: ContainerView) -> None:
        if container.waiting in MISSING_IMAGE:
            raise InPlaceError(f"{view.name} does not find the image on its node", reason="image_lost")
        trouble = first_trouble(seen, view, container)
        if trouble is not None:
            await self._give_up(trouble, view, container)

    async def _give_up(self, trouble: Stuck, view: PodView, container: ContainerView) -> None:
        """All pods back to the image before. Raises RolloutError."""
        target = self._feed.latest.target
        log = await self._world.cluster.last_words(target, view.name, container.name)
        if container.exit_code is not None and exits(container):
            self._world.emit(exited(self._service.name, view, container, log))
        async with self._writes:
            self._over = True
            await gather(self._update.undo, self._put)
        trouble = read_log(trouble, log)
        raise RolloutError(
            f"{trouble.message}; its pods get {self._plan.before} back",
            reason=trouble.reason,
            evidence=trouble.evidence,
            hint=trouble.hint,
            cause=trouble.cause,
        )

    def _note_phases(self, view: PodView, now: float) -> None:
        """When the first new process began, and when the first pod was ready."""
        reached: Sequence[Phase] = ("started", "serving") if view.ready else ("started",)
        for phase in reached:
            if self._watch.phase(phase, now - self._begun):
                self._world.emit(RolloutPhase(self._service.name, phase, *self._watch.noted(phase)))


def _container(view: PodView | None, plan: InPlacePlan) -> ContainerView | None:
    containers = view.containers if view is not None else ()
    return next((one for one in containers if one.name == plan.container and not one.init), None)


def _waits_for_others(seen: Snapshot, view: PodView, container: ContainerView) -> bool:
    """Only containers that other services set keep the pod from being ready (S26): theirs to mend, and the
    rollout's to report."""
    others = [one for one in view.containers if not (one.init or one.ready or one.name == container.name)]
    return bool(others) and all(one.name in seen.theirs for one in others)


def _waiting(container: ContainerView | None) -> str:
    return container.waiting if container is not None else ""
