"""Sync, then bake: files into the containers that run, and then the image that holds them (S36, S37).

`sync` writes, before the image is built; `bake` makes Deployment and ReplicaSet name it when it is loaded.
What cannot be synced is updated in place, and reported with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from devloop.concurrency import gather
from devloop.errors import DevloopError, InPlaceError, OvertakenError, TargetMissingError
from devloop.events import Notice
from devloop.image_refs import digest, same
from devloop.model import (
    RESTART,
    Fingerprint,
    InPlacePlan,
    LoadedImage,
    PodToUpdate,
    Refusal,
    Revision,
    Service,
    SyncFiles,
)
from devloop.ports import Feed, Syncer, World
from devloop.rollout.follow import any_newer
from devloop.rollout.in_place import report_refusal
from devloop.rollout.judge import MISSING
from devloop.stopwatch import Stopwatch

SHIELD_SECONDS = 10.0  # for writing and reading back: who stops in the middle leaves what nobody knows
SETTLE_SECONDS = 2.0  # in which a controller sees what the last trip wrote


@dataclass(frozen=True, slots=True)
class Synced:
    """Containers that hold the tree's content now: of each target, in the order of its feeds."""

    pods: tuple[tuple[PodToUpdate, ...], ...]


async def sync(
    service: Service, feeds: Sequence[Feed], fingerprint: Fingerprint, world: World, watch: Stopwatch
) -> Synced | None:
    """The content of the tree into every running container of the service; None where its pods have to be
    updated otherwise.

    Raises TreeMovedError, PatchError, TargetMissingError, LoadError, PlatformError.
    """
    if world.syncer is None or service.update != "sync" or service.reload == RESTART or not feeds:
        return None
    if not all(feed.latest.exists for feed in feeds):
        return None
    with watch.time("sync"):
        done = await _sync(service, feeds, fingerprint, world, world.syncer)
    if isinstance(done, Refusal):
        report_refusal(service, None, done, world, "sync")
        return None
    return done


async def bake(
    service: Service, feed: Feed, loaded: LoadedImage, pods: Sequence[PodToUpdate], world: World
) -> Revision | None:
    """Make the target name the image, without touching the pods that hold its content; None where they have
    to get the image after all."""
    target = feed.latest.target
    async with world.cluster.in_place(target, service, loaded.image.ref) as update:
        plan = await _ended(feed, pods, world) or await update.look(sync=True)
        if isinstance(plan, InPlacePlan):
            try:
                if not same(plan.before, plan.ref):
                    return await update.finish()
                now = feed.latest  # an edit that was taken back: the image before is named already
                at = world.clock.now()
                return Revision(target, now.uid, now.generation, plan.ref, at, how="sync")
            except InPlaceError as error:
                plan = Refusal(error.reason, error.message)
            except TargetMissingError as error:  # the next trip brings it back, where the manifests have it
                raise OvertakenError(f"{target} was deleted meanwhile", reason=MISSING) from error
    report_refusal(service, target, plan, world, "sync")
    return None


# --- steps ----------------------------------------------------------------------------------------


async def _sync(
    service: Service, feeds: Sequence[Feed], fingerprint: Fingerprint, world: World, syncer: Syncer
) -> Synced | Refusal:
    found: list[tuple[PodToUpdate, ...]] = []
    named = True
    for feed in feeds:
        plan = await _plan(service, feed, service.ref(fingerprint), world)
        if isinstance(plan, Refusal):
            return plan
        if same(plan.before, plan.ref) and any(_is_restarted(pod, plan, syncer) for pod in plan.pods):
            return Refusal("", "a container started again: the rollout gives it the image")
        named = named and same(plan.before, plan.ref)
        found.append(tuple(pod for pod in plan.pods if pod.instance))
    pods = [pod for several in found for pod in several]
    if not all(found):
        return Refusal("not_running", f"no container of {service.name} runs")
    contents = {_content(pod, syncer) for pod in pods}
    if len(contents) > 1 or "" in contents:
        return Refusal("unknown_content", f"the containers of {service.name} do not all run the same")
    content = contents.pop()
    if named and content == fingerprint.digest:
        return Refusal("", "nothing is to be written, into containers or the cluster")
    files = await syncer.files(service, fingerprint, content)
    if isinstance(files, Refusal):
        return files
    if content != fingerprint.digest:
        reload = service.reload
        refusals = await gather(lambda pod: syncer.refuse(pod, files, reload), pods)
        refusal = next((one for one in refusals if one is not None), None) or await _write(
            service, fingerprint, pods, files, syncer
        )
        if refusal is not None:
            return refusal
        world.emit(Notice(service.name, "info", _written(len(files.files), len(pods))))
    return Synced(tuple(found))


def _written(files: int, containers: int) -> str:
    what, where = "file" if files == 1 else "files", "container" if containers == 1 else "containers"
    return f"synced {files} {what} into {containers} {where}"


async def _plan(service: Service, feed: Feed, ref: str, world: World) -> InPlacePlan | Refusal:
    """Whether the target's pods may keep their containers, and which they are."""
    with anyio.move_on_after(SETTLE_SECONDS):  # the last trip may just have written
        while (seen := feed.latest).observed_generation < seen.generation:
            await any_newer([feed], [seen])
    async with world.cluster.in_place(feed.latest.target, service, ref) as update:
        return await update.look(sync=True)


def _content(pod: PodToUpdate, syncer: Syncer) -> str:
    """The fingerprint of what the container runs, "" = nobody knows."""
    synced = syncer.synced.content(pod.instance)
    return digest(pod.image) if synced is None else synced


def _is_restarted(pod: PodToUpdate, plan: InPlacePlan, syncer: Syncer) -> bool:
    """It runs the older image of its pod, without the files that the one before it had: those might end it
    once more."""
    runs_image = bool(pod.instance) and syncer.synced.content(pod.instance) is None
    return runs_image and not same(pod.image, plan.ref)


async def _write(
    service: Service, fingerprint: Fingerprint, pods: Sequence[PodToUpdate], files: SyncFiles, syncer: Syncer
) -> Refusal | None:
    """Into all of them, in one go that no newer save interrupts; why it failed, if it did."""
    instances = [pod.instance for pod in pods]
    with anyio.move_on_after(SHIELD_SECONDS, shield=True):
        try:
            syncer.synced.begin(service.name, instances)
            await gather(lambda pod: syncer.put(pod, files, service.reload), pods)
            syncer.hold(service, fingerprint, files)
            syncer.synced.finish(service.name, instances, fingerprint.digest)
            back = [pod.instance for pod in pods if digest(pod.image) == fingerprint.digest]
            syncer.synced.forget(back)
        except OSError as error:
            return Refusal("failed", f"what is synced cannot be noted in the state directory: {error}")
        except DevloopError as error:
            return Refusal("failed", error.message)
        return None
    return Refusal("failed", f"writing into the containers took more than {SHIELD_SECONDS:.0f} s")


async def _ended(feed: Feed, pods: Sequence[PodToUpdate], world: World) -> Refusal | None:
    """A process that ended since, for what was written or for something else: its container starts again from
    the image before. In place, it is found out whether the new content works."""
    assert world.syncer is not None, "synced without one"
    there = {view.uid for view in feed.latest.pods if not view.terminating}
    for pod, runs in zip(pods, await gather(world.syncer.runs, pods), strict=True):
        if not runs and pod.uid in there:
            return Refusal("ended", f"the process in {pod.name} ended after the files were written")
    return None
