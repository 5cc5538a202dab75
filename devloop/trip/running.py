"""One trip while it runs, and what supersedes it: a newer change, within the pace of S21."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from devloop.activity import Activity, recorded
from devloop.model import Change, Outcome, Service, Superseded
from devloop.ports import Feed, World
from devloop.rollout.follow import any_newer
from devloop.stopwatch import Stopwatch
from devloop.trip import pace as phase
from devloop.trip.before_build import BeforeBuild
from devloop.trip.inbox import Inbox
from devloop.trip.pace import Pace
from devloop.trip.trip import trip


async def run_trip(
    service: Service,
    change: Change,
    feeds: Sequence[Feed],
    world: World,
    watch: Stopwatch,
    inbox: Inbox,
    pace: Pace,
    tree: BeforeBuild,
) -> tuple[Outcome, Pace]:
    """The trip's outcome, Superseded where a newer change ended it, and the pace of the next one."""
    outcome: Outcome | None = None
    patched = anyio.Event()
    stalled = False

    async def supersede() -> None:
        nonlocal stalled
        await inbox.filled()
        while await _is_known(inbox, tree):
            await inbox.filled()
        stalled = await _passed(service, world, watch, pace, activity, patched)
        group.cancel_scope.cancel()

    with recorded() as activity:
        async with anyio.create_task_group() as group:
            group.start_soon(supersede)
            group.start_soon(_note_cluster, feeds, activity, watch)
            outcome = await trip(service, change, feeds, world, watch, patched, tree)
            group.cancel_scope.cancel()
    if outcome is None:
        outcome = Superseded(watch.stage, watch.timing())
    else:
        await _is_known(inbox, tree)  # where it waits for a trigger, nobody looked at it
    return outcome, pace.after(outcome, patched=patched.is_set(), stalled=stalled)


async def _is_known(inbox: Inbox, tree: BeforeBuild) -> bool:
    """Whether what waits is but what the trip has read already: it is dropped."""
    change = inbox.waiting
    return change is not None and await tree.knows(change) and inbox.drop(change)


async def _passed(
    service: Service, world: World, watch: Stopwatch, pace: Pace, activity: Activity, patched: anyio.Event
) -> bool:
    """Return when the running trip may be superseded; True if it is because nothing moves in it (S21)."""
    now = world.clock.ticks()
    if not pace.must_pass(watch.stage_since if patched.is_set() else now):
        return False
    stalled = False

    async def give_up() -> None:
        nonlocal stalled
        await activity.stalled(pace.patience(service.build.idle_timeout))
        stalled = True
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await patched.wait()
        group.cancel_scope.cancel()
    if not stalled:  # the rollout has its own measure: so long after the PATCH
        await anyio.sleep(max(0.0, watch.stage_since + phase.LONGEST_WAIT - world.clock.ticks()))
    return stalled


async def _note_cluster(feeds: Sequence[Feed], activity: Activity, watch: Stopwatch) -> None:
    """What the targets show is progress of a trip that works on them, not of a build that hangs."""
    while feeds:
        await any_newer(feeds, tuple(feed.latest for feed in feeds))
        if watch.stage in ("patch", "rollout"):
            activity.note()
