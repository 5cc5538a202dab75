"""Services at rest, looked at slowly: what changed without a file event is found here (S8, S39).

A write through another hard link, through mmap, or by another machine makes no event. A look costs a stat
of each input; the pause between two is so long that it costs a thousandth of a core at most.
"""

from __future__ import annotations

from typing import Protocol

import anyio

from devloop.clock import Clock
from devloop.model import Change, Outcome, Service

SHORTEST = 30.0  # seconds between two looks
REST = 1000  # a look may take 1/1000 of the time


class InputsAtRest(Protocol):
    """The fingerprinter, as far as it is asked here."""

    async def looks_the_same(self, service: Service) -> bool: ...


class RestingWorker(Protocol):
    """The worker of a service (trip/worker.py), as far as it is asked here."""

    @property
    def service(self) -> Service: ...

    @property
    def outcome(self) -> Outcome | None: ...

    @property
    def has_change(self) -> bool: ...

    def deliver(self, change: Change) -> None: ...


class Rescan:
    """`follow` runs beside each worker; it observes trips, for nobody looks while a trip does."""

    def __init__(self, inputs: InputsAtRest, clock: Clock, *, shortest: float = SHORTEST) -> None:
        self._inputs, self._clock, self._shortest = inputs, clock, shortest
        self._trips: set[str] = set()
        self.looks = 0

    def begun(self, service: Service) -> None:
        self._trips.add(service.name)

    def ended(self, service: Service, outcome: Outcome) -> None:
        self._trips.discard(service.name)

    async def follow(self, worker: RestingWorker) -> None:
        """Deliver a change to the worker when its inputs do not look as they did; until cancelled."""
        pause = self._shortest
        while True:
            await anyio.sleep(pause)
            if not self._at_rest(worker):
                continue
            begun = self._clock.ticks()
            same = await self._inputs.looks_the_same(worker.service)
            self.looks += 1
            pause = max(self._shortest, REST * (self._clock.ticks() - begun))
            if not same and self._at_rest(worker):
                now = self._clock.now()
                worker.deliver(Change(frozenset(), now, now, "a change without a file event"))

    def _at_rest(self, worker: RestingWorker) -> bool:
        """A trip that failed before it had read the inputs has nothing to compare with. What is collected for
        a service that is paused is known already."""
        read = worker.outcome is not None and getattr(worker.outcome, "fingerprint", None) is not None
        return read and not worker.has_change and worker.service.name not in self._trips
