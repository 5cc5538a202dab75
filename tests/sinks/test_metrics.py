"""The metrics: exactly those of the issue, with the spans' own numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from devloop.clock import Clock
from devloop.events import LiveChanged, WatchBatch, WatchOverflow
from devloop.sinks.metrics import BUCKETS, Metrics
from devloop.sinks.status import StatusBoard
from tests.support.trips import failed_trip, live_trip, of

NAMES = {
    "devloop_deployment_state": {"service", "state"},
    "devloop_pods": {"service", "state"},
    "devloop_stage_duration_seconds": {"service", "stage", "outcome"},
    "devloop_rollout_phase_seconds": {"service", "phase"},
    "devloop_trip_duration_seconds": {"service", "outcome"},
    "devloop_trips_total": {"service", "outcome"},
    "devloop_builds_total": {"service", "how"},
    "devloop_loads_total": {"service", "how"},
    "devloop_load_bytes_total": {"service", "kind"},
    "devloop_live": {"service"},
    "devloop_paused": {"service"},
    "devloop_pending": {"service"},
    "devloop_image_size_bytes": {"service"},
    "devloop_watch_events_total": set(),
    "devloop_watch_overflows_total": set(),
    "devloop_build_info": {"version", "python"},
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3", ["backend"])


def busy(metrics: Metrics) -> None:
    """Every metric has a value after this."""
    clock = Clock()
    live_trip(metrics, clock)
    failed_trip(metrics, clock, trip=2)
    metrics(WatchBatch(3, frozenset({Path("/a")})))
    metrics(WatchOverflow("why"))


def test_the_metrics_are_exactly_those_with_exactly_their_labels(metrics: Metrics) -> None:
    busy(metrics)
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        assert family.documentation
        for sample in family.samples:
            name = (
                re.sub(r"_(bucket|sum|count)$", "", sample.name)
                if family.type == "histogram"
                else sample.name
            )
            found.setdefault(name, set()).update(sample.labels.keys() - {"le"})
    assert found == NAMES


def test_buckets_go_from_5_ms_to_10_minutes() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.005, 600)
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_s32_the_histograms_agree_with_the_spans(metrics: Metrics) -> None:
    clock = Clock()
    board = StatusBoard("1", Path("/c"), "p", ["backend"], clock.now())

    def both(event: object) -> None:
        metrics(event)  # type: ignore[arg-type]
        board(event)  # type: ignore[arg-type]

    outcomes = [live_trip(both, clock, trip=number) for number in range(1, 11)]
    value = metrics.registry.get_sample_value
    for stage in ("detect", "fingerprint", "build", "load", "patch", "rollout"):
        labels = {"service": "backend", "stage": stage, "outcome": "ok"}
        assert value("devloop_stage_duration_seconds_count", labels) == 10
        total = sum(of(outcome)[stage] for outcome in outcomes)
        assert value("devloop_stage_duration_seconds_sum", labels) == pytest.approx(total)
        shown = sum(trip["seconds"][stage] for trip in board.answer()["services"]["backend"]["trips"])
        assert shown == pytest.approx(total)
    labels = {"service": "backend", "outcome": "live"}
    total = sum(trip["seconds"]["trip"] for trip in board.answer()["services"]["backend"]["trips"])
    assert value("devloop_trip_duration_seconds_sum", labels) == pytest.approx(total)
    assert value("devloop_trips_total", labels) == 10


def test_a_failure_is_counted_and_the_service_is_not_live(metrics: Metrics) -> None:
    clock = Clock()
    live_trip(metrics, clock)
    value = metrics.registry.get_sample_value
    assert value("devloop_live", {"service": "backend"}) == 1
    failed_trip(metrics, clock)
    assert value("devloop_live", {"service": "backend"}) == 0
    assert value("devloop_trips_total", {"service": "backend", "outcome": "failed"}) == 1
    failed = {"service": "backend", "stage": "build", "outcome": "failed"}
    assert value("devloop_stage_duration_seconds_count", failed) == 1


def test_a_paused_or_pending_service_is_counted_as_that(metrics: Metrics) -> None:
    live_trip(metrics, Clock())
    value = metrics.registry.get_sample_value
    for state in ("live", "paused", "working", "pending", "working"):
        metrics(LiveChanged("backend", state == "live", "", state))
        assert value("devloop_paused", {"service": "backend"}) == (state == "paused")
        assert value("devloop_pending", {"service": "backend"}) == (state == "pending")
        assert value("devloop_live", {"service": "backend"}) == (state == "live")


def test_images_loads_and_file_events_are_counted(metrics: Metrics) -> None:
    busy(metrics)
    value = metrics.registry.get_sample_value
    assert value("devloop_builds_total", {"service": "backend", "how": "cli"}) == 1
    assert value("devloop_loads_total", {"service": "backend", "how": "shared"}) == 1
    assert value("devloop_load_bytes_total", {"service": "backend", "kind": "sent"}) == 1000
    assert value("devloop_load_bytes_total", {"service": "backend", "kind": "skipped"}) == 118_999_000
    assert value("devloop_image_size_bytes", {"service": "backend"}) == 119_000_000
    assert value("devloop_watch_events_total") == 3
    assert value("devloop_watch_overflows_total") == 1


def test_a_service_is_there_before_its_first_trip(metrics: Metrics) -> None:
    assert metrics.registry.get_sample_value("devloop_live", {"service": "backend"}) == 0


@pytest.mark.slow
def test_promtool_finds_nothing_to_say(metrics: Metrics) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "apt-get install --no-install-recommends prometheus"
    busy(metrics)
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics.render(), capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_metric_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name, labels in NAMES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        for label in labels:
            assert label in row
