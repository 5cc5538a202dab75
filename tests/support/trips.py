"""Trips as the stopwatch tells them, for the sinks' tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from devloop.clock import Clock
from devloop.errors import BuildError, DevloopError
from devloop.events import (
    Emit,
    ImageBuilt,
    ImageLoaded,
    LiveChanged,
    RolloutPhase,
    StageEnded,
    StageStarted,
    TripEnded,
    TripStarted,
)
from devloop.model import (
    Change,
    Failed,
    Fingerprint,
    Image,
    Inputs,
    Live,
    LoadedImage,
    Outcome,
    PodView,
    Rollout,
    Span,
    Stage,
    Timing,
)
from devloop.stopwatch import Stopwatch

ROOT = Path("/project")
FINGERPRINT = Fingerprint("0123456789abcdef", Inputs({}, (), "linux/amd64", "", ""))
REF = "todo-backend:dl-0123456789abcdef"
URL = "http://127.0.0.1:30081"
POD = PodView("todo-backend-7d9f-abcde", "default", "u1", "7d9f", "Running", True, False, True, "", ())


def image(service: str = "backend") -> Image:
    return Image(service, FINGERPRINT, REF, "sha256:1", "cli", 119_000_000)


def live_trip(
    emit: Emit,
    clock: Clock,
    *,
    service: str = "backend",
    trip: int = 1,
    stages: Sequence[Stage] = ("fingerprint", "build", "load", "patch", "rollout"),
    paths: frozenset[Path] = frozenset({ROOT / "backend" / "main.py"}),
) -> Live:
    """A whole trip that ends live; every event that a real one emits, in its order."""
    change = Change(paths, clock.now(), clock.now() - 0.01)
    emit(TripStarted(service, trip, clock.now(), change))
    watch = Stopwatch(service, change, clock, emit)
    built = image(service)
    loaded = LoadedImage(built, ("node",), "shared", 1000, 118_999_000)
    for stage in stages:
        with watch.time(stage):
            if stage == "build":
                emit(ImageBuilt(service, built.ref, built.how, built.size))
            elif stage == "load":
                emit(ImageLoaded(service, built.ref, loaded.how, loaded.sent, loaded.skipped))
            elif stage == "rollout" and watch.phase("serving", 0.68):
                emit(RolloutPhase(service, "serving", 0.68))
    outcome = Live(Rollout(loaded, (), (POD,)), watch.timing(), URL)
    emit(TripEnded(service, trip, clock.now(), outcome))
    emit(LiveChanged(service, True, REF, "live"))
    return outcome


def failed_trip(
    emit: Emit, clock: Clock, *, service: str = "backend", trip: int = 1, error: DevloopError | None = None
) -> Failed:
    change = Change(frozenset({ROOT / "backend" / "Dockerfile"}), clock.now(), clock.now())
    emit(TripStarted(service, trip, clock.now(), change))
    watch = Stopwatch(service, change, clock, emit)
    error = error or BuildError(
        "RUN pip install nothing: exit code 1",
        reason="InstructionFailed",
        evidence=("ERROR: no such package", "Dockerfile:4: RUN pip install nothing"),
        hint="mend line 4 of the Dockerfile",
    )
    emit(StageStarted(service, "build", clock.now()))
    span = Span("build", clock.now(), 0.25, "failed")  # a stopwatch tells failures in an event loop only
    emit(StageEnded(service, "build", clock.now(), span.seconds, span.outcome))
    before = watch.timing()
    timing = Timing(before.started_at, before.trip + span.seconds, (*before.spans, span))
    outcome = Failed("build", error, timing, FINGERPRINT, change.paths)
    emit(TripEnded(service, trip, clock.now(), outcome))
    emit(LiveChanged(service, False, "", "failed"))
    return outcome


def of(outcome: Outcome) -> dict[str, float]:
    """Stage -> seconds of the spans, and the trip's."""
    return outcome.timing.seconds()
