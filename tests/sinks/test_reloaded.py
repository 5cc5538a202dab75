"""What every sink makes of a config.yaml that was taken: who left is gone, who changed start over (S28)."""

from __future__ import annotations

from pathlib import Path

from devloop.clock import Clock
from devloop.events import ConfigReloaded, LiveChanged, PodsCounted, StageEnded, StateChanged
from devloop.sinks.fan import Fan
from devloop.sinks.metrics import Metrics
from devloop.sinks.status import StatusBoard
from tests.support.trips import live_trip


def sinks() -> tuple[Fan, Metrics, StatusBoard]:
    fan, names = Fan(), ["backend", "other"]
    metrics = Metrics("1", names)
    board = StatusBoard("1", Path("/c"), "p", names, Clock().now())
    fan.sinks += [metrics, board]
    live_trip(fan, Clock())
    fan(PodsCounted("backend", {"Ready": 2}))
    fan(StateChanged("backend", "Deployed", "Running"))
    return fan, metrics, board


def samples_of(metrics: Metrics, service: str) -> list[str]:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return [sample.name for sample in samples if sample.labels.get("service") == service]


def test_s28_a_service_that_left_is_in_no_metric_and_on_no_board() -> None:
    fan, metrics, board = sinks()
    assert samples_of(metrics, "backend")
    fan(ConfigReloaded((), ("backend",)))
    assert samples_of(metrics, "backend") == []
    assert list(board.answer()["services"]) == ["other"]
    assert samples_of(metrics, "other")


def test_s28_what_its_last_trip_still_tells_brings_nothing_back() -> None:
    fan, metrics, board = sinks()
    fan(ConfigReloaded((), ("backend",)))
    fan(StageEnded("backend", "build", 1.0, 1.0, "cancelled"))
    fan(LiveChanged("backend", True, "x", "live"))
    fan(PodsCounted("backend", {"Ready": 1}))
    assert samples_of(metrics, "backend") == []
    assert list(board.answer()["services"]) == ["other"]
    fan(ConfigReloaded(("backend",)))
    fan(LiveChanged("backend", True, "x", "live"))
    assert metrics.registry.get_sample_value("devloop_live", {"service": "backend"}) == 1
    assert board.answer()["services"]["backend"]["live"]


def test_s28_a_service_with_other_targets_is_not_shown_as_the_old_ones_were() -> None:
    fan, metrics, board = sinks()
    fan(ConfigReloaded(("backend",)))
    value = metrics.registry.get_sample_value
    assert value("devloop_live", {"service": "backend"}) == 0
    assert value("devloop_pods", {"service": "backend", "state": "Ready"}) == 0
    assert value("devloop_deployment_state", {"service": "backend", "state": "Not Deployed"}) == 1
    assert value("devloop_trips_total", {"service": "backend", "outcome": "live"}) == 1
    card = board.answer()["services"]["backend"]
    assert not card["live"]
    assert card["pods"] == {}
    assert len(card["trips"]) == 1
