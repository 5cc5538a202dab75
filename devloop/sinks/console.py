"""The terminal: one living line per service, and above it what happened."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TextIO

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live as LiveDisplay
from rich.table import Table
from rich.text import Text

from devloop.clock import Clock
from devloop.errors import PlatformError
from devloop.events import (
    API_SERVER,
    ConfigReloaded,
    Event,
    Forwarded,
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
from devloop.model import Failed, Live, Unchanged
from devloop.sinks import wording
from devloop.sinks.plain import amount
from devloop.sinks.repeats import Repeats
from devloop.sinks.wording import Line

TICK = 0.1  # seconds between two looks of the elapsed time, while something runs
LONG = 3.0  # a build's output is shown line by line once it takes this long
COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "bright_cyan", "bright_magenta", "bright_yellow")
STYLES = {"plain": "", "quiet": "dim", "good": "green", "bad": "red", "warn": "yellow", "log": ""}
MARKS = {
    "live": ("●", "green"),
    "failed": ("●", "red"),
    "degraded": ("●", "red"),
    "gone": ("●", "red"),
    "held": ("●", "yellow"),
    "pending": ("●", "yellow"),
}


@dataclass(slots=True)
class _Row:
    """The living line of one service."""

    state: str = "starting"
    trip_since: float | None = None
    stage: str | None = None
    stage_since: float = 0.0
    note: str = ""
    last: str = ""
    last_tone: str = "plain"
    url: str = ""
    trouble: str = ""  # what a container of it said when it ended, until a trip or better news
    forwards: dict[str, None] = field(default_factory=dict)  # URLs of this machine
    quiet: bool = False  # the running trip is one that nobody asked for
    held_back: list[str] | None = None  # output of a stage that is not long yet


class Terminal:
    """A sink, and a context manager that owns the screen. `run` keeps the elapsed times moving."""

    def __init__(
        self,
        services: Iterable[str],
        root: Path,
        clock: Clock,
        *,
        logs: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._root, self._clock, self._logs = root, clock, logs
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._rows = {service: _Row() for service in services}
        self._troubles: dict[str, _Row] = {}  # what is no service and wrong: a service may have its name
        self._repeats = Repeats()
        self._queue: list[Text] = []  # lines that wait for the next drawing
        self._drawn = 0.0
        self._display = LiveDisplay(
            console=self._console, auto_refresh=False, transient=False, get_renderable=self._render
        )
        self._busy = anyio.Event()

    def __enter__(self) -> Terminal:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()
        with suppress(OSError, ValueError):
            self._display.stop()

    async def run(self) -> None:
        """Redraw while a trip runs or lines wait; sleep otherwise."""
        while True:
            self._busy = anyio.Event()
            self._draw()
            if not any(row.trip_since is not None for row in self._rows.values()):
                await self._busy.wait()
            await anyio.sleep(TICK)

    def __call__(self, event: Event) -> None:
        if isinstance(event, PodLog) and not self._logs:
            return
        if isinstance(event, ConfigReloaded):
            for name in event.gone:
                self._rows.pop(name, None)
            for name in event.services:
                self._rows[name] = _Row(forwards=self._rows.get(name, _Row()).forwards)
        service = getattr(event, "service", "")
        if service:
            self._move(self._rows.setdefault(service, _Row()), event)
        if isinstance(event, Notice) and event.about:
            self._note(event)
        if isinstance(event, Outage):
            self._note_outage(event)
        for line in wording.lines_of(event, self._root, self._repeats):
            self._print(line)
        if self._queue or isinstance(event, LiveChanged | ConfigReloaded):
            self._draw_soon()

    def _draw_soon(self) -> None:
        """At once after a pause; in a flood of lines with the next tick, or drawing would take all time."""
        if self._clock.ticks() - self._drawn >= TICK:
            self._draw()
        else:
            self._busy.set()

    def _draw(self) -> None:
        self._drawn = self._clock.ticks()
        lines, self._queue = self._queue, []
        with suppress(OSError, ValueError):  # the terminal is gone: the work goes on
            self._display.refresh()
            if lines:
                self._console.print(Text("\n").join(lines))  # above the living lines

    # --- the living lines -----------------------------------------------------------------------

    def _move(self, row: _Row, event: Event) -> None:
        match event:
            case TripStarted():
                row.trip_since, row.stage, row.note = self._clock.ticks(), None, ""
                row.quiet = event.quiet
                row.trouble = row.trouble if event.quiet else ""
                self._busy.set()
            case StageStarted():
                row.stage, row.stage_since, row.note, row.held_back = event.stage, self._clock.ticks(), "", []
            case StageEnded():
                row.note, row.held_back = "", None
            case Output():
                self._output(row, event)
            case Progress():
                row.note = amount(event)
            case RolloutPhase():
                row.note = f"{event.phase} {wording.seconds(event.seconds)}"
            case LiveChanged() | Forwarded():
                _stand(row, event)
            case PodExited() | StateChanged():
                row.trouble = wording.shortened(event.cause)
            case TripEnded():
                self._end(row, event)
            case _:
                pass

    def _note(self, event: Notice) -> None:
        """A row for what is no service, as long as something is wrong with it."""
        if event.level == "error":
            first = event.message.partition("\n")[0]
            self._troubles[event.about] = _Row("failed", last=f"failed: {first}", last_tone="bad")
        else:
            self._troubles.pop(event.about, None)

    def _note_outage(self, event: Outage) -> None:
        if event.over:
            self._troubles.pop(event.what, None)
        else:
            self._troubles[event.what] = _Row("gone", last=f"gone: {event.message}", last_tone="bad")
        self._busy.set()

    def _end(self, row: _Row, event: TripEnded) -> None:
        outcome = event.outcome
        row.trip_since = row.stage = row.held_back = None
        row.note = ""
        row.last = _brief(event)
        row.last_tone = wording.tone_of(outcome)
        if isinstance(outcome, Live | Unchanged) and outcome.url:
            row.url = outcome.url

    def _output(self, row: _Row, event: Output) -> None:
        """The last line in the living line; all of them above it once the stage is a long one."""
        row.note = wording.harmless(event.line).strip()
        if row.quiet:
            return
        if row.held_back is not None:
            row.held_back.append(event.line)
            if self._clock.ticks() - row.stage_since < LONG:
                return
            lines, row.held_back = row.held_back, None
        else:
            lines = [event.line]
        for line in lines:
            self._repeats.printed(event.service, line)
            self._print(Line(event.service, f"{event.stage} | {line}", "quiet"))

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column()
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        now = self._clock.ticks()
        for service, row in (*self._rows.items(), *self._troubles.items()):
            table.add_row(self._mark(row), Text(service, self._colour(service)), self._status(row, now))
        return Group(table)

    def _mark(self, row: _Row) -> Text:
        if row.trip_since is not None:
            frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._console.encoding.startswith("utf") else "|/-\\"
            return Text(frames[int(self._clock.ticks() / TICK) % len(frames)], "cyan")
        mark, style = MARKS.get(row.state, ("●", "dim"))
        return Text(mark if self._console.encoding.startswith("utf") else "*", style)

    def _status(self, row: _Row, now: float) -> Text:
        text = Text()
        if row.trip_since is not None:
            stage = row.stage or "starting"
            since = row.stage_since if row.stage else row.trip_since
            text.append(f"{stage} {wording.seconds(max(0.0, now - since))}", "bold")
            text.append(f"  {row.note}" if row.note else "", "dim")
            text.append(f"  {row.trouble}" if row.trouble else "", STYLES["bad"])
        elif not row.last.lower().startswith((row.state, "built")):  # "live in 0.9 s" says "live" already
            text.append(row.state, "bold")
        if row.trouble and row.trip_since is None and row.state == "degraded":
            text.append(f"  {row.trouble}", STYLES["bad"])
        elif row.last:
            space = "  " if text else ""
            before = "last: " if row.trip_since is not None else ""
            text.append(f"{space}{before}{row.last}", STYLES[row.last_tone] or "dim")
        concerned = row.trip_since is None and row.state != "gone" and API_SERVER not in row.last
        if concerned and API_SERVER in self._troubles:
            text.append(f"  ({API_SERVER} gone)", STYLES["warn"])
        for url in row.forwards or ([row.url] if row.url else ()):
            text.append(f"  {url}", "underline")
        return text

    # --- above them -----------------------------------------------------------------------------

    def _print(self, line: Line) -> None:
        width = max(map(len, (*self._rows, *self._troubles)), default=0)
        text = Text()
        if line.who:
            text.append(f"{line.who:<{width}} ", self._colour(line.who.partition("/")[0]))
            text.append("| ", "dim")
        shown = Text.from_ansi(wording.harmless(line.text, colours=True), style=STYLES[line.tone])
        text.append_text(shown)
        self._queue.append(text)

    def _colour(self, service: str) -> str:
        names = [*self._rows, *self._troubles]
        return COLOURS[names.index(service) % len(COLOURS)] if service in names else ""


def _stand(row: _Row, event: LiveChanged | Forwarded) -> None:
    if isinstance(event, LiveChanged):
        row.state = event.state
        row.trouble = "" if event.live else row.trouble
    else:
        row.forwards.pop(event.url, None)
        row.forwards |= {event.url: None} if event.open else {}


def _brief(event: TripEnded) -> str:
    outcome = event.outcome
    if isinstance(outcome, Live):
        return f"{wording.reached(outcome)} in {wording.seconds(outcome.timing.trip)}"
    if isinstance(outcome, Failed) and isinstance(outcome.error, PlatformError) and outcome.error.outage:
        return f"waiting for the {outcome.error.outage}"
    if isinstance(outcome, Failed):
        took = wording.seconds(outcome.timing.trip)
        return f"failed: {wording.shortened(outcome.error.in_short)}  ({outcome.stage}, {took})"
    return wording.headline(outcome).partition(":")[0]
