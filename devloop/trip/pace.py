"""Pure decisions of a service's worker: when a newer change may cancel, when another writer wins."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from devloop.errors import TreeMovedError
from devloop.model import Failed, Outcome, Superseded

PATIENCE = 3  # supersessions in a row that a service accepts (S21)
LONGEST_WAIT = 10.0  # seconds without a PATCH, and seconds a trip that must pass may take after it
REVERSALS = 3  # foreign changes of the template that are mended within WINDOW before giving up (S20)
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Supersede, but progress (S21). `since` = when the oldest content not yet PATCHed was seen.

    `stalled` = how many trips in a row were superseded because they showed no progress.
    """

    superseded: int = 0
    since: float | None = None
    stalled: int = 0

    def begun(self, now: float) -> Pace:
        return self if self.since is not None else replace(self, since=now)

    def cancelled(self, *, stalled: bool = False) -> Pace:
        return replace(self, superseded=self.superseded + 1, stalled=self.stalled + 1 if stalled else 0)

    def after(self, outcome: Outcome, *, patched: bool, stalled: bool) -> Pace:
        """A trip ended. `patched`: it got as far as its rollout; `stalled`: it showed no progress."""
        if isinstance(outcome, Superseded):
            pace = self.cancelled(stalled=stalled)
            return Pace(pace.superseded) if patched else pace
        moved = isinstance(outcome, Failed) and isinstance(outcome.error, TreeMovedError)
        return self if moved else Pace()  # a tree that moved leaves the next trip the same right to pass

    def must_pass(self, at: float) -> bool:
        """Whether the trip goes through to its PATCH though a newer change waits; `at`: now, or the PATCH."""
        overdue = self.since is not None and at - self.since >= LONGEST_WAIT
        return self.superseded >= PATIENCE or overdue

    def patience(self, longest: float) -> float:
        """Seconds without progress after which even a trip that must pass is superseded."""
        return min(LONGEST_WAIT * 2.0**self.stalled, longest)


@dataclass(frozen=True, slots=True)
class Reversals:
    """Who else writes our image, and how often (S20)."""

    times: tuple[float, ...] = field(default=())

    def noted(self, now: float) -> Reversals:
        return Reversals((*(t for t in self.times if now - t < WINDOW), now))

    @property
    def contested(self) -> bool:
        return len(self.times) >= REVERSALS
