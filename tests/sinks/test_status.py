"""/api/status: the last 50 trips with exact spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devloop.clock import Clock
from devloop.events import ConfigReloaded, Forwarded, LiveChanged, Notice, StageStarted
from devloop.sinks.outcomes import describe
from devloop.sinks.status import StatusBoard
from tests.support.trips import REF, ROOT, URL, failed_trip, live_trip


def board() -> StatusBoard:
    return StatusBoard("1.2.3", ROOT / "config.yaml", "abc", ["backend", "web"], 5.0)


def test_s32_the_last_50_trips_are_kept_with_their_spans() -> None:
    status, clock = board(), Clock()
    outcomes = [live_trip(status, clock, trip=number) for number in range(1, 61)]
    trips = status.answer()["services"]["backend"]["trips"]
    assert [trip["trip"] for trip in trips] == list(range(11, 61))
    for trip, outcome in zip(trips, outcomes[10:], strict=True):
        assert [(span["stage"], span["seconds"]) for span in trip["spans"]] == [
            (span.stage, span.seconds) for span in outcome.timing.spans
        ]
        assert trip["seconds"]["trip"] == outcome.timing.trip
        assert trip["phases"] == {"serving": 0.68}


def test_the_answer_has_the_documented_shape() -> None:
    status, clock = board(), Clock()
    live_trip(status, clock)
    answer: dict[str, Any] = json.loads(json.dumps(status.answer()))
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    documented = json.loads(text.split("```json\n")[1].partition("```")[0])
    assert answer.keys() == documented.keys()
    service, example = answer["services"]["backend"], documented["services"]["backend"]
    assert service.keys() == example.keys()
    assert service["trips"][0].keys() == example["trips"][0].keys()
    assert service["trips"][0]["spans"][0].keys() == example["trips"][0]["spans"][0].keys()
    assert service["trips"][0]["seconds"].keys() == example["trips"][0]["seconds"].keys()
    assert (service["live"], service["state"], service["image"], service["url"]) == (True, "live", REF, URL)
    assert answer["services"]["web"] == {
        "state": "starting", "live": False, "deployment": "Not Deployed", "pods": {}, "synced": 0,
        "stage": None, "stage_started_at": None, "image": None, "url": None, "forwards": [], "trips": [],
    }  # fmt: skip


def test_a_running_stage_and_a_lost_service_are_shown() -> None:
    status, clock = board(), Clock()
    live_trip(status, clock)
    status(StageStarted("backend", "build", 7.0))
    status(LiveChanged("backend", False, REF, "degraded"))
    service = status.answer()["services"]["backend"]
    assert (service["stage"], service["stage_started_at"], service["state"]) == ("build", 7.0, "degraded")
    live_trip(status, clock, trip=2)
    assert status.answer()["services"]["backend"]["stage"] is None


def test_a_failure_has_its_evidence_and_changed_files() -> None:
    status, clock = board(), Clock()
    failed = failed_trip(status, clock)
    trip = status.answer()["services"]["backend"]["trips"][-1]
    assert trip["paths"] == [str(ROOT / "backend" / "Dockerfile")]
    assert {key: trip[key] for key in describe(failed)} == describe(failed)


def test_what_is_wrong_with_manifests_is_shown_until_it_is_mended() -> None:
    status = board()
    for message in ("k8s/a.yaml:1: no", "k8s/b.yaml:7: not so"):
        status(Notice("", "error", message, about="manifests"))
    status(Notice("web", "error", "contested: helm keeps writing another image"))
    assert status.answer()["problems"] == {"manifests": "k8s/b.yaml:7: not so"}
    status(Notice("", "info", "all of them are applied", about="manifests"))
    assert status.answer()["problems"] == {}


def test_a_forwarded_port_is_the_url_as_long_as_it_is_open() -> None:
    status, clock = board(), Clock()
    live_trip(status, clock)
    for url, port in (("http://localhost:8080", 3000), ("http://localhost:9229", 9229)):
        status(Forwarded("backend", url, port))
    status(ConfigReloaded(("backend",)))  # its ports stay open
    service = status.answer()["services"]["backend"]
    assert service["url"] == "http://localhost:8080"
    assert service["forwards"] == [
        {"url": "http://localhost:8080", "port": 3000},
        {"url": "http://localhost:9229", "port": 9229},
    ]
    live_trip(status, clock, trip=2)
    status(Forwarded("backend", "http://localhost:8080", 3000, open=False))
    assert status.answer()["services"]["backend"]["url"] == "http://localhost:9229"
    status(Forwarded("backend", "http://localhost:9229", 9229, open=False))
    service = status.answer()["services"]["backend"]
    assert (service["url"], service["forwards"]) == (URL, [])
