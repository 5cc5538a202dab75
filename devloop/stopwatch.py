"""The only clock, and the only emitter of stage events: whatever ends a stage, it is timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from devloop import activity
from devloop.events import Emit, StageEnded, StageStarted
from devloop.model import Change, Phase, Span, Stage, Timing


class Clock:
    """Seconds since the epoch that never jump: the wall clock at start plus monotonic time."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()


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
        self.stage_since = begun = clock.now()
        self._end("detect", self._origin, begun, "ok")

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Run one stage; success, failure and cancellation all leave a span and an event."""
        self.stage = stage
        self.stage_since = begun = self._clock.now()
        activity.note()
        self._emit(StageStarted(self._service, stage, begun))
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._end(stage, begun, self._clock.now(), "cancelled")
            raise
        except BaseException:
            self._end(stage, begun, self._clock.now(), "failed")
            raise
        self._end(stage, begun, self._clock.now(), "ok")

    def phase(self, phase: Phase, seconds: float, *, coarse: bool = False) -> bool:
        """Note when a rollout phase was reached; the first time counts. True if it was new."""
        if phase in self._phases:
            return False
        self._phases[phase] = seconds
        if coarse:
            self._coarse.add(phase)
        return True

    def timing(self) -> Timing:
        return Timing(
            self._origin,
            max(0.0, self._clock.now() - self._origin),
            tuple(self._spans),
            dict(self._phases),
            frozenset(self._coarse),
            self.reason,
        )

    def _end(self, stage: Stage, begun: float, ended: float, outcome: str) -> None:
        seconds = max(0.0, ended - begun)
        assert outcome in ("ok", "failed", "cancelled")
        self._spans.append(Span(stage, begun, seconds, outcome))  # type: ignore[arg-type]
        self._emit(StageEnded(self._service, stage, ended, seconds, outcome))  # type: ignore[arg-type]
