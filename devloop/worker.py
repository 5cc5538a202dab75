"""One service's worker: its mailbox, one trip at a time, and what follows from a trip's outcome.

A newer change cancels the running trip in every stage but the PATCH, within the pace of S21. Between
trips the worker minds its targets: whatever the cluster shows is judged again (S20).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from devloop.cycle import trip
from devloop.errors import (
    OvertakenError,
    PlatformError,
    PrerequisiteError,
    TargetMissingError,
    TreeMovedError,
)
from devloop.events import LiveChanged, Notice, TripEnded, TripStarted
from devloop.follow import any_newer
from devloop.inbox import Inbox
from devloop.model import (
    Change,
    Failed,
    Fingerprint,
    Held,
    Image,
    Live,
    Outcome,
    Ready,
    Service,
    Snapshot,
    Stuck,
    Superseded,
    Unchanged,
    outcome_word,
)
from devloop.phase import Pace, Reversals
from devloop.ports import Feed, World
from devloop.rollout import Expectation, carries, judge, lost_image, why_long
from devloop.state import DeploymentState, deployment_state
from devloop.stopwatch import Stopwatch

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 5.0)  # waits while an engine or API server is gone


class Worker:
    """Runs the trips of one service. `run` for `watch`, `settle` alone for `once`."""

    def __init__(self, service: Service, world: World) -> None:
        self.service = service
        self.inbox = Inbox()
        self.outcome: Outcome | None = None  # of the last trip
        self._world = world
        self._feeds: Sequence[Feed] = ()
        self._connected = anyio.Event()
        self._parent: Image | None = None
        self._pace = Pace()
        self._reversals = Reversals()
        self._trips = 0
        self._retries = 0
        self._live: tuple[bool, str] | None = None  # what was told last: (live, state)
        self._settled: tuple[Snapshot, ...] = ()  # what the cluster showed when the last trip ended
        self._expected: Expectation | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Watch the targets for as long as the block runs. Raises PlatformError."""
        async with AsyncExitStack() as stack:
            self._feeds = [
                await stack.enter_async_context(self._world.cluster.feed(target))
                for target in self.service.targets
            ]
            self._connected.set()
            yield

    async def feeds(self) -> Sequence[Feed]:
        """What shows the targets, as soon as the worker is connected."""
        await self._connected.wait()
        return self._feeds

    async def run(self) -> None:
        """Trips for ever, from the inbox. Raises PlatformError if the cluster says no at first."""
        async with self.connected():
            while True:
                change = await self._next_change()
                outcome = await self.settle(change)
                self._follow_up(change, outcome)

    async def settle(self, change: Change) -> Outcome:
        """One trip to its outcome; a newer change in the inbox supersedes it."""
        emit, clock = self._world.emit, self._world.clock
        self._trips += 1
        emit(TripStarted(self.service.name, self._trips, clock.now(), change))
        self._tell(live=False, state="working")
        self._pace = self._pace.begun(clock.ticks())
        watch = Stopwatch(self.service.name, change, clock, emit)
        outcome: Outcome | None = None
        patched = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._supersede, group.cancel_scope, patched)
            outcome = await trip(self.service, change, self._feeds, self._world, watch, self._parent, patched)
            group.cancel_scope.cancel()
        if outcome is None:
            outcome = Superseded(watch.stage, watch.timing())
        self._learn(outcome, patched=patched.is_set())
        emit(TripEnded(self.service.name, self._trips, clock.now(), outcome, self._why_long(outcome)))
        self._tell_outcome(outcome)
        return outcome

    def reconsider(self) -> Outcome | None:
        """The last outcome as the cluster shows it now: a failed rollout may have become ready (S19)."""
        if isinstance(self.outcome, Failed) and self.outcome.stage == "rollout" and self._all_ready():
            fingerprint = self.outcome.fingerprint
            assert fingerprint is not None
            self.outcome = Unchanged(fingerprint, self.service.ref(fingerprint), self.outcome.timing)
        return self.outcome

    # --- superseding ----------------------------------------------------------------------------

    async def _supersede(self, scope: anyio.CancelScope, patched: anyio.Event) -> None:
        """Cancel the trip when something newer waits; a trip that must pass gets its time (S21)."""
        await self.inbox.filled()
        wait = self._pace.seconds_to_wait(self._world.clock.ticks())
        if wait is not None:
            await patched.wait()
            await anyio.sleep(wait)
        scope.cancel()

    def _learn(self, outcome: Outcome, *, patched: bool) -> None:
        if isinstance(outcome, Superseded):
            self._pace = self._pace.cancelled()
            if patched:
                self._pace = Pace(self._pace.superseded)
        elif not (isinstance(outcome, Failed) and isinstance(outcome.error, TreeMovedError)):
            self._pace = Pace()  # a tree that moved leaves the next trip the same right to pass
        if isinstance(outcome, Live):
            self._parent = outcome.image
        fingerprint = getattr(outcome, "fingerprint", None)
        if isinstance(fingerprint, Fingerprint):
            image_id = outcome.image.id if isinstance(outcome, Live) else ""
            self._expected = Expectation(self.service.image, self.service.ref(fingerprint), image_id)
        self._settled = tuple(feed.latest for feed in self._feeds)
        self.outcome = outcome

    # --- between trips --------------------------------------------------------------------------

    async def _next_change(self) -> Change:
        """The next change from the inbox, minding the targets while there is none."""
        change: Change | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._mind)
            change = await self.inbox.take()
            group.cancel_scope.cancel()
        assert change is not None
        return change

    def _follow_up(self, change: Change, outcome: Outcome) -> None:
        """Put back into the inbox what an outcome leaves undone, so that no edit is lost."""
        error = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(outcome, Superseded) or isinstance(error, TreeMovedError):
            self.inbox.put_back(change)
        elif isinstance(error, OvertakenError):
            self._reverse([feed.latest for feed in self._feeds])
        if not isinstance(error, PlatformError):
            self._retries = 0

    async def _mind(self) -> None:
        """Level-triggered: judge every snapshot of the targets until a change arrives (S20)."""
        if isinstance(self.outcome, Failed) and isinstance(self.outcome.error, PlatformError):
            await anyio.sleep(RETRY_SECONDS[min(self._retries, len(RETRY_SECONDS) - 1)])
            self._retries += 1
            self._again_because("trying again")
            return
        if isinstance(self.outcome, Failed) and isinstance(self.outcome.error, PrerequisiteError):
            await self._world.installer.unblocked()
            self._again_because("what was missing is there now")
            return
        while self._feeds:
            seen = [feed.latest for feed in self._feeds]
            self._review(seen)
            await any_newer(self._feeds, seen)

    def _review(self, snapshots: Sequence[Snapshot]) -> None:
        if self.outcome is None or self._expected is None:
            return
        if isinstance(self.outcome, Failed) and isinstance(self.outcome.error, TargetMissingError):
            if all(snapshot.exists for snapshot in snapshots):
                self._again_because("the target is there now")
            return
        if isinstance(self.outcome, Held):
            if not any(s.hold == self.outcome.fingerprint.digest for s in snapshots):
                self._again_because("the hold was lifted")
            return
        ref = self._expected.ref
        if all(carries(s, self.service.image, ref) for s in snapshots):
            self._review_pods(snapshots)
        elif any(
            s.uid != old.uid or dict(s.images) != dict(old.images)
            for s, old in zip(snapshots, self._settled, strict=True)
        ):
            self._reverse(snapshots)

    def _review_pods(self, snapshots: Sequence[Snapshot]) -> None:
        """The template is ours: are its pods still ready, or again?"""
        assert self._expected is not None
        now = self._world.clock.now()
        verdicts = [judge(s, self._expected, now) for s in snapshots]
        if any(lost_image(s, self._expected) for s in snapshots):
            self._again_because("a node lost the image")
        elif all(isinstance(v, Ready) for v in verdicts):
            if isinstance(self.outcome, Failed):
                self.reconsider()
                self._world.emit(
                    Notice(self.service.name, "info", "the failed rollout became ready after all: live")
                )
            self._tell(live=True, state="live")
        elif any(isinstance(v, Stuck) for v in verdicts) or any(
            deployment_state(s) is DeploymentState.DEGRADED for s in snapshots
        ):
            self._tell(live=False, state="failed" if isinstance(self.outcome, Failed) else "degraded")

    def _reverse(self, snapshots: Sequence[Snapshot]) -> None:
        """Somebody else wrote another image: mend it, unless it is a tug-of-war (S20)."""
        self._settled = tuple(snapshots)
        self._reversals = self._reversals.noted(self._world.clock.ticks())
        writer = next((s.writer for s in snapshots if s.writer), "") or "somebody"
        if self._reversals.contested:
            self._world.emit(
                Notice(
                    self.service.name,
                    "error",
                    f"contested: {writer} keeps writing another image; devloop stops until the next save",
                    f"stop that writer, or take {self.service.name} out of config.yaml",
                )
            )
            self._tell(live=False, state="contested")
            self._reversals = Reversals()
            self._expected = None
            return
        self._again_because(f"{writer} changed the template")

    def _again_because(self, why: str) -> None:
        now = self._world.clock.now()
        self.inbox.put(Change(frozenset(), now, now, why))

    # --- telling --------------------------------------------------------------------------------

    def _all_ready(self) -> bool:
        if self._expected is None:
            return False
        now = self._world.clock.now()
        return all(isinstance(judge(f.latest, self._expected, now), Ready) for f in self._feeds)

    def _tell_outcome(self, outcome: Outcome) -> None:
        state = outcome_word(outcome)
        waits = TargetMissingError | PlatformError | PrerequisiteError
        if isinstance(outcome, Failed) and isinstance(outcome.error, waits):
            state = "waiting"
        live = isinstance(outcome, Live | Unchanged)
        self._tell(live=live, state="live" if live else state)

    def _tell(self, *, live: bool, state: str) -> None:
        if self._live != (live, state):
            self._live = (live, state)
            ref = self._expected.ref if self._expected else ""
            self._world.emit(LiveChanged(self.service.name, live, ref, state))

    def _why_long(self, outcome: Outcome) -> str:
        if not isinstance(outcome, Live | Unchanged | Failed):
            return ""
        return why_long([feed.latest for feed in self._feeds], outcome.timing)
