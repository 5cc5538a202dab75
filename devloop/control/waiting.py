"""`devloop wait`: until it is decided what the cluster makes of the tree as it is now (S39).

A decision is never taken from an outcome of another tree: all inputs are looked at anew for each wait, and
what counts is an outcome of that very content, or of a trip that began to look after the wait did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio

from devloop.clock import Clock
from devloop.errors import DevloopError
from devloop.inputs.tree_look import TreeLook
from devloop.model import Change, Live, Service, Superseded, Unchanged
from devloop.trip.standing import Standing
from devloop.trip.worker_pool import WorkerPool

LOOK = "devloop wait"  # why a trip begins that a wait needs
GRACE = 0.15  # seconds in which the file event of what a look found may still begin the trip itself
EVERYTHING: frozenset[Path] = frozenset()
GONE, UNDECIDED = "gone", "undecided"


class Inputs(Protocol):
    """The fingerprinter, as far as it is asked here."""

    async def look(self, service: Service) -> TreeLook: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one service. `state`: live, failed, held, paused, pending or contested; `gone` where
    config.yaml has it no longer; `undecided` where the time was up. `standing`: what that was read from."""

    service: str
    state: str
    standing: Standing


class Waiting:
    """Answers waits from the workers of `pool`, on their events: nothing is polled.

    `take_config` has config.yaml taken as it lies on disk. `needs_trip` says whether what a service has
    beside its image (manifests, a release) may not be in the cluster as it lies on disk: then only a new
    trip can tell.
    """

    def __init__(
        self,
        pool: WorkerPool,
        inputs: Inputs,
        clock: Clock,
        take_config: Callable[[], None],
        needs_trip: Callable[[Service], Awaitable[bool]],
    ) -> None:
        self._pool, self._inputs, self._clock = pool, inputs, clock
        self._take_config, self._needs_trip = take_config, needs_trip

    async def decide(
        self, names: Sequence[str], seconds: float, on_decision: Callable[[Decision], Awaitable[None]]
    ) -> tuple[Decision, ...]:
        """Of each service, in the order of `names`, at the latest in so many seconds; `on_decision` gets each
        as soon as it is there, those that are undecided at the end."""
        self._take_config()
        decided: dict[str, Decision] = {}

        async def one(name: str) -> None:
            decided[name] = decision = await self._decided(name)
            await on_decision(decision)

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(one, name)
        for name in names:
            if name not in decided:
                standing = self._pool.standing(name) or Standing()
                decided[name] = decision = Decision(name, UNDECIDED, standing)
                await on_decision(decision)
        return tuple(decided[name] for name in names)

    async def _decided(self, name: str) -> Decision:
        digest, looked = await self._look(name)
        while True:
            standing, moved = self._pool.standing(name), self._pool.next_move(name)
            if standing is None:
                return Decision(name, GONE, Standing())
            state = decide(standing, digest, looked)
            if state:
                return Decision(name, state, standing)
            if not standing.busy and not is_of(standing, digest, looked):
                self._begin(name) if not digest else self._deliver(name, EVERYTHING)
            await moved.wait()

    async def _look(self, name: str) -> tuple[str, float]:
        """The digest of the tree, "" where only a trip can tell, and when it was looked at: a trip that
        begins from then on is of that tree, or of a later one."""
        service = self._pool.services.get(name)
        if service is None or self._pool.is_paused(name):
            return "", self._clock.ticks()
        try:
            look = await self._inputs.look(service)
            looked = self._clock.ticks()
            if look.is_news and not await self._begins(name, looked):
                self._deliver(name, look.paths)  # the trip that runs is of an older tree
            return "" if await self._needs_trip(service) else look.digest, looked
        except DevloopError:  # a trip that looks at everything says what is wrong
            self._deliver(name, EVERYTHING)
            return "", self._clock.ticks()

    async def _begins(self, name: str, looked: float) -> bool:
        """Whether a trip begins by the file event itself, which would supersede one of ours."""
        with anyio.move_on_after(GRACE):
            while True:
                standing, moved = self._pool.standing(name), self._pool.next_move(name)
                if standing is None or max(standing.next, standing.began) >= looked:
                    return True
                await moved.wait()
        return False

    def _deliver(self, name: str, paths: frozenset[Path]) -> None:
        """The tree is another one: a service that is triggered by hand is pending by that."""
        now = self._clock.now()
        self._pool.deliver(name, Change(paths, now, now, LOOK))

    def _begin(self, name: str) -> None:
        """A look at what is beside the tree, which is that of the last trip: no trigger is needed for it."""
        now = self._clock.now()
        self._pool.begin(name, Change(EVERYTHING, now, now, LOOK))


def decide(standing: Standing, digest: str, looked: float) -> str:
    """What a wait may answer that looked at the tree at `looked` (ticks) and found this digest ("" = that is
    not enough to tell a trip by); "" where it has to wait on. Pure."""
    if standing.word in ("paused", "pending"):
        return standing.word
    if standing.busy or not is_of(standing, digest, looked):
        return ""
    if standing.live:
        return "live" if isinstance(standing.outcome, Live | Unchanged) else ""
    if standing.trouble is not None:
        return "failed"
    return standing.word if standing.word in ("failed", "held", "contested") else ""


def is_of(standing: Standing, digest: str, looked: float) -> bool:
    """Whether the last trip looked at the tree that the wait is about, or at a later one."""
    outcome = standing.outcome
    if outcome is None or isinstance(outcome, Superseded):
        return False
    known = outcome.fingerprint.digest if outcome.fingerprint is not None else ""
    return standing.began >= looked or (digest != "" and known == digest)
