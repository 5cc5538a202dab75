"""Pure decisions of a service's worker: when a newer change may cancel, when another writer wins."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

PATIENCE = 3  # supersessions in a row that a service bears (S21)
LONGEST_WAIT = 10.0  # seconds without a PATCH, and seconds a trip that must pass may take after it
REVERSALS = 3  # foreign changes of the template that are mended within WINDOW before giving up (S20)
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Supersede, but progress (S21). `since` = when the oldest content not yet PATCHed was seen."""

    superseded: int = 0
    since: float | None = None

    def begun(self, now: float) -> Pace:
        return self if self.since is not None else replace(self, since=now)

    def cancelled(self) -> Pace:
        return replace(self, superseded=self.superseded + 1)

    def seconds_to_wait(self, now: float) -> float | None:
        """None: a newer change may cancel now. Else the trip goes on for at most this long."""
        overdue = self.since is not None and now - self.since >= LONGEST_WAIT
        return LONGEST_WAIT if self.superseded >= PATIENCE or overdue else None


@dataclass(frozen=True, slots=True)
class Reversals:
    """Who else writes our image, and how often (S20)."""

    times: tuple[float, ...] = field(default=())

    def noted(self, now: float) -> Reversals:
        return Reversals((*(t for t in self.times if now - t < WINDOW), now))

    @property
    def contested(self) -> bool:
        return len(self.times) >= REVERSALS
