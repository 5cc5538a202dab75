"""Where a service stands at this moment: what is shown of it, and what others wait for."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from devloop.events import Emit, LiveChanged
from devloop.model import Change, Outcome, Stuck


@dataclass(frozen=True, slots=True)
class Standing:
    """`word`: the state that is shown; `live`: whether the ready pods run exactly the tree that the last trip
    looked at. `busy`: a trip runs, or is to begin by itself. `outcome`, `change`: of the last trip that
    ended, None before; `began`: when it began to look at the tree, in ticks of the clock. `next`: the same
    of the trip that runs, 0 where none does. `trouble`: why a service that is degraded stays so by itself.
    """

    word: str = "starting"
    live: bool = False
    busy: bool = True
    outcome: Outcome | None = None
    change: Change | None = None
    began: float = 0.0
    next: float = 0.0
    trouble: Stuck | None = None


class Shown:
    """The word and the liveness of one service, each change of them emitted once."""

    def __init__(self, service: str, emit: Emit) -> None:
        self._service, self._emit = service, emit
        self._last = ("starting", False)
        self._moved = anyio.Event()

    def show(self, word: str, live: bool, ref: str) -> None:
        if self._last != (word, live):
            self._last = word, live
            self._emit(LiveChanged(self._service, live, ref, word))
            self.stir()

    @property
    def next_move(self) -> anyio.Event:
        """Set when what is shown or the cluster changes, or a trip begins or ends, from now on."""
        return self._moved

    def stir(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()
