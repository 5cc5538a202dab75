"""The only clock, and the only emitter of stage events: whatever ends a stage, it is timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from devloop import activity
from devloop.clock import Clock
from devloop.events import Emit, StageEnded, StageStarted
from devloop.model import Change, Phase, Span, Stage, Timing

JUMP = 1.0  # seconds that wall clock and ticks may differ by before phases are called coarse


class Stopwatch:
    """Times the stages of one trip. `stage` is the one that runs or ran last, `stage_since` its start."""

    def __init__(self, service: str, change: Change, clock: Clock, emit: Emit) -> None:
        self._service, self._clock, self._emit = service, clock, emit
        self._origin = change.saved_at
        self._spans: list[Span] = []
        self._phases: dict[Phase, float] = {}
        self._coarse: set[Phase] = set()
        self.stage: Stage = "detect"
        self.reason = ""  # what the rollout waited for most of its time
        self._begun, self._started = clock.now(), clock.ticks()
        self.stage_since = self._started  # in ticks
        self._detect = max(0.0, self._begun - self._origin)
        self._end("detect", self._origin, self._detect, "ok")

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Run one stage; success, failure and cancellation all leave a span and an event."""
        self.stage = stage
        begun, self.stage_since = self._clock.now(), self._clock.ticks()
        ticks = self.stage_since
        activity.note()
        self._emit(StageStarted(self._service, stage, begun))
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._end(stage, begun, self._clock.ticks() - ticks, "cancelled")
            raise
        except BaseException:
            self._end(stage, begun, self._clock.ticks() - ticks, "failed")
            raise
        self._end(stage, begun, self._clock.ticks() - ticks, "ok")

    def phase(self, phase: Phase, seconds: float, *, coarse: bool = False) -> bool:
        """Note when a rollout phase was reached; the first time counts. True if it was new.

        `seconds` is taken from the wall clock: where that jumped meanwhile, they are no longer than the trip.
        """
        if phase in self._phases:
            return False
        now = self._clock.ticks()
        if abs((self._clock.now() - self._begun) - (now - self._started)) > JUMP:
            coarse, seconds = True, min(max(0.0, seconds), now - self._started)
        self._phases[phase] = seconds
        if coarse:
            self._coarse.add(phase)
        return True

    def noted(self, phase: Phase) -> tuple[float, bool]:
        """Seconds, and whether they are coarse, of a phase that was noted."""
        return self._phases[phase], phase in self._coarse

    def timing(self) -> Timing:
        return Timing(
            self._origin,
            self._detect + self._clock.ticks() - self._started,
            tuple(self._spans),
            dict(self._phases),
            frozenset(self._coarse),
            self.reason,
        )

    def _end(self, stage: Stage, begun: float, seconds: float, outcome: str) -> None:
        assert outcome in ("ok", "failed", "cancelled")
        self._spans.append(Span(stage, begun, seconds, outcome))  # type: ignore[arg-type]
        ended = self._clock.now()
        self._emit(StageEnded(self._service, stage, ended, seconds, outcome))  # type: ignore[arg-type]
