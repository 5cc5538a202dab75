"""The terminal: living lines below, what happened above, read back from a real pseudo-terminal's bytes."""

from __future__ import annotations

import io
import os
import pty
import re
import select
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest

from devloop.clock import Clock
from devloop.errors import PlatformError, RolloutError
from devloop.events import (
    Event,
    LiveChanged,
    Notice,
    Outage,
    Output,
    PodExited,
    PodLog,
    Progress,
    RolloutPhase,
    StageEnded,
    StageStarted,
    StateChanged,
    TripEnded,
    TripStarted,
)
from devloop.model import Change, Live
from devloop.sinks.console import Terminal
from tests.support.trips import REF, ROOT, URL, failed_trip, live_trip

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class At(Clock):
    """A clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def ticks(self) -> float:
        return super().ticks() + self.ahead


class Screen:
    """A pseudo-terminal: what was written, with and without its escape sequences."""

    def __init__(self) -> None:
        self._controller, terminal = pty.openpty()
        self.stream = io.TextIOWrapper(os.fdopen(terminal, "wb", buffering=0), "utf-8", write_through=True)
        self.raw = ""

    def read(self) -> str:
        while select.select([self._controller], [], [], 0.05)[0]:
            self.raw += os.read(self._controller, 65536).decode("utf-8", "replace")
        return ESCAPE.sub("", self.raw)

    def close(self) -> None:
        self.stream.close()
        os.close(self._controller)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "160"), ("LINES", "40")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen()
    yield screen
    screen.close()


def terminal(screen: Screen, clock: Clock | None = None, *, logs: bool = True) -> Terminal:
    services = ["backend", "web"]
    return Terminal(services, ROOT, clock or Clock(), logs=logs, stream=screen.stream)


def begin(sink: Terminal, clock: Clock) -> None:
    change = Change(frozenset({ROOT / "a.py"}), clock.now(), clock.now())
    sink(TripStarted("backend", 1, clock.now(), change))
    sink(StageStarted("backend", "build", clock.now()))


def test_a_live_trip_shows_what_happened_and_a_living_line_per_service(screen: Screen) -> None:
    with terminal(screen) as sink:
        live_trip(sink, Clock())
    text = screen.read()
    assert "backend | saved: backend/main.py" in text
    assert REF in text
    last = [line.strip() for line in screen.read().replace("\r", "\n").splitlines() if line.strip()][-2:]
    assert last[0].startswith("● backend live in ")
    assert last[0].endswith(URL)
    assert last[1] == "● web     starting"


def test_s17_a_service_without_a_deploy_is_built_and_not_live(screen: Screen) -> None:
    events: list[Event] = []
    live_trip(events.append, Clock())
    with terminal(screen) as sink:
        for event in events:
            if isinstance(event, TripEnded) and isinstance(event.outcome, Live):
                rollout = replace(event.outcome.rollout, revisions=(), pods=())
                event = replace(event, outcome=replace(event.outcome, rollout=rollout, url=None))
            sink(event)
    last = [line.strip() for line in screen.read().replace("\r", "\n").splitlines() if line.strip()][-2:]
    assert last[0].startswith("● backend built in ")
    assert "live" not in last[0]


def test_a_failure_is_red_with_its_block(screen: Screen) -> None:
    with terminal(screen) as sink:
        failed_trip(sink, Clock())
    text = screen.read()
    for line in (
        "| ERROR: no such package",
        "changed: backend/Dockerfile",
        "-> mend line 4 of the Dockerfile",
    ):
        assert line in text
    assert "\x1b[31mFAILED in build" in screen.raw


def test_the_living_line_of_a_failure_begins_with_its_cause(screen: Screen) -> None:
    clock, cause = At(), "SyntaxError: invalid syntax (greeting.py, line 1)"
    error = RolloutError("it ended", reason="CrashLoopBackOff", cause=cause)
    with terminal(screen, clock) as sink:
        begin(sink, clock)
        sink(StageStarted("backend", "rollout", clock.now()))
        sink(PodExited("backend", "todo-1", "app", 1, "Error", (), cause))
        clock.ahead += 1
        sink(LiveChanged("backend", False, "", "working"))
        assert re.search(rf"rollout 1\.\d s  {re.escape(cause)}", screen.read())
        failed_trip(sink, clock, error=error)
    row = ESCAPE.sub("", screen_rows(screen, 2)[0])
    assert row.startswith(f"● backend failed: {cause}  (build, ")


def test_the_living_line_of_what_crashes_later_shows_why_until_it_is_ready_again(screen: Screen) -> None:
    clock, cause = At(), "KeyError: 'PORT' (a.py, line 3)"
    with terminal(screen, clock) as sink:
        live_trip(sink, clock)
        sink(StateChanged("backend", "Running", "Degraded", (), "todo-1, container app: exit code 1", cause))
        sink(LiveChanged("backend", False, REF, "degraded"))
        sink._draw()
        assert f"● backend degraded  {cause}" in ESCAPE.sub("", screen_rows(screen, 2)[0])
        sink(StateChanged("backend", "Degraded", "Running"))
        sink(LiveChanged("backend", True, REF, "live"))
    row = ESCAPE.sub("", screen_rows(screen, 2)[0])
    assert row.startswith("● backend live in ")


def test_an_outage_has_a_row_of_its_own_and_each_service_that_it_concerns_shows_it(screen: Screen) -> None:
    clock, engine = At(), "engine unix:///run/docker.sock"
    gone = PlatformError("no engine", outage=engine)
    with terminal(screen, clock) as sink:
        live_trip(sink, clock, service="web")
        sink(Outage(engine, False, "no engine"))
        failed_trip(sink, clock, error=gone)
        sink(LiveChanged("backend", False, "", "waiting"))
        sink._draw()
        rows = [ESCAPE.sub("", row).rstrip() for row in screen_rows(screen, 3)]
        assert rows[0].split() == ["●", "backend", "waiting", "for", "the", *engine.split()]
        assert "engine" not in rows[1]
        assert rows[2] == f"● {engine} gone: no engine"
        sink(Outage(engine, True))
        sink(Outage("API server", False, "no answer"))
        sink._draw()
        rows = [ESCAPE.sub("", row).rstrip() for row in screen_rows(screen, 3)]
        assert "(API server gone)" in rows[1]
        assert rows[2].split() == ["●", "API", "server", "gone:", "no", "answer"]
        sink(Outage("API server", True))
    rows = [ESCAPE.sub("", row).rstrip() for row in screen_rows(screen, 2)]
    assert rows[1].startswith("● web")
    assert "API" not in rows[1]


def test_trouble_with_manifests_has_a_red_row_of_its_own_until_it_is_mended(screen: Screen) -> None:
    with terminal(screen) as sink:
        sink(Notice("", "error", "k8s/web.yaml:2: a value is missing", "mend it", "manifests"))
        sink._draw()
        assert "manifests | " in screen.read()
        assert "\x1b[31m●\x1b[0m \x1b[33mmanifests" in screen.raw
        sink(Notice("", "info", "all of them are applied", about="manifests"))
    last = [line.strip() for line in screen.read().replace("\r", "\n").splitlines() if line.strip()][-2:]
    assert [line.split()[1] for line in last] == ["backend", "web"]


def test_a_service_of_that_name_keeps_its_own_row(screen: Screen) -> None:
    clock = At()
    with Terminal(["manifests", "web"], ROOT, clock, stream=screen.stream) as sink:
        live_trip(sink, clock, service="manifests")
        sink(Notice("", "error", "", "mend it", "manifests"))
        sink._draw()
        assert "\x1b[32m●" in screen_rows(screen)[0]
        assert "\x1b[31m●" in screen_rows(screen)[2]
        sink(Notice("", "info", "all of them are applied", about="manifests"))
    rows = [ESCAPE.sub("", row).split() for row in screen_rows(screen, 2)]
    assert rows[0][1:4] == ["manifests", "live", "in"]
    assert rows[1][1:] == ["web", "starting"]


def screen_rows(screen: Screen, count: int = 3) -> list[str]:
    """The last rows that were drawn, with their colours."""
    screen.read()
    lines = screen.raw.replace("\r", "\n").split("\n")
    return [line for line in lines if ESCAPE.sub("", line).strip()][-count:]


def test_the_living_line_shows_stage_elapsed_and_progress(screen: Screen) -> None:
    clock = At()
    with terminal(screen, clock) as sink:
        begin(sink, clock)
        clock.ahead = 12.34
        sink(Progress("backend", "build", 54_000_000, 119_000_000, "bytes", "python:3.12"))
        clock.ahead += 1
        sink(LiveChanged("backend", False, "", "working"))
        assert "build 13.3 s  45 %, 54 MB of 119 MB, python:3.12" in screen.read()
        sink(StageEnded("backend", "build", clock.now(), 12.4, "ok"))
        sink(StageStarted("backend", "rollout", clock.now()))
        sink(RolloutPhase("backend", "started", 0.31))
        clock.ahead += 1
        sink(LiveChanged("backend", False, "", "working"))
        assert re.search(r"rollout 1\.\d s  started 0\.31 s", screen.read())


def test_output_of_a_short_build_stays_in_the_living_line_and_of_a_long_one_is_shown(screen: Screen) -> None:
    clock = At()
    with terminal(screen, clock) as sink:
        begin(sink, clock)
        sink(Output("backend", "build", "#5 first"))
        assert "build | #5 first" not in screen.read()
        clock.ahead = 4.0
        sink(Output("backend", "build", "#6 second"))
        sink(Output("backend", "build", "#7 third"))
    text = screen.read()
    for line in ("build | #5 first", "build | #6 second", "build | #7 third"):
        assert text.count(line) == 1


def test_pod_logs_keep_their_colours_and_lose_what_moves_the_cursor(screen: Screen) -> None:
    with terminal(screen) as sink:
        sink(PodLog("backend", "todo-7d9f-abcde", "app", "\x1b[32mINFO\x1b[0m up\x1b[2J\x1b[10A"))
        text = screen.read()
    assert "backend/abcde | INFO up" in text
    assert "\x1b[32mINFO" in screen.raw
    assert "\x1b[10A" not in screen.raw


def test_markup_in_a_log_is_text(screen: Screen) -> None:
    with terminal(screen) as sink:
        sink(PodLog("backend", "todo-7d9f-abcde", "app", "[red]x[/red] [link=http://x]"))
        assert "[red]x[/red] [link=http://x]" in screen.read()


def test_a_service_that_config_yaml_gained_gets_a_line(screen: Screen) -> None:
    with terminal(screen) as sink:
        live_trip(sink, Clock(), service="added")
    text = screen.read()
    assert "added   | saved: backend/main.py" in text
    assert "● added" in text


def test_a_flood_of_lines_is_drawn_in_few_drawings_and_none_is_lost(screen: Screen) -> None:
    with terminal(screen) as sink:
        for number in range(300):
            sink(PodLog("backend", "a-b", "app", f"line <{number}>"))
            if number % 50 == 0:
                screen.read()  # a pseudo-terminal holds 4 KB
    text = screen.read()
    assert all(f"line <{number}>" in text for number in range(300))
    assert screen.raw.count("\x1b[J") < 100


def test_no_logs(screen: Screen) -> None:
    with terminal(screen, logs=False) as sink:
        sink(PodLog("backend", "todo-7d9f-abcde", "app", "hello"))
        assert "hello" not in screen.read()


def test_no_color(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal(screen) as sink:
        failed_trip(sink, Clock())
    assert "FAILED in build" in screen.read()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.raw)


async def test_elapsed_time_moves_only_while_something_runs(screen: Screen) -> None:
    clock = Clock()
    with terminal(screen, clock) as sink:
        async with anyio.create_task_group() as group:
            group.start_soon(sink.run)
            begin(sink, clock)
            with anyio.fail_after(20):
                while len(set(re.findall(r"build (\d+ ms|\d\.\d+ s)", screen.read()))) < 4:
                    await anyio.sleep(0.02)
            live_trip(sink, clock)
            with anyio.fail_after(20):
                while await grows(screen):
                    pass
            group.cancel_scope.cancel()


async def test_the_last_thing_that_happens_is_in_the_living_line(screen: Screen) -> None:
    """Also where its lines were printed by a tick: no later event draws again."""
    clock = Clock()
    with terminal(screen, clock) as sink:
        async with anyio.create_task_group() as group:
            group.start_soon(sink.run)
            begin(sink, clock)
            sink(Output("backend", "build", "just before"))
            failed_trip(sink, clock)
            with anyio.fail_after(20):
                while await grows(screen):
                    pass
            lines = [line.strip() for line in screen.read().replace("\r", "\n").splitlines() if line.strip()]
            group.cancel_scope.cancel()
    assert lines[-2].startswith("● backend failed: RUN pip install nothing: exit code 1  (build, ")


async def grows(screen: Screen) -> bool:
    """Is anything drawn within five ticks?"""
    screen.read()
    before = len(screen.raw)
    await anyio.sleep(0.5)
    screen.read()
    return len(screen.raw) > before


def test_the_cursor_is_given_back(screen: Screen) -> None:
    with terminal(screen):
        pass
    screen.read()
    assert screen.raw.rstrip().endswith("\x1b[?25h")
