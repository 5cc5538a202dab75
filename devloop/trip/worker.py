"""One service's worker: its mailbox, one trip at a time, and what follows from a trip's outcome.

A newer change cancels the running trip in every stage but the PATCH, within the pace of S21. Between
trips the worker minds its targets: whatever the cluster shows is judged again (S20). What it decides is
reconciler.py's; this module waits, runs and reports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio

from devloop.events import Notice, TripEnded, TripStarted
from devloop.model import Change, Failed, Held, Live, Outcome, Service, Snapshot, Superseded, Unchanged
from devloop.ports import Feed, TripObserver, World
from devloop.rollout.follow import any_newer
from devloop.rollout.leftovers import keep_clear
from devloop.rollout.progress import why_long
from devloop.stopwatch import Stopwatch
from devloop.trip import reconciler
from devloop.trip.before_build import CONFIRM, BeforeBuild
from devloop.trip.inbox import Inbox, taken_up
from devloop.trip.pace import Pace
from devloop.trip.reconciler import AGAIN, ServiceState, Step
from devloop.trip.running import run_trip
from devloop.trip.sharing import Sharing
from devloop.trip.standing import Shown, Standing
from devloop.trip.waits import MOVED_PAUSES


class Worker:
    """Runs the trips of one service. `run` for `watch`, `settle` alone for `once`.

    `run` may be called again after an error that nobody expected: no change is lost then.
    """

    def __init__(
        self, service: Service, world: World, sharing: Sharing, observers: Sequence[TripObserver]
    ) -> None:
        self.service = service
        self.inbox = Inbox(manual=service.trigger == "manual")
        self._world, self._sharing = world, sharing
        self._observers = (sharing, *observers)
        self._tree = BeforeBuild(service, world)
        self._feeds: Sequence[Feed] = ()
        self._connected = anyio.Event()
        self._state = ServiceState()
        self._pace = Pace()
        self._trips = 0
        self._ahead = False  # a change was taken from the inbox, and its trip has not begun
        self._travels = 0.0  # since when a trip runs, in ticks; 0: none does
        self._last = Standing()  # of the last trip: its outcome, change and beginning
        self.shown = Shown(service.name, world.emit)

    @property
    def outcome(self) -> Outcome | None:
        """Of the last trip; None before the first, and while one runs."""
        return self._state.outcome

    @property
    def began(self) -> bool:
        """Whether there has been a trip."""
        return self._trips > 0

    @property
    def standing(self) -> Standing:
        """Where the service stands now; `shown.next_move` is set when that may have changed."""
        in_inbox = self.inbox.is_filled and not self.inbox.is_pending
        waits = self._ahead or in_inbox or self._state.undone is not None
        word, live = self._word()
        seen, now = self._snapshots() if word == "degraded" else (), self._world.clock.now()
        return replace(
            self._last,
            word=word,
            live=live,
            busy=waits or self._travels > 0,
            outcome=self._state.outcome or self._last.outcome,
            next=self._travels,
            trouble=reconciler.trouble(self.service, self._state.outcome, seen, now),
        )

    @property
    def has_change(self) -> bool:
        return self.inbox.is_filled

    def deliver(self, change: Change) -> None:
        """Something was saved; where the service is triggered by hand, it is kept until `trigger`."""
        news = not self.inbox.is_pending
        self.inbox.save(change)
        if news and self.inbox.is_pending:
            self._become(self._state)
            hint = f"devloop trigger {self.service.name}"
            self._world.emit(Notice(self.service.name, "info", "manual trigger pending", hint))

    def trigger(self) -> bool:
        """Take up what is pending. False: nothing is."""
        pending = self.inbox.is_pending
        self.inbox.release(self._world.clock.now())
        self._become(self._state)
        return pending

    def pause(self) -> None:
        """Begin no trip, whatever happens, until `resume`; one that runs goes on."""
        self.inbox.pause()
        self._become(self._state)

    def resume(self) -> None:
        """Take up what was collected; nothing is live until a look at the tree and the cluster says so."""
        if not self.inbox.is_filled:
            self._again_because("resumed")
        self.inbox.resume(self._world.clock.now())
        self._become(self._state)

    def review(self) -> None:
        """Judge what the targets show now, and begin a trip where that asks for one."""
        if self._feeds and not (self.inbox.is_paused or self.inbox.is_pending):
            now = self._world.clock.now()
            state, step = reconciler.next_step(self.service, self._state, self._snapshots(), now)
            self._become(state)
            self._do(step)

    def fell(self) -> None:
        """An error that nobody expected ended `run`: nothing is live until a trip, the next one, says so."""
        self._become(reconciler.fell(self._state))
        self._again_because("start")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Watch the targets for as long as the block runs. Raises PlatformError."""
        async with AsyncExitStack() as stack:
            self._feeds = [
                self._sharing.feed(
                    self.service, await stack.enter_async_context(self._world.cluster.feed(target))
                )
                for target in self.service.targets
            ]
            self._connected.set()
            try:
                yield
            finally:
                self._feeds, self._connected = (), anyio.Event()

    async def feeds(self) -> Sequence[Feed]:
        """What shows the targets, as soon as the worker is connected."""
        await self._connected.wait()
        return self._feeds

    async def run(self) -> None:
        """Trips for ever, from the inbox. Raises PlatformError if the cluster refuses at first."""
        async with self.connected():
            while True:
                change = await self._next_change()
                try:
                    outcome, step = await self._settle(change)
                except Exception:
                    self._become(reconciler.fell(self._state))
                    self.inbox.put_back(change)  # for whoever starts this worker again
                    raise
                if isinstance(outcome, Superseded):
                    self.inbox.put_back(change)
                well = isinstance(outcome, Live | Unchanged) and not self.inbox.is_pending
                if well and self._tree.is_unconfirmed:
                    self._again_because(CONFIRM)
                self._do(step)

    async def settle(self, change: Change) -> Outcome:
        """One trip to its outcome; a newer change in the inbox supersedes it."""
        outcome, _ = await self._settle(change)
        return outcome

    async def _settle(self, change: Change) -> tuple[Outcome, Step]:
        emit, clock = self._world.emit, self._world.clock
        before = self._state
        self._trips += 1
        quiet = change.why == AGAIN or before.waits_for == "moved"
        emit(TripStarted(self.service.name, self._trips, clock.now(), change, quiet))
        for observer in self._observers:
            observer.begun(self.service)
        self._ahead, self._travels = False, (began := clock.ticks())
        self._become(reconciler.begun(before, change))
        self.shown.stir()
        if change.why != AGAIN or before.waits_for == "moved":  # else no content waits for its PATCH
            self._pace = self._pace.begun(clock.ticks())
        watch = Stopwatch(self.service.name, change, clock, emit)
        try:
            outcome, self._pace = await run_trip(
                self.service, change, self._feeds, self._world, watch, self.inbox, self._pace, self._tree
            )
        finally:
            self._travels = 0.0
        for observer in self._observers:
            observer.ended(self.service, outcome)
        now, snapshots = clock.now(), self._snapshots()
        emit(
            TripEnded(
                self.service.name,
                self._trips,
                now,
                outcome,
                "" if isinstance(outcome, Superseded | Held) else why_long(outcome.timing),
                repeated=reconciler.repeats(before, change, outcome),
            )
        )
        self._last = Standing(outcome=outcome, change=change, began=began)
        state, step = reconciler.ended(self.service, self._state, change, outcome, snapshots, now)
        self._become(state)
        self.shown.stir()
        return outcome, step

    def reconsider(self) -> Outcome | None:
        """The last outcome as the cluster shows it now: a failed rollout may have become ready (S19)."""
        now = self._world.clock.now()
        unchanged = reconciler.recovered(self.service, self._state, self._snapshots(), now)
        return unchanged or self._state.outcome

    def rest(self) -> None:
        """No further trip is to come: those that share a workload need not wait for one."""
        self._sharing.gives_up(self.service)

    # --- between trips --------------------------------------------------------------------------

    async def _next_change(self) -> Change:
        """The next change from the inbox, minding the targets while there is none."""
        change: Change | None = None
        undone = self._state.undone
        if undone is not None:  # however fast somebody writes, a tree that moves is not read in a busy loop
            await anyio.sleep(MOVED_PAUSES[0])
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._mind)
                group.start_soon(self._look_again)
                if isinstance(self._state.outcome, Failed | Held):  # other outcomes have strays replaced
                    group.start_soon(keep_clear, self.service, self._feeds, self._world)
                change = await self.inbox.take()
                self._ahead = True
                group.cancel_scope.cancel()
        except Exception:
            if change is not None:
                self.inbox.put_back(change)
            raise
        assert change is not None
        return change if undone is None else taken_up(undone, change)

    async def _mind(self) -> None:
        """Level-triggered: judge every snapshot of the targets until a change arrives (S20)."""
        while self._feeds:
            await self.inbox.opened()  # what others do meanwhile is nothing to mend
            seen = self._snapshots()
            self.review()
            self.shown.stir()
            await any_newer(self._feeds, seen)

    async def _look_again(self) -> None:
        """Another trip without a save, where what has to change makes no file event."""
        if self._state.waits_for == "prerequisite":
            await self._world.installer.unblocked()
            await self.inbox.opened()
            self._again_because("what was missing exists now")
        elif self._state.waits_for == "dependency":
            await self._sharing.dependencies_live(self.service)
            await self.inbox.opened()
            self._again_because("what it depends on is live")
        elif (pause := self._state.pause) is not None:
            await anyio.sleep(pause)
            if self._state.undone is not None:
                await self.inbox.resumed()
                self.inbox.put(self._state.undone)
            else:
                await self.inbox.opened()
                self._again_because(AGAIN)

    def _again_because(self, why: str) -> None:
        now = self._world.clock.now()
        self.inbox.put(Change(frozenset(), now, now, why))

    # --- the one state, and what is shown of it --------------------------------------------------

    def _do(self, step: Step) -> None:
        if step.notice is not None:
            self._world.emit(step.notice)
        if step.trip:
            self._again_because(step.trip)

    def _become(self, state: ServiceState) -> None:
        if self._ahead or self.inbox.is_filled:
            state = reconciler.behind(state)
        self._state, expected = state, reconciler.expectation_of(self.service, state.outcome)
        self.shown.show(*self._word(), expected.ref if expected else "")

    def _word(self) -> tuple[str, bool]:
        """What is shown: of a service that is paused, or pending, nobody looks whether it is live."""
        if not self._travels and (self.inbox.is_paused or self.inbox.is_pending):
            return ("paused" if self.inbox.is_paused else "pending"), False
        return self._state.word, self._state.live

    def _snapshots(self) -> tuple[Snapshot, ...]:
        return tuple(feed.latest for feed in self._feeds)
