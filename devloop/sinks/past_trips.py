"""Trips that ended, read back from the journal (S27), and shown."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from devloop.sinks.journal import FILE_NAME

Json = dict[str, Any]
COLUMNS = ("ENDED", "SERVICE", "OUTCOME", "SECONDS", "FINGERPRINT", "WHY", "FILES")
SHOWN_FILES = 3
LONGEST_LINE = 1_000_000  # bytes of a line that is read
_FROM_START = ("why", "paths", "count")
_FROM_END = (
    "service", "outcome", "fingerprint", "image", "built", "loaded", "update", "seconds", "url", "error",
)  # fmt: skip


def past_trips(folder: Path, names: Collection[str], most: int) -> list[Json]:
    """The newest `most` of the services `names`, of all where none is named, the newest last. Blocking.

    Each has the fields of outcomes.describe, `service`, when it `started_at` and `ended_at` (seconds since
    the epoch), `why` it began and the files (`paths`, at most 20, and their `count`). A look that nobody
    asked for and that found nothing new is left out. A journal that is damaged or not there has no trips.
    """
    found: deque[Json] = deque(maxlen=most)
    begun: dict[str, Json] = {}
    for entry in _entries(folder):
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # of another version, or damaged
            service = str(entry["service"])
            if names and service not in names:
                continue
            if entry["event"] == "trip_started":
                begun[service] = entry
            elif entry["event"] == "trip_ended":
                start = begun.pop(service, {})
                if not (start.get("quiet") and entry["outcome"] != "live"):
                    found.append(_trip(start, entry))
    return list(found)


def as_table(trips: Sequence[Json], root: Path) -> str:
    """One row per trip; files relative to `root`."""
    rows = [COLUMNS, *(_row(trip, root) for trip in trips)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _entries(folder: Path) -> Iterator[Json]:
    """Of trips alone, the oldest first."""
    for name in (f"{FILE_NAME}.1", FILE_NAME):
        with suppress(OSError), (folder / name).open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if b'"event":"trip_' in line:
                    with suppress(ValueError, RecursionError):
                        yield json.loads(line)


def _trip(start: Json, end: Json) -> Json:
    change = start.get("change") or {}
    return {
        **{key: end.get(key) for key in _FROM_END},
        "started_at": start.get("at"),
        "ended_at": float(end["at"]),
        **{key: change.get(key) for key in _FROM_START},
    }


def _row(trip: Json, root: Path) -> tuple[str, ...]:
    error, seconds = trip["error"] or {}, (trip["seconds"] or {}).get("trip")
    return (
        datetime.fromtimestamp(trip["ended_at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        trip["service"],
        f"{trip['outcome']} in {error['stage']}" if error.get("stage") else str(trip["outcome"]),
        "" if seconds is None else f"{seconds:.2f}",
        trip["fingerprint"] or "-",
        trip["why"] or "-",
        _files(trip, root),
    )


def _files(trip: Json, root: Path) -> str:
    paths = [str(path).removeprefix(f"{root}/") for path in (trip["paths"] or ())[:SHOWN_FILES]]
    more = (trip["count"] or 0) - len(paths)
    return ", ".join(paths) + (f" and {more} more" if more > 0 and paths else "")
