"""What `once` prints at its end: a table for people, or one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devloop.errors import DevloopError
from devloop.model import STAGES, Failed, Live, Outcome, Unchanged, outcome_word
from devloop.sinks import wording
from devloop.sinks.outcomes import describe, error_fields, image_of

Json = dict[str, Any]


def as_object(outcomes: Mapping[str, Outcome], problems: Mapping[str, str]) -> Json:
    """{"services": {NAME: …}, "problems": {…}}: each service as outcomes.describe gives it, and what is wrong
    with what is no service's ("manifests")."""
    services = {name: describe(outcome) for name, outcome in outcomes.items()}
    return _whole(services, problems)


def _whole(services: Mapping[str, object], problems: Mapping[str, str]) -> Json:
    return {"services": dict(services), "problems": dict(problems)}


def error_as_object(error: DevloopError, services: Mapping[str, object]) -> Json:
    """The same object where a platform or config error ended `once` before any trip."""
    nothing: dict[str, Any] = dict.fromkeys(("fingerprint", "image", "built", "loaded", "update"))
    times = dict.fromkeys((*STAGES, "trip"))
    failure = {"stage": None, **error_fields(error)}
    entry = {"outcome": "failed", **nothing, "seconds": times, "url": None, "error": failure}
    return _whole(dict.fromkeys(services, entry), {})


def running_as_object(trips: Mapping[str, Mapping[str, Any]], problems: Mapping[str, str]) -> Json:
    """The same object from what a running watch reports in /api/status."""
    keys = ("outcome", "fingerprint", "image", "built", "loaded", "update", "seconds", "url", "error")
    services = {name: {key: trip[key] for key in keys} for name, trip in trips.items()}
    return _whole(services, problems)


def running_as_lines(trips: Mapping[str, Mapping[str, Any]], problems: Mapping[str, str]) -> str:
    lines = []
    for name, trip in trips.items():
        error = f": {_in_short(trip['error'])}" if trip["error"] else ""
        took = wording.seconds(trip["seconds"]["trip"])
        lines.append(
            f"{name}: {trip['outcome']} in {took} by the running watch  {trip['image'] or ''}{error}".rstrip()
        )
    lines += [f"{about}: {message}" for about, message in problems.items()]
    return "\n".join(lines)


def as_table(outcomes: Mapping[str, Outcome]) -> str:
    """One row per service: outcome, trip, the stage that took longest, image or error, URL."""
    rows = [("SERVICE", "OUTCOME", "TRIP", "LONGEST", "IMAGE", "URL")]
    for name, outcome in outcomes.items():
        ran = {stage: took for stage, took in outcome.timing.seconds().items() if stage != "trip"}
        longest = max(ran, key=lambda stage: ran[stage], default="")
        rows.append(
            (
                name,
                outcome_word(outcome),
                wording.seconds(outcome.timing.trip),
                f"{longest} {wording.seconds(ran[longest])}" if longest else "",
                _shown(outcome),
                (outcome.url or "") if isinstance(outcome, Live | Unchanged) else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(outcome: Outcome) -> str:
    return (
        f"{outcome.stage}: {wording.shortened(outcome.error.cause, 80) or outcome.error.reason}"
        if isinstance(outcome, Failed)
        else image_of(outcome) or ""
    )


def _in_short(error: Mapping[str, Any]) -> str:
    """Of an error in /api/status; a watch of an earlier version names no cause."""
    return f"{error['reason']}: {error.get('cause') or error['message']}"
