"""The kubelet's patience: 10 s, doubling to 300 s, forgotten after ten quiet minutes."""

from __future__ import annotations

from dataclasses import dataclass

INITIAL, MAXIMUM = 10.0, 300.0  # seconds


@dataclass(slots=True)
class Backoff:
    """One container's (or one image's). Times are seconds of one clock; waits come out scaled."""

    scale: float = 1.0
    seconds: float = 0.0  # nominal length of the current wait; 0 = nothing has failed yet
    updated: float = 0.0

    def remaining(self, since: float, now: float) -> float:
        """How much longer to wait when the failure was at `since`; 0 = go on."""
        if not self.seconds or self._expired(since):
            return 0.0
        return max(0.0, since + self.seconds * self.scale - now)

    def advance(self, since: float, now: float) -> None:
        """Another try begins: the next wait is twice as long, or the first again."""
        fresh = not self.seconds or self._expired(since)
        self.seconds = INITIAL if fresh else min(self.seconds * 2, MAXIMUM)
        self.updated = now

    def _expired(self, since: float) -> bool:
        return since - self.updated > 2 * MAXIMUM * self.scale


def go_duration(seconds: float) -> str:
    """10 -> "10s", 160 -> "2m40s", 300 -> "5m0s"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
