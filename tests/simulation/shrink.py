"""The shortest script, by leaving out steps, that a seed still goes wrong with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.script import Step


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Leaves out ever smaller runs of steps as long as what is left fails (ddmin); all steps if `fails` never
    holds of fewer. Each call of `fails` is a run."""
    left = list(steps)
    size = len(left) // 2
    while size:
        start = 0
        while start < len(left):
            fewer = left[:start] + left[start + size :]
            if fewer and fails(fewer):
                left = fewer
            else:
                start += size
        size //= 2
    return left
