"""The rollout stage: watch the targets until every one is ready, or one is stuck.

Judging is rollout.py's; this module waits, tells what it sees on the way (phases, first exits), and
brings back an image that a node lost (S13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from devloop.errors import OvertakenError, RolloutError, StageError, TargetMissingError
from devloop.events import Notice, PodExited, RolloutPhase
from devloop.model import LoadedImage, PodView, Progressing, Ready, Revision, Service, Snapshot, Stuck
from devloop.ports import Feed, World
from devloop.rollout import (
    MISSING,
    REPLACED,
    TEMPLATE_CHANGED,
    Expectation,
    failed_containers,
    judge,
    lost_image,
    phases,
)
from devloop.stopwatch import Stopwatch
from devloop.symptoms import read_log

RELOADS = 3  # times an image is brought back to a node within one rollout,
RELOAD_PAUSE = 15.0  # seconds apart: the kubelet looks again only after 10 to 15 s


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
    context = world.cluster.context
    expected = [Expectation.of(service.image, revision, loaded.image.id, context) for revision in revisions]
    told: set[tuple[str, str, int]] = set()
    reloads: list[float] = []
    while True:
        snapshots = [feed.latest for feed in feeds]
        now = world.clock.now()
        _tell_phases(service, snapshots, revisions, world, watch)
        await _tell_exits(service, snapshots, expected, told, world)
        lost = any(lost_image(s, e) for s, e in zip(snapshots, expected, strict=True))
        if lost and len(reloads) < RELOADS and (not reloads or now - reloads[-1] > RELOAD_PAUSE):
            world.emit(
                Notice(service.name, "warning", f"{loaded.image.ref} is gone from a node; loading it again")
            )
            await world.loader.load(loaded.image)
            now = world.clock.now()
            reloads.append(now)
            expected = [replace(expectation, loaded_at=now) for expectation in expected]
        verdicts = [judge(s, e, now) for s, e in zip(snapshots, expected, strict=True)]
        for snapshot, verdict in zip(snapshots, verdicts, strict=True):
            if isinstance(verdict, Stuck):
                raise await _stuck(snapshot, verdict, world)
        waiting = [verdict for verdict in verdicts if isinstance(verdict, Progressing)]
        if not waiting:
            return tuple(pod for verdict in verdicts if isinstance(verdict, Ready) for pod in verdict.pods)
        deadlines = [v.deadline for v in waiting if v.deadline is not None]
        await any_newer(feeds, snapshots, min(deadlines) - now if deadlines else None)


async def any_newer(feeds: Sequence[Feed], seen: Sequence[Snapshot], seconds: float | None = None) -> None:
    """Wait until one feed shows something newer than `seen`, or `seconds` have passed."""

    async def wait(feed: Feed, snapshot: Snapshot) -> None:
        await feed.next(snapshot)
        group.cancel_scope.cancel()

    with anyio.move_on_after(None if seconds is None else max(0.0, seconds)):
        async with anyio.create_task_group() as group:
            for feed, snapshot in zip(feeds, seen, strict=True):
                group.start_soon(wait, feed, snapshot)


def _tell_phases(
    service: Service,
    snapshots: Sequence[Snapshot],
    revisions: Sequence[Revision],
    world: World,
    watch: Stopwatch,
) -> None:
    for snapshot, revision in zip(snapshots, revisions, strict=True):
        for phase, seconds, coarse in phases(snapshot, revision.ref, revision.patched_at):
            if watch.phase(phase, seconds, coarse=coarse):
                world.emit(RolloutPhase(service.name, phase, *watch.noted(phase)))


async def _tell_exits(
    service: Service,
    snapshots: Sequence[Snapshot],
    expected: Sequence[Expectation],
    told: set[tuple[str, str, int]],
    world: World,
) -> None:
    """Show a first non-zero exit at once with its log, though it is no outcome yet (S19)."""
    for snapshot, expectation in zip(snapshots, expected, strict=True):
        for pod, container in failed_containers(snapshot, expectation):
            key = (pod.uid, container.name, container.restarts)
            if key in told or container.exit_code is None:
                continue
            told.add(key)
            log = await world.cluster.last_words(snapshot.target, pod.name, container.name)
            world.emit(
                PodExited(
                    service.name, pod.name, container.name, container.exit_code, container.exit_reason, log
                )
            )


async def _stuck(snapshot: Snapshot, verdict: Stuck, world: World) -> StageError:
    """The verdict as an error, with the log of the container that died and the events that matter."""
    log: tuple[str, ...] = ()
    if verdict.pod and verdict.container:
        log = await world.cluster.last_words(snapshot.target, verdict.pod, verdict.container)
        verdict = read_log(verdict, log)
    kinds: dict[str, type[StageError]] = {
        REPLACED: OvertakenError,
        TEMPLATE_CHANGED: OvertakenError,
        MISSING: TargetMissingError,
    }
    return kinds.get(verdict.reason, RolloutError)(
        verdict.message,
        reason=verdict.reason,
        evidence=verdict.evidence,
        hint=verdict.hint,
    )
