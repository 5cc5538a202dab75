"""`devloop history`: what the journal says of trips that ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from devloop.clock import Clock
from devloop.events import Event, TripStarted
from devloop.sinks.journal import FILE_NAME, Journal
from devloop.sinks.past_trips import COLUMNS, as_table, past_trips
from tests.support.trips import ROOT, failed_trip, live_trip


def test_s27_the_journal_gives_the_trips_back(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock()) as journal:
        live_trip(journal, Clock())
        failed_trip(journal, Clock(), service="frontend")
    live, failed = past_trips(tmp_path, (), 10)
    assert (live["service"], live["outcome"], live["why"]) == ("backend", "live", "saved")
    assert (live["paths"], live["count"]) == (["/project/backend/main.py"], 1)
    assert live["fingerprint"] == "0123456789abcdef"
    assert live["seconds"]["trip"] > 0
    assert live["started_at"] <= live["ended_at"]
    assert (failed["outcome"], failed["error"]["stage"]) == ("failed", "build")
    assert [trip["service"] for trip in past_trips(tmp_path, ["frontend"], 10)] == ["frontend"]


def test_the_newest_are_the_last_also_over_a_rotation(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock(), largest=20_000) as journal:
        for number in range(1, 12):
            live_trip(journal, Clock(), trip=number, paths=frozenset({ROOT / f"{number}.py"}))
    assert (tmp_path / f"{FILE_NAME}.1").exists()
    assert [trip["paths"] for trip in past_trips(tmp_path, (), 2)] == [["/project/10.py"], ["/project/11.py"]]


def test_trips_of_two_services_side_by_side_have_their_own_reasons(tmp_path: Path) -> None:
    events: dict[str, list[Event]] = {"backend": [], "frontend": []}
    for name, kept in events.items():
        live_trip(kept.append, Clock(), service=name, paths=frozenset({ROOT / name}))
    with Journal(tmp_path, Clock()) as journal:
        for pair in zip(*events.values(), strict=True):
            for event in pair:
                journal(event)
    found = {trip["service"]: trip["paths"] for trip in past_trips(tmp_path, (), 10)}
    assert found == {"backend": ["/project/backend"], "frontend": ["/project/frontend"]}


@pytest.mark.parametrize(("trip", "shown"), [(failed_trip, 0), (live_trip, 1)])
def test_a_look_that_nobody_asked_for_is_shown_if_it_ended_live(
    tmp_path: Path, trip: object, shown: int
) -> None:
    with Journal(tmp_path, Clock()) as journal:

        def emit(event: Event) -> None:
            journal(replace(event, quiet=True) if isinstance(event, TripStarted) else event)

        trip(emit, Clock())  # type: ignore[operator]
    assert len(past_trips(tmp_path, (), 10)) == shown


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"trip_ended"',
        b'{"event":"trip_ended"}',
        b'{"event":"trip_ended","service":"backend"}',
        b'{"event":"trip_ended","service":"backend","outcome":"live","at":"yesterday"}',
        b'["event":"trip_ended"]',
        b"\xff\xfe\x00",
        b'{"event":"trip_started","service":"backend","change":7}',
    ],
)
def test_what_is_damaged_is_passed_over(tmp_path: Path, line: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(line + b"\n")
    with Journal(tmp_path, Clock()) as journal:
        live_trip(journal, Clock())
    assert [trip["outcome"] for trip in past_trips(tmp_path, (), 10)] == ["live"]


def test_without_a_journal_there_are_none(tmp_path: Path) -> None:
    assert past_trips(tmp_path, (), 10) == []


def test_the_table_names_files_relative_to_the_project_and_counts_the_rest(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock()) as journal:
        live_trip(journal, Clock(), paths=frozenset(ROOT / f"{number}.py" for number in range(5)))
        failed_trip(journal, Clock())
    head, live, failed = as_table(past_trips(tmp_path, (), 10), ROOT).splitlines()
    assert tuple(head.split()) == COLUMNS
    assert live.endswith("0123456789abcdef  saved  0.py, 1.py, 2.py and 2 more")
    assert "failed in build" in failed


def test_each_trip_can_be_dumped_as_json(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock()) as journal:
        live_trip(journal, Clock())
    (trip,) = past_trips(tmp_path, (), 1)
    assert json.loads(json.dumps(trip)) == trip
