"""What is on the screen already: the log of a crash, the output of a build, an outage are shown once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from devloop.errors import PlatformError
from devloop.events import Event, Outage, PodExited, PodLog, StateChanged, TripEnded, TripStarted, Updated
from devloop.model import Failed, Live, Outcome, Unchanged

REMEMBERED = 400  # lines of a service
# What differs between two runs of one program: times, process numbers, addresses.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Repeats:
    """Of one screen. What a service printed counts from a save until it is live."""

    def __init__(self) -> None:
        self._shown: dict[str, deque[str]] = {}
        self._outages: set[str] = set()
        # service -> pod -> lines of what ended there: its next run repeats them, also after the next save
        self._ended: dict[str, dict[str, set[str]]] = {}

    def note(self, event: Event) -> None:
        """Before the lines of the event are taken."""
        match event:
            case TripStarted(quiet=False):
                self._shown.pop(event.service, None)
            case Updated(mode="in-place" | "sync"):
                self._ended.pop(event.service, None)  # the pods are the same, and what runs in them is not
            case TripEnded(outcome=Live() | Unchanged()):
                self._shown.pop(event.service, None)
                self._ended.pop(event.service, None)
            case _:
                pass

    def is_news(self, event: Outage) -> bool:
        """Whether it is not known yet, and known from now on: several notice one outage."""
        known = event.what in self._outages
        (self._outages.discard if event.over else self._outages.add)(event.what)
        return known is event.over

    def explained(self, outcome: Outcome) -> str:
        """The outage that is on the screen and that a trip failed by, "" for none."""
        error = outcome.error if isinstance(outcome, Failed) else None
        return error.outage if isinstance(error, PlatformError) and error.outage in self._outages else ""

    def printed(self, service: str, line: str) -> None:
        """The line of a build or a container is shown now."""
        self._shown.setdefault(service, deque(maxlen=REMEMBERED)).append(_key(line))

    def is_repeated(self, event: PodLog) -> bool:
        """Whether a container that ended and was started again prints what it printed before."""
        key = _key(event.line)
        return bool(key) and key in self._ended.get(event.service, {}).get(event.pod, ())

    def fresh(self, service: str, lines: Sequence[str]) -> tuple[str, ...]:
        """Those that are not shown yet, and are now; all of them where that would leave gaps, () for none."""
        shown = set(self._shown.get(service, ()))
        new = [line for line in lines if (key := _key(line)) and key not in shown]
        for line in new:
            self.printed(service, line)
        if 2 * len(new) >= sum(map(bool, map(_key, lines))):
            return tuple(lines)
        return tuple(new)

    def ended(self, event: PodExited | StateChanged) -> None:
        """A container ended: what its service has printed since the trip began is repeated from now on."""
        pod = event.pod if isinstance(event, PodExited) else event.crashed.partition(",")[0]
        self._ended.setdefault(event.service, {}).setdefault(pod, set()).update(
            self._shown.get(event.service, ()), map(_key, event.log)
        )

    def clear(self) -> None:
        """Nothing is on the screen any more; what is gone is gone all the same."""
        self._shown.clear()
        self._ended.clear()


def _key(line: str) -> str:
    return _VARYING.sub("0", line.strip())
