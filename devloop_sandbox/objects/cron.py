"""Schedules of CronJobs: five fields as cron has them, @hourly and its like, or @every and a duration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")
_LONGEST = timedelta(days=366 * 5)  # a schedule that has no time within that has none
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When, in the zone's own time. A day fits either of its two fields if both are restricted."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: tzinfo

    def next(self, after: datetime, _: datetime | None = None) -> datetime | None:
        """The first time later than `after`, None if there is none."""
        return self._search(after, forward=True)

    def last(self, until: datetime, _: datetime | None = None) -> datetime | None:
        """The last time that is not later than `until`."""
        return self._search(until, forward=False)

    def _search(self, start: datetime, *, forward: bool) -> datetime | None:
        moment = start.astimezone(UTC).replace(second=0, microsecond=0) + (
            _MINUTE if forward else timedelta()
        )
        end = moment + (_LONGEST if forward else -_LONGEST)
        while moment <= end if forward else moment >= end:
            local = moment.astimezone(self.zone)
            if not self._has_day(local):
                day = local.date() + timedelta(days=1 if forward else 0)
                midnight = datetime.combine(day, time(), self.zone).astimezone(UTC)
                moment = midnight if forward else midnight - _MINUTE
            elif local.hour in self.hours and local.minute in self.minutes:
                return moment
            else:
                moment += _MINUTE if forward else -_MINUTE
        return None

    def _has_day(self, local: datetime) -> bool:
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        fits = day and weekday if self.any_day or self.any_weekday else day or weekday
        return fits and local.month in self.months


@dataclass(frozen=True, slots=True)
class Every:
    """A time each `period` seconds from the last that was taken, or from when the CronJob was made."""

    period: int

    def next(self, after: datetime, begun: datetime) -> datetime | None:
        return begun + timedelta(seconds=self.period * (self._taken(after, begun) + 1))

    def last(self, until: datetime, begun: datetime) -> datetime | None:
        taken = self._taken(until, begun)
        return begun + timedelta(seconds=self.period * taken) if taken else None

    def _taken(self, moment: datetime, begun: datetime) -> int:
        return max(0, int((moment - begun).total_seconds() // self.period))


def schedule_of(text: str, zone: str = "") -> Schedule | Every:
    """Raises ValueError: what is wrong with the schedule, or no such zone."""
    if text.strip().startswith(_EVERY):
        _zone(zone)
        return Every(_seconds(text.strip().removeprefix(_EVERY)))
    fields = _NAMED.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    minutes, hours, days, months, weekdays = (
        _values(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)
    )
    stars = [field.startswith(("*", "?")) for field in fields]
    return Schedule(minutes, hours, days, months, weekdays, stars[2], stars[4], _zone(zone))


def _seconds(text: str) -> int:
    """Of a duration as Go writes it, "1h30m"; whole seconds, and at least one, as in Kubernetes."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"failed to parse duration {_EVERY}{text}")
    return max(1, int(sum(float(number) * _UNITS[unit] for number, unit in parts)))


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _values(field: str, what: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            low, high = least, most
        else:
            low = _number(first, what)
            high = _number(last, what) if dash else most if slash else low
        if slash and not (step.isdigit() and int(step)):
            raise ValueError(f"failed to parse {what} step: {part}")
        if not least <= low <= high <= most:
            raise ValueError(f"{what} {part} is not within {least}-{most}")
        found.update(range(low, high + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(text: str, what: str) -> int:
    names = _MONTHS if what == "month" else _DAYS if what == "day of week" else ()
    if text in names:
        return names.index(text) + (what == "month")
    if not text.isdigit():
        raise ValueError(f"failed to parse {what}: {text or 'nothing'}")
    return int(text)
