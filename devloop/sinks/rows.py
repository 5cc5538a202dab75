"""What the living lines of the terminal say: a row for each service and trouble, and which are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devloop.errors import PlatformError
from devloop.events import (
    ConfigReloaded,
    Event,
    Forwarded,
    LiveChanged,
    Notice,
    Outage,
    Output,
    PodExited,
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

LONG = 3.0  # seconds from which on the output of a stage is shown line by line
FAILED = ("failed", "degraded", "contested", "gone")
AT_WORK = "at work"


@dataclass(slots=True)
class Row:
    """The living line of one service, or of one trouble."""

    state: str = "starting"
    trip_since: float | None = None
    stage: str | None = None
    stage_since: float = 0.0
    note: str = ""
    last: str = ""
    last_tone: wording.Tone = "plain"
    url: str = ""
    forwards: dict[str, None] = field(default_factory=dict)  # URLs of this machine
    trouble: str = ""  # what a container of it printed when it ended, until a trip or better news
    quiet: bool = False  # the running trip is one that nobody asked for
    held_back: list[str] | None = None  # output of a stage that is not long yet

    @property
    def urls(self) -> tuple[str, ...]:
        """What leads to it: ports of this machine, else what the cluster offers."""
        return tuple(self.forwards) or ((self.url,) if self.url else ())

    @property
    def rank(self) -> int:
        """What is at work stands first, then what failed, then what waits, then what is live."""
        if self.trip_since is not None:
            return 0
        return 1 if self.state in FAILED else 3 if self.state == "live" else 2

    @property
    def word(self) -> str:
        return AT_WORK if self.trip_since is not None else self.state


class Rows:
    """A sink: it moves the rows. What has to be printed above them it returns."""

    def __init__(self, services: Iterable[str], ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self.services = {service: Row() for service in services}
        self.troubles: dict[str, Row] = {}  # what is no service and wrong: a service may have its name

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.services, *self.troubles)

    @property
    def busy(self) -> bool:
        return any(row.trip_since is not None for row in self.services.values())

    def move(self, event: Event) -> Sequence[str]:
        """Take an event; the lines of output that are due now, where it is output of a service."""
        if isinstance(event, ConfigReloaded):
            for name in event.gone:
                self.services.pop(name, None)
            for name in event.services:
                self.services[name] = Row(forwards=self.services.get(name, Row()).forwards)
        if isinstance(event, Notice) and event.about:
            failed = Row("failed", last=f"failed: {_first(event.message)}", last_tone="bad")
            self._trouble(event.about, failed if event.level == "error" else None)
        if isinstance(event, Outage):
            gone = Row("gone", last=f"gone: {_first(event.message)}", last_tone="bad")
            self._trouble(event.what, None if event.over else gone)
        service = getattr(event, "service", "")
        return self._move(self.services.setdefault(service, Row()), event) if service else ()

    def _trouble(self, what: str, row: Row | None) -> None:
        if row is None:
            self.troubles.pop(what, None)
        else:
            self.troubles[what] = row

    def _move(self, row: Row, event: Event) -> Sequence[str]:
        match event:
            case TripStarted():
                row.trip_since, row.stage, row.note = self._ticks(), None, ""
                row.quiet = event.quiet
                row.trouble = row.trouble if event.quiet else ""
            case StageStarted():
                row.stage, row.stage_since, row.note, row.held_back = event.stage, self._ticks(), "", []
            case StageEnded():
                row.note, row.held_back = "", None
            case Output():
                return self._output(row, event)
            case Progress():
                row.note = amount(event)
            case RolloutPhase():
                row.note = f"{event.phase} {wording.seconds(event.seconds)}"
            case LiveChanged() | Forwarded():
                _stand(row, event)
            case PodExited() | StateChanged():
                row.trouble = wording.shortened(event.cause)
            case TripEnded():
                _end(row, event)
            case _:
                pass
        return ()

    def _output(self, row: Row, event: Output) -> Sequence[str]:
        """The last line in the living line; all of them above it once the stage is a long one."""
        row.note = wording.harmless(event.line).strip()
        if row.quiet:
            return ()
        if row.held_back is None:
            return (event.line,)
        row.held_back.append(event.line)
        if self._ticks() - row.stage_since < LONG:
            return ()
        lines, row.held_back = row.held_back, None
        return lines


def folded(rows: Mapping[str, Row], most: int) -> tuple[list[str], str]:
    """The names of the rows that are shown, at most `most`, and a count of the others: "48 more: 45 live".

    All of them in their order where there is room; else by rank, and in their order within one.
    """
    if len(rows) <= most:
        return list(rows), ""
    ranked = sorted(rows, key=lambda name: rows[name].rank)
    shown, hidden = ranked[: most - 1], ranked[most - 1 :]
    counts = Counter(rows[name].word for name in hidden)
    parts = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    return shown, f"{len(hidden)} more: {parts}"


def _stand(row: Row, event: LiveChanged | Forwarded) -> None:
    if isinstance(event, LiveChanged):
        row.state = event.state
        row.trouble = "" if event.live else row.trouble
    else:
        row.forwards.pop(event.url, None)
        row.forwards |= {event.url: None} if event.open else {}


def _end(row: Row, event: TripEnded) -> None:
    outcome = event.outcome
    row.trip_since = row.stage = row.held_back = None
    row.note = ""
    row.last, row.last_tone = _brief(event), wording.tone_of(outcome)
    if isinstance(outcome, Live | Unchanged) and outcome.url:
        row.url = outcome.url


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


def _first(message: str) -> str:
    return message.partition("\n")[0]
