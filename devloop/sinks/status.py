"""What /api/status answers: where every service stands, and its last 50 trips with exact spans (S32)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devloop.events import (
    ConfigReloaded,
    Event,
    Forwarded,
    LiveChanged,
    Notice,
    Outage,
    PodsCounted,
    StageEnded,
    StageStarted,
    StateChanged,
    TripEnded,
    TripStarted,
)
from devloop.model import Change, Live, Unchanged
from devloop.sinks.outcomes import describe, describe_paths, describe_span

KEPT = 50


@dataclass(slots=True)
class _Card:
    """What is known of one service."""

    state: str = "starting"
    live: bool = False
    deployment: str = "Not Deployed"
    pods: dict[str, int] = field(default_factory=dict)
    synced: int = 0
    stage: str | None = None
    stage_started_at: float | None = None
    image: str | None = None
    url: str | None = None
    forwards: dict[str, int] = field(default_factory=dict)  # URL of this machine -> port of the pod
    change: Change | None = None
    trip_started_at: float | None = None
    trips: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))


class StatusBoard:
    """A sink. `answer` gives the JSON object of /api/status."""

    def __init__(
        self,
        version: str,
        config: Path,
        project: str,
        services: Iterable[str],
        started_at: float,
        context: str = "",
        namespace: str = "",
    ) -> None:
        self._head = {
            "version": version,
            "config": str(config),
            "project": project,
            "started_at": started_at,
            "context": context,
            "namespace": namespace,
        }
        self._cards = {service: _Card() for service in services}
        self._problems: dict[str, str] = {}  # of what is no service's, "manifests": what is wrong now

    def __call__(self, event: Event) -> None:
        match event:
            case TripStarted() | TripEnded() | StageStarted() | StageEnded() | LiveChanged():
                self._note(self._cards.setdefault(event.service, _Card()), event)
            case ConfigReloaded():
                self._take(event)
            case Notice(about=about) if about:
                if event.level == "error":
                    self._problems[about] = event.message
                else:
                    self._problems.pop(about, None)
            case Outage(over=False):
                self._problems[event.what] = event.message
            case Outage():
                self._problems.pop(event.what, None)
            case StateChanged():
                self._cards.setdefault(event.service, _Card()).deployment = event.after
            case PodsCounted():
                card = self._cards.setdefault(event.service, _Card())
                card.pods, card.synced = dict(event.pods), event.synced
            case Forwarded():
                self._forward(self._cards.setdefault(event.service, _Card()), event)
            case _:
                pass

    def _forward(self, card: _Card, event: Forwarded) -> None:
        card.forwards.pop(event.url, None)
        if event.open:
            card.forwards[event.url] = event.port

    def _take(self, event: ConfigReloaded) -> None:
        """Services that left have no card; those that changed start over, with the trips that they had."""
        for service in event.gone:
            self._cards.pop(service, None)
        for service in event.services:
            old = self._cards.get(service, _Card())
            self._cards[service] = _Card(image=old.image, forwards=old.forwards, trips=old.trips)

    def _note(
        self, card: _Card, event: TripStarted | TripEnded | StageStarted | StageEnded | LiveChanged
    ) -> None:
        match event:
            case TripStarted():
                card.change, card.trip_started_at = event.change, event.at
            case StageStarted():
                card.stage, card.stage_started_at = event.stage, event.at
            case StageEnded():
                card.stage = card.stage_started_at = None
            case LiveChanged():
                card.live, card.state = event.live, event.state
                card.image = event.ref or card.image
            case TripEnded():
                self._end(card, event)

    def _end(self, card: _Card, event: TripEnded) -> None:
        outcome, change = event.outcome, card.change
        described = describe(outcome)
        timing = outcome.timing
        card.trips.append(
            {
                "trip": event.trip,
                "started_at": timing.started_at,
                "ended_at": event.at,
                "why": change.why if change else None,
                **(describe_paths(change.paths) if change else {"paths": [], "count": 0}),
                **described,
                "spans": [describe_span(span) for span in timing.spans],
                "phases": dict(timing.phases),
                "coarse": sorted(timing.coarse),
                "why_long": event.why_long,
            }
        )
        card.stage = card.stage_started_at = card.trip_started_at = None
        if isinstance(outcome, Live | Unchanged):
            card.image, card.url = described["image"], outcome.url or card.url

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong with what is no service's: "manifests" and the reason."""
        return dict(self._problems)

    def answer(self) -> dict[str, Any]:
        services = {name: _shown(card) for name, card in self._cards.items()}
        return {**self._head, "problems": dict(self._problems), "services": services}


def _shown(card: _Card) -> dict[str, Any]:
    return {
        "state": card.state,
        "live": card.live,
        "deployment": card.deployment,
        "pods": card.pods,
        "synced": card.synced,
        "stage": card.stage,
        "stage_started_at": card.stage_started_at,
        "image": card.image,
        "url": next(iter(card.forwards), card.url),
        "forwards": [{"url": url, "port": port} for url, port in card.forwards.items()],
        "trips": list(card.trips),
    }
