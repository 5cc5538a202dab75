"""Lines without a terminal: text, or one JSON object per event (`--log-format json`)."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from devloop.clock import Clock
from devloop.events import Event, Output, PodLog, Progress, StageEnded, TripStarted, WatchBatch
from devloop.sinks import wording
from devloop.sinks.outcomes import describe_event
from devloop.sinks.repeats import Repeats

STEP = 0.1  # a long progress is printed at every tenth of it
BLIND_STEP = 50_000_000  # or every 50 MB where the total is not known


class Plain:
    """A sink that writes whole lines, each with the service's name in front."""

    def __init__(self, stream: TextIO, root: Path, *, logs: bool = True) -> None:
        self._stream, self._root, self._logs = stream, root, logs
        self._repeats = Repeats()
        self._quiet: set[str] = set()  # services whose running trip nobody asked for
        self._printed: dict[tuple[str, str], float] = {}  # (service, stage) -> progress that was printed last

    def __call__(self, event: Event) -> None:
        if isinstance(event, PodLog) and not self._logs:
            return
        for line in wording.lines_of(event, self._root, self._repeats):
            self._write(line.who, line.text)
        match event:
            case TripStarted():
                (self._quiet.add if event.quiet else self._quiet.discard)(event.service)
            case Output() if event.service not in self._quiet:
                self._repeats.printed(event.service, event.line)
                self._write(event.service, f"{event.stage} | {event.line}")
            case Progress():
                self._progress(event)
            case StageEnded():
                self._printed.pop((event.service, event.stage), None)
            case _:
                pass

    def _progress(self, event: Progress) -> None:
        if event.unit == "steps":
            return  # each step has a line of its own already
        key = (event.service, event.stage)
        reached = event.done / event.total if event.total else event.done / BLIND_STEP * STEP
        if reached - self._printed.get(key, 0.0) < STEP:
            return
        self._printed[key] = reached
        self._write(event.service, f"{event.stage} {amount(event)}")

    def _write(self, who: str, text: str) -> None:
        text = wording.harmless(text)
        shown = f"{who} | {text}" if who else text
        write_line(self._stream, shown)


class JsonLines:
    """A sink that writes every event as one JSON object on a line of its own."""

    def __init__(self, stream: TextIO, clock: Clock, *, logs: bool = True) -> None:
        self._stream, self._clock, self._logs = stream, clock, logs

    def __call__(self, event: Event) -> None:
        if isinstance(event, WatchBatch) or (isinstance(event, PodLog) and not self._logs):
            return
        record = {"time": self._clock.now(), **describe_event(event)}
        write_line(self._stream, json.dumps(record))


def write_line(stream: TextIO, line: str) -> None:
    """Where nobody reads any more, or the disk of a redirected output is full, the work goes on."""
    with suppress(OSError, ValueError):
        stream.write(f"{line}\n".encode("utf-8", "replace").decode("utf-8"))
        stream.flush()


def amount(event: Progress) -> str:
    """ "45 %, 54 of 119 MB, note" or "54 MB"."""
    show = wording.size if event.unit == "bytes" else str
    note = f", {event.note}" if event.note else ""
    if not event.total:
        return f"{show(event.done)}{note}"
    return f"{event.done * 100 // event.total} %, {show(event.done)} of {show(event.total)}{note}"
