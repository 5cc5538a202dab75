"""The terminal: one living line per service, below them the keys, and above what happened."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

import anyio
from rich.console import Console
from rich.text import Text

from devloop.clock import Clock
from devloop.events import (
    API_SERVER,
    ConfigReloaded,
    Event,
    LiveChanged,
    Outage,
    PodLog,
    TripEnded,
    TripStarted,
)
from devloop.model import Failed
from devloop.sinks import wording
from devloop.sinks.region import Region
from devloop.sinks.repeats import Repeats
from devloop.sinks.rows import Row, Rows, folded
from devloop.sinks.wording import Line

TICK = 0.1  # seconds between two looks of the elapsed time, while something runs
FEWEST = 4  # rows that are shown however low the terminal is
REMEMBERED, SHOWN_AGAIN = 2000, 20  # lines of logs that are kept, and shown when they are asked for
COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "bright_cyan", "bright_magenta", "bright_yellow")
STYLES = {"plain": "", "quiet": "dim", "good": "green", "bad": "red", "warn": "yellow", "log": ""}
MARKS = {
    "live": ("●", "green"),
    "failed": ("●", "red"),
    "degraded": ("●", "red"),
    "gone": ("●", "red"),
    "held": ("●", "yellow"),
    "pending": ("●", "yellow"),
    "paused": ("●", "yellow"),
}
Logs = frozenset[str] | None  # of which services logs are shown; None: of all


class Terminal:
    """A sink, and a context manager that owns the screen. `run` keeps the elapsed times moving.

    `bottom` is the line below the rows; `show_logs`, `filter`, `details` and `clear` are what keys ask for.
    """

    def __init__(
        self,
        services: Iterable[str],
        root: Path,
        clock: Clock,
        *,
        logs: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._root, self._clock = root, clock
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._region = Region(self._console)
        self._rows = Rows(services, clock.ticks)
        self._repeats = Repeats()
        self._queue: list[Text] = []  # lines that wait for the next drawing
        self._bottom: Callable[[int], Text] | None = None
        self._logs: Logs = None if logs else frozenset()
        self._filter = ""
        self._lines: deque[Line] = deque(maxlen=REMEMBERED)  # of logs, shown or not
        self._failure: TripEnded | None = None
        self._drawn = 0.0
        self._busy = anyio.Event()

    def __enter__(self) -> Terminal:
        with suppress(OSError, ValueError):
            self._region.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bottom = None
        self._draw()
        with suppress(OSError, ValueError):
            self._region.stop()

    async def run(self) -> None:
        """Redraw while a trip runs or lines wait, and at another size; sleep otherwise."""
        async with anyio.create_task_group() as group:
            if threading.current_thread() is threading.main_thread():
                group.start_soon(self._follow_size)
            while True:
                self._busy = anyio.Event()
                self._draw()
                if not self._rows.busy:
                    await self._busy.wait()
                await anyio.sleep(TICK)

    async def _follow_size(self) -> None:
        with anyio.open_signal_receiver(signal.SIGWINCH) as signals:
            async for _ in signals:
                self._draw()

    def __call__(self, event: Event) -> None:
        for text in self._rows.move(event):
            assert hasattr(event, "service")
            self._repeats.printed(event.service, text)
            self._print(Line(event.service, f"{event.stage} | {text}", "quiet"))  # type: ignore[union-attr]
        if isinstance(event, PodLog):
            self._log(event)
        else:
            for line in wording.lines_of(event, self._root, self._repeats):
                self._print(line)
        if isinstance(event, TripEnded) and isinstance(event.outcome, Failed) and not event.repeated:
            self._failure = event
        if isinstance(event, TripStarted | Outage):
            self._busy.set()
        if self._queue or isinstance(event, LiveChanged | ConfigReloaded):
            self._draw_soon()

    # --- what keys ask for ----------------------------------------------------------------------

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(self._rows.services)

    @property
    def urls(self) -> Mapping[str, str]:
        """Of the services whose URL is known."""
        return {name: row.urls[0] for name, row in self._rows.services.items() if row.urls}

    @property
    def paused(self) -> frozenset[str]:
        return frozenset(name for name, row in self._rows.services.items() if row.state == "paused")

    def bottom(self, line: Callable[[int], Text]) -> None:
        """What stands below the rows from now on, given the width of the terminal."""
        self._bottom = line
        self._draw()

    def tell(self, lines: Iterable[Line]) -> None:
        """Print lines above the rows."""
        for line in lines:
            self._print(line)
        self._draw()

    def show_logs(self, services: Logs) -> None:
        """Show the logs of these from now on, with the last lines that are known."""
        self._logs = services
        self._show_again()

    def filter(self, text: str) -> None:
        """Show only lines of logs with this text, whatever its case; "" = all."""
        self._filter = text
        self._show_again()

    def details(self) -> bool:
        """Print the last failure whole; False where nothing has failed."""
        if self._failure is None:
            return False
        self.tell(wording.lines_of(self._failure, self._root))
        return True

    def clear(self) -> None:
        """Begin with an empty screen: nothing is above any more."""
        self._queue.clear()
        self._repeats.clear()
        self._draw(clear=True)

    def leave(self) -> None:
        """Give the screen back for a while; `come_back` takes it again."""
        with suppress(OSError, ValueError):
            self._region.stop()

    def come_back(self) -> None:
        with suppress(OSError, ValueError):
            self._region.start()
        self._draw()

    def _show_again(self) -> None:
        lines = [line for line in self._lines if self._is_wanted(line)]
        self.tell(lines[-SHOWN_AGAIN:])

    def _log(self, event: PodLog) -> None:
        if self._repeats.is_repeated(event):
            return
        for line in wording.lines_of(event, self._root):
            self._lines.append(line)
            if self._is_wanted(line):
                self._repeats.printed(event.service, event.line)
                self._print(line)

    def _is_wanted(self, line: Line) -> bool:
        service = line.who.rpartition("/")[0]
        return (self._logs is None or service in self._logs) and self._filter.lower() in line.text.lower()

    # --- drawing --------------------------------------------------------------------------------

    def _draw_soon(self) -> None:
        """At once after a pause; in a flood of lines with the next tick, or drawing would take all time."""
        if self._clock.ticks() - self._drawn >= TICK:
            self._draw()
        else:
            self._busy.set()

    def _draw(self, *, clear: bool = False) -> None:
        self._drawn = self._clock.ticks()
        lines, self._queue = self._queue, []
        with suppress(OSError, ValueError):  # the terminal is gone: the work goes on
            bottom = [self._bottom(self._region.size[0])] if self._bottom is not None else []
            self._region.draw(lines, [*self._living(), *bottom], clear=clear)

    def _living(self) -> list[Text]:
        rows = [(name, row) for name, row in self._rows.services.items()]
        troubles = list(self._rows.troubles.items())
        room = max(FEWEST, self._region.size[1] // 2 - 1 - len(troubles))
        shown, rest = folded(dict(rows), room)
        shown_rows = [*((name, self._rows.services[name]) for name in shown), *troubles]
        width = max((len(name) for name, _ in shown_rows), default=0)
        now = self._clock.ticks()
        lines = [
            Text.assemble(
                self._mark(row), " ", (f"{name:<{width}} ", self._colour(name)), self._status(row, now)
            )
            for name, row in shown_rows
        ]
        return [*lines, *([Text(f"  {rest}", "dim")] if rest else [])]

    def _mark(self, row: Row) -> Text:
        if row.trip_since is not None:
            frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._console.encoding.startswith("utf") else "|/-\\"
            return Text(frames[int(self._clock.ticks() / TICK) % len(frames)], "cyan")
        mark, style = MARKS.get(row.state, ("●", "dim"))
        return Text(mark if self._console.encoding.startswith("utf") else "*", style)

    def _status(self, row: Row, now: float) -> Text:
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
        if concerned and API_SERVER in self._rows.troubles:
            text.append(f"  ({API_SERVER} gone)", STYLES["warn"])
        for url in row.urls:
            text.append(f"  {url}", "underline")
        return text

    def _print(self, line: Line) -> None:
        width = max(map(len, self._rows.names), default=0)
        text = Text()
        if line.who:
            text.append(f"{line.who:<{width}} ", self._colour(line.who.partition("/")[0]))
            text.append("| ", "dim")
        shown = Text.from_ansi(wording.harmless(line.text, colours=True), style=STYLES[line.tone])
        text.append_text(shown)
        self._queue.append(text)

    def _colour(self, service: str) -> str:
        names = self._rows.names
        return COLOURS[names.index(service) % len(COLOURS)] if service in names else ""
