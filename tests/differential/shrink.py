"""Makes a case smaller while it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.differential.case import Case

_MOST_RUNS = 40


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that fails too; gives up after some forty runs."""
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(case):
            if runs >= _MOST_RUNS:
                return case
            runs += 1
            if fails(candidate):
                case, smaller = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    for number in range(len(case.steps)):
        if len(case.steps) > 1:
            yield replace(case, steps=case.steps[:number] + case.steps[number + 1 :])
    for number, step in enumerate(case.steps):
        for one in range(len(step)):
            if len(step) > 1:
                less = step[:one] + step[one + 1 :]
                yield replace(case, steps=(*case.steps[:number], less, *case.steps[number + 1 :]))
    if case.ignored:
        yield replace(case, ignored="")
    lines = case.dockerfile.split("\n")
    for number, line in enumerate(lines):
        if line.strip() and not line.lower().startswith("from"):
            yield replace(case, dockerfile="\n".join(lines[:number] + lines[number + 1 :]))
