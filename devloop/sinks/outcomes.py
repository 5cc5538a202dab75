"""Outcomes and events as plain JSON values: the shape of `once --json`, /api/status and the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, assert_never

from devloop.errors import DevloopError
from devloop.events import Event, TripEnded, TripStarted, WatchBatch
from devloop.model import (
    STAGES,
    Failed,
    Held,
    Live,
    Outcome,
    Span,
    Superseded,
    Timing,
    Unchanged,
    outcome_word,
)

MOST_PATHS = 20  # changed files that are listed; the rest is counted


def describe(outcome: Outcome) -> dict[str, Any]:
    """The object that `once --json` prints for one service (issue A, section 3)."""
    return {
        "outcome": outcome_word(outcome),
        "fingerprint": _fingerprint(outcome),
        "image": image_of(outcome),
        "built": outcome.image.how if isinstance(outcome, Live) else None,
        "loaded": outcome.loaded.how if isinstance(outcome, Live) else None,
        "update": outcome.rollout.update if isinstance(outcome, Live) else None,
        "seconds": seconds(outcome.timing),
        "url": outcome.url if isinstance(outcome, Live | Unchanged) else None,
        "error": describe_error(outcome) if isinstance(outcome, Failed) else None,
    }


def _fingerprint(outcome: Outcome) -> str | None:
    fingerprint = None if isinstance(outcome, Superseded) else outcome.fingerprint
    return fingerprint.digest if fingerprint is not None else None


def image_of(outcome: Outcome) -> str | None:
    """The image reference that the outcome is about, where it has one."""
    match outcome:
        case Live():
            return outcome.image.ref
        case Unchanged():
            return outcome.ref
        case Failed() | Superseded() | Held():
            return None
        case _:
            assert_never(outcome)


def describe_error(failed: Failed) -> dict[str, Any]:
    return {"stage": failed.stage, **error_fields(failed.error)}


def error_fields(error: DevloopError) -> dict[str, Any]:
    return {
        "reason": error.reason,
        "cause": error.in_short,
        "message": error.message,
        "evidence": list(error.evidence),
        "hint": error.hint,
    }


def seconds(timing: Timing) -> dict[str, float | None]:
    """Every stage and `trip`; None for a stage that did not run."""
    ran = timing.seconds()
    return {name: ran.get(name) for name in (*STAGES, "trip")}


def describe_span(span: Span) -> dict[str, Any]:
    return {
        "stage": span.stage,
        "started_at": span.started_at,
        "seconds": span.seconds,
        "outcome": span.outcome,
    }


def describe_event(event: Event) -> dict[str, Any]:
    """An event as one JSON object; `event` is its name, "trip_ended"."""
    found: dict[str, Any] = {"event": _snake(type(event).__name__)}
    if isinstance(event, TripEnded):
        spans = [describe_span(span) for span in event.outcome.timing.spans]
        phases = dict(event.outcome.timing.phases)
        return {
            **found,
            "service": event.service,
            "trip": event.trip,
            "at": event.at,
            **describe(event.outcome),
            "spans": spans,
            "phases": phases,
            "why_long": event.why_long,
        }
    for field in fields(event):
        found[field.name] = _plain(getattr(event, field.name))
    if isinstance(event, TripStarted):
        found["change"] = describe_paths(event.change.paths) | {"why": event.change.why}
    elif isinstance(event, WatchBatch):
        found.update(describe_paths(event.paths))
    return found


def describe_paths(paths: frozenset[Path]) -> dict[str, Any]:
    """At most 20 paths, sorted, and how many there are."""
    return {"paths": sorted(map(_text, paths))[:MOST_PATHS], "count": len(paths)}


def _text(path: Path) -> str:
    """File names need not be UTF-8; JSON is."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return _text(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")
