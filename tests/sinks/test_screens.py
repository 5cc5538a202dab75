"""The screens in docs/keys.md are what the terminal draws: DEVLOOP_WRITE_DOCS=1 writes them again."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from devloop.clock import Clock
from devloop.commands.watch_keys import HELP, bottom_line
from devloop.errors import RolloutError
from devloop.events import (
    LiveChanged,
    Outage,
    Output,
    PodExited,
    PodLog,
    StageStarted,
    TripEnded,
    TripStarted,
)
from devloop.model import Change, Failed, Timing, Unchanged
from devloop.sinks.console import Terminal
from tests.support.emulator import Emulator
from tests.support.trips import FINGERPRINT, REF, ROOT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keys.md"
CAUSE = "SyntaxError: invalid syntax (greeting.py, line 1)"
LOG = ('  File "/app/src/greeting.py", line 1', "    GREETING =", "SyntaxError: invalid syntax")
NAMES = ("backend", "frontend", "worker", *(f"service-{number:02}" for number in range(4, 61)))


class Still(Clock):
    """A clock that the screen's seconds are read from, moved by hand."""

    at = 100.0

    def now(self) -> float:
        return self.at

    def ticks(self) -> float:
        return self.at


class Written(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def drawn(count: int, columns: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A morning: one service failed, one is at work, all others are live, and the engine was away."""
    for name, value in (("COLUMNS", columns), ("LINES", lines), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, str(value))
    stream, clock = Written(), Still()
    terminal = Terminal(NAMES[:count], ROOT, clock, stream=stream)
    engine = "engine unix:///var/run/docker.sock"
    with terminal:
        terminal.bottom(bottom_line)
        for name in NAMES[2:count]:
            live(terminal, clock, name)
        terminal(Outage(engine, False, f"build {engine} is not reachable: Connection refused"))
        terminal(Outage(engine, True))
        failed(terminal, clock)
        clock.at += 1
        terminal(saved("frontend", "web/src/App.tsx"))
        terminal(StageStarted("frontend", "build", clock.at))
        terminal(Output("frontend", "build", "[4/6] RUN npm run build"))
        terminal(PodLog("worker", "worker-7d9c5b6f4d-x2x9z", "app", "took 3 jobs"))
        clock.at += 2.4
        terminal._draw()
        emulator = Emulator(columns, lines)
        emulator.feed(stream.getvalue().replace("\n", "\r\n"))
        return emulator.screen


def saved(service: str, path: str) -> TripStarted:
    return TripStarted(service, 2, 0.0, Change(frozenset({ROOT / path}), 0.0, 0.0))


def live(terminal: Terminal, clock: Clock, name: str) -> None:
    url = "http://127.0.0.1:30081" if name == "worker" else None
    terminal(TripEnded(name, 1, clock.now(), Unchanged(FINGERPRINT, REF, Timing(0.0, 0.4, ()), url)))
    terminal(LiveChanged(name, True, REF, "live"))
    terminal._queue.clear()  # what happened long ago


def failed(terminal: Terminal, clock: Clock) -> None:
    path = "backend/src/greeting.py"
    terminal(saved("backend", path))
    terminal(PodExited("backend", "todo-backend-7d9c5b6f4d-x2x9z", "backend", 1, "Error", LOG, CAUSE))
    error = RolloutError(
        "todo-backend-7d9c5b6f4d-x2x9z/backend: backend exited with code 1 (Error), 3 times",
        reason="CrashLoopBackOff", evidence=LOG, hint="the next working save restarts it", cause=CAUSE,
    )  # fmt: skip
    outcome = Failed("rollout", error, Timing(0.0, 6.2, ()), FINGERPRINT, frozenset({ROOT / path}))
    terminal(TripEnded("backend", 2, clock.now(), outcome))
    terminal(LiveChanged("backend", False, "", "failed"))


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
@pytest.mark.parametrize("count", [3, 60])
def test_the_screens_of_the_page(
    count: int, columns: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = drawn(count, columns, lines, monkeypatch)
    assert len(rows) <= lines
    assert all(len(row) <= columns for row in rows)
    first = next(number for number, row in enumerate(rows) if re.match(r"[●⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] ", row))
    standing = rows[first : first + 2]
    assert any(f"failed: {CAUSE}"[: columns - 20] in row for row in standing)
    assert any("frontend" in row and "build 2.4 s" in row for row in standing)
    assert rows[-1].endswith("q quit")
    page = PAGE.read_text()
    pattern = re.compile(rf"(<!-- screen: {count} {columns}x{lines} -->\n```\n).*?(\n```)", re.S)
    shown = "\n".join(rows)
    found = pattern.search(page)
    assert found, f"docs/keys.md has no screen of {count} services at {columns}x{lines}"
    if os.environ.get("DEVLOOP_WRITE_DOCS"):
        PAGE.write_text(pattern.sub(lambda match: match[1] + shown + match[2], page))
    assert f"\n{shown}\n```" in PAGE.read_text(), "DEVLOOP_WRITE_DOCS=1 pytest tests/sinks/test_screens.py"


def test_the_page_names_every_key() -> None:
    page = PAGE.read_text()
    for key, _, text in HELP:
        assert f"| `{key}` | {text}" in page, key
