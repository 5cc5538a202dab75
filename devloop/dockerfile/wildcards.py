"""Patterns with stars as regular expressions that never try more than each place once."""

from __future__ import annotations

from collections.abc import Iterable

STAR = "*"


def expression(parts: Iterable[str], *, greedy: bool = True) -> str:
    """`parts`: expressions for one character each, and STAR for any number of them.

    What stands between two stars is looked for once, as far left as it lies: any later place would leave less
    for what follows. Python's re would try every place of each star again for every place of the others.
    """
    runs = [""]
    for part in parts:
        if part == STAR:
            runs.append("")
        else:
            runs[-1] += part
    first, *others = runs
    if not others:
        return first
    found = "".join(f"(?>.*?{run})" for run in others[:-1] if run)
    return f"{first}{found}{'.*' if greedy else '.*?'}{others[-1]}"
