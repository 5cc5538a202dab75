"""An engine, API server or registry that goes is reported once, whoever needs it; so is its return."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from devloop.errors import BuildError, DevloopError, PlatformError
from devloop.events import API_SERVER, ConfigReloaded, Event, Outage, StageEnded, TripEnded, TripStarted
from devloop.model import Change, Failed, Superseded, Timing, Unchanged
from devloop.sinks.fan import Fan
from devloop.sinks.outages import Outages
from devloop.sinks.plain import Plain
from devloop.sinks.status import StatusBoard
from tests.support.trips import FINGERPRINT, REF, ROOT

NOTHING = Timing(0.0, 0.25, ())
ENGINE = "engine unix:///run/docker.sock"
GONE = PlatformError(
    f"build {ENGINE} is not reachable: No such file", reason="EngineGone", hint="start it", outage=ENGINE
)
LINE = f"build {ENGINE} is not reachable: No such file; trying again -> start it"


def failed(service: str, error: DevloopError = GONE, paths: Sequence[str] = ()) -> TripEnded:
    changed = frozenset(ROOT / path for path in paths)
    return TripEnded(service, 1, 0.0, Failed("fingerprint", error, NOTHING, None, changed))


def passed(service: str, stage: str = "fingerprint") -> StageEnded:
    return StageEnded(service, stage, 0.0, 0.1, "ok")  # type: ignore[arg-type]


class Session:
    """What a `watch` shows of events, without a terminal."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.board = StatusBoard("1", Path("/c"), "p", ("a", "b", "c"), 0.0)
        self.emit = Fan()
        self.emit.sinks += [Outages(self.emit), self.board, Plain(self._stream, ROOT)]

    def lines(self, *events: Event) -> list[str]:
        before = len(self._stream.getvalue())
        for event in events:
            self.emit(event)
        return self._stream.getvalue()[before:].splitlines()


def test_an_engine_that_goes_is_one_line_for_all_services_and_so_is_its_return() -> None:
    session = Session()
    assert session.lines(failed("a"), failed("b"), failed("a"), failed("c")) == [LINE]
    assert session.board.answer()["problems"] == {ENGINE: f"build {ENGINE} is not reachable: No such file"}
    assert session.lines(passed("b"), passed("a"), passed("c")) == [f"{ENGINE} is back"]
    assert session.board.answer()["problems"] == {}
    assert session.lines(failed("c")) == [LINE], "the next outage is another one"


def test_a_save_meanwhile_says_what_it_waits_for() -> None:
    session = Session()
    session.lines(failed("a"))
    saved = TripStarted("b", 1, 0.0, Change(frozenset({ROOT / "x.py"}), 0.0, 0.0))
    assert session.lines(saved, failed("b", paths=["x.py"])) == [
        "b | saved: x.py",
        f"b | waiting for the {ENGINE}",
    ]


def test_a_stage_that_needs_no_engine_does_not_bring_it_back() -> None:
    session = Session()
    session.lines(failed("a"))
    superseded = TripEnded("a", 1, 0.0, Superseded("build", NOTHING))
    assert not [
        line for line in session.lines(passed("a", "rollout"), passed("b"), superseded) if "back" in line
    ]


@pytest.mark.parametrize(
    "outcome",
    [Unchanged(FINGERPRINT, REF, NOTHING), Failed("build", BuildError("no"), NOTHING)],
)
def test_a_trip_that_gets_further_brings_it_back(outcome: Unchanged | Failed) -> None:
    session = Session()
    session.lines(failed("a"))
    assert session.lines(TripEnded("a", 2, 0.0, outcome))[0] == f"{ENGINE} is back"


def test_two_outages_are_two_lines() -> None:
    registry = PlatformError("registry 127.0.0.1:5000: refused", outage="registry 127.0.0.1:5000")
    session = Session()
    assert len(session.lines(failed("a"), failed("b", registry), failed("c", registry))) == 2
    assert session.lines(passed("c")) == ["registry 127.0.0.1:5000 is back"]
    assert session.lines(passed("a")) == [f"{ENGINE} is back"]


def test_the_api_server_is_reported_once_whoever_notices_first() -> None:
    watched = Outage(API_SERVER, False, "no API server answers at https://127.0.0.1:1", "start it")
    error = PlatformError("no API server answers at https://127.0.0.1:1", hint="start it", outage=API_SERVER)
    for events in ([watched, failed("a", error)], [failed("a", error), watched]):
        session = Session()
        assert session.lines(*events, failed("b", error)) == [
            "no API server answers at https://127.0.0.1:1; trying again -> start it"
        ]
        assert session.lines(Outage(API_SERVER, True), passed("a")) == ["API server is back"]


def test_a_service_that_left_waits_for_nothing() -> None:
    session = Session()
    session.lines(failed("a"))
    assert session.lines(ConfigReloaded((), ("a",))) == ["config.yaml reloaded: a is gone"]
    assert session.lines(passed("b", "rollout")) == []
    assert session.lines(passed("b")) == [f"{ENGINE} is back"]


def test_what_is_no_outage_is_reported_for_each_service() -> None:
    session = Session()
    other = PlatformError("the cluster has no nodes", reason="NoNodes")
    lines = session.lines(failed("a", other), failed("b", other))
    assert len([line for line in lines if "FAILED in fingerprint" in line]) == 2
