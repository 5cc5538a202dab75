"""A regular expression as a tree that is matched in time linear in the text, as Go does it.

Python's own engine tries again and again: with five stars, a path of 200 characters takes it hours.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, field

_CHEAP = 200_000  # steps of Python's engine, at most


@dataclass(slots=True)
class Node:
    """One character or one anchor (`test`), a sequence of nodes or several (`branches`), and how often."""

    test: re.Pattern[str] | None = None
    width: int = 1  # of what `test` takes: 0 for an anchor
    branches: list[list[Node]] = field(default_factory=list)
    least: int = 1
    most: int | None = 1  # None: any number

    def ends(self, text: str, starts: Set[int]) -> Set[int]:
        """Where a match may end that begins at one of `starts`."""
        for _ in range(self.least):
            starts = self._once(text, starts)
        found, new, left = set(starts), starts, self.most
        while new and (left is None or left > self.least):
            new = self._once(text, new) - found
            found |= new
            left = None if left is None else left - 1
        return found

    def _once(self, text: str, starts: Set[int]) -> Set[int]:
        if self.test is not None:
            return {start + self.width for start in starts if self.test.match(text, start)}
        return {end for branch in self.branches for end in sequence(branch, text, starts)}

    def ways(self, length: int) -> int:
        """How many ways through it Python's engine may try, on a text of this length."""
        inner = sum(ways(branch, length) for branch in self.branches) if self.branches else 1
        times = (length if self.most is None else min(self.most, length)) - self.least + 1
        return max(1, inner) * max(1, times)


def sequence(nodes: list[Node], text: str, starts: Set[int]) -> Set[int]:
    for node in nodes:
        starts = node.ends(text, starts)
        if not starts:
            break
    return starts


def ways(nodes: list[Node], length: int) -> int:
    found = 1
    for node in nodes:
        found *= node.ways(length)
        if found > _CHEAP:
            break
    return found


@dataclass(frozen=True, slots=True)
class GoRegexp:
    """`quick` does the same, and does not end for some texts."""

    quick: re.Pattern[str]
    tree: Node

    def found_in(self, text: str) -> bool:
        if self.tree.ways(len(text)) * (len(text) + 1) <= _CHEAP:
            return self.quick.search(text) is not None
        return bool(self.tree.ends(text, frozenset(range(len(text) + 1))))
