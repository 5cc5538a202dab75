"""The tree that a trip brings: read as it is, or after the hook `before_build`, which may write into it.

What a generator writes makes file events too, and nobody can tell them from a save. So a tree counts as
generated once a run of the hook has left it as it was; until then each trip runs it again, at most
MOST_RUNS times in a row. A newer change that is nothing but what the running trip has read ends no trip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio

from devloop.activity import Activity, bounded
from devloop.errors import PlatformError, StageError
from devloop.events import Notice, Output
from devloop.model import Change, Fingerprint, Hook, Image, Service
from devloop.ports import World
from devloop.stopwatch import Stopwatch

CONFIRM = "looking at what before_build wrote"  # why a trip begins that runs it again
MOST_RUNS = 3
Look = tuple[Fingerprint, Image | None]  # the image where somebody has it already


class BeforeBuild:
    """Of one service, over its trips."""

    def __init__(self, service: Service, world: World) -> None:
        self._service, self._world = service, world
        self._settled = ""  # the digest of the tree for which it need not run
        self._left = ""  # of the one that its last run left
        self._runs = 0  # in a row, each on what the one before left
        self._read: Fingerprint | None = None  # by the running trip, after its run
        self._over = anyio.Event()  # no run is under way
        self._over.set()

    @property
    def is_unconfirmed(self) -> bool:
        """Whether another run has to show that what the last one left is all."""
        return bool(self._left) and not self._settled

    async def look(self, change: Change, watch: Stopwatch, check: Callable[[Fingerprint], None]) -> Look:
        """The tree, for this trip. `check` sees it before the hook runs, and may raise.

        Raises what the ports do, and HookError.
        """
        hook, self._read = self._service.hooks.before_build, None
        if hook is None:
            return await self._take(change, watch)
        before: Look | None = None
        try:
            before = await self._take(change, watch)
        except StageError:  # what a COPY names may be yet to be generated
            change = replace(change, paths=frozenset())
        if before is not None:
            check(before[0])
            if not self._is_due(*before):
                return before
        return await self._generated(hook, before, change, watch)

    async def knows(self, change: Change) -> bool:
        """Whether a change that came during the trip is but what the trip has read after its run."""
        await self._over.wait()
        read = self._read
        if read is None or change.why != "saved" or change.restart:
            return False
        return await self._world.fingerprinter.still_matches(self._service, read)

    def _is_due(self, fingerprint: Fingerprint, found: Image | None) -> bool:
        if not (self._settled or self._left) and found is not None:
            self._settled = fingerprint.digest  # nothing is to be built: an earlier process has done it
        return fingerprint.digest != self._settled

    async def _generated(self, hook: Hook, before: Look | None, change: Change, watch: Stopwatch) -> Look:
        assert self._world.run_hook is not None
        name = self._service.name
        self._settled = ""
        self._over = anyio.Event()
        try:
            with watch.time("before_build"):
                await self._world.run_hook(
                    "before_build",
                    hook,
                    {"DEVLOOP_SERVICE": name},
                    lambda line: self._world.emit(Output(name, "before_build", line)),
                )
            after = await self._take(replace(change, paths=frozenset()), watch)
            self._read = after[0]
        finally:
            self._over.set()
        self._note(before[0].digest if before else "", after[0].digest)
        return after

    def _note(self, before: str, after: str) -> None:
        self._runs = self._runs + 1 if before and before == self._left else 1
        self._left = after
        if before == after:
            self._settled = after
        elif self._runs >= MOST_RUNS:
            self._settled = after
            what = f"before_build wrote something else each of {MOST_RUNS} times in a row: left at that"
            hint = "is there a date, a random number or an order of its own in what it generates?"
            self._world.emit(Notice(self._service.name, "warning", what, hint))

    async def _take(self, change: Change, watch: Stopwatch) -> Look:
        service, world, limit = self._service, self._world, self._service.build.idle_timeout
        late = partial(_stands_still, service)
        with watch.time("fingerprint"):
            longest = max(limit, service.build.pull_idle_timeout)  # a pull ends with an error of its own
            fingerprint = await bounded(partial(world.fingerprinter.take, service, change), longest, late)
            return fingerprint, await bounded(partial(world.loader.find, service, fingerprint), limit, late)


def _stands_still(service: Service, activity: Activity) -> PlatformError:
    return PlatformError(
        f"looking at the tree and the images of {service.name}: no answer for {activity.idle:.0f} s",
        reason="NoAnswer",
        evidence=activity.lines,
        hint="do the build engine and the nodes answer? devloop doctor checks each",
    )
