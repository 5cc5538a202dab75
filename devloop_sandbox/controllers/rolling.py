"""The arithmetic of a rolling update, as the Deployment controller of Kubernetes does it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """One ReplicaSet: what it is asked for and what of it is available."""

    replicas: int
    available: int = 0


def amount(value: int | str, total: int, *, up: bool) -> int:
    """A number, or a percentage of `total` rounded up or down."""
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * total / 100
    return math.ceil(share) if up else math.floor(share)


def limits(surge: int | str, unavailable: int | str, desired: int) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods; they are never both 0, or nothing could move."""
    more, fewer = amount(surge, desired, up=True), amount(unavailable, desired, up=False)
    if more == 0 and fewer == 0:
        fewer = 1
    return more, min(fewer, desired)


def grown(new: Size, old: list[Size], desired: int, surge: int) -> int:
    """What the new ReplicaSet may have now."""
    if new.replicas > desired:
        return desired
    spare = desired + surge - new.replicas - sum(size.replicas for size in old)
    return new.replicas + max(0, min(spare, desired - new.replicas))


def shrunk(new: Size, old: list[Size], desired: int, unavailable: int) -> list[int]:
    """What the old ReplicaSets, oldest first, may keep: their unhealthy pods go first."""
    kept = [size.replicas for size in old]
    least = desired - unavailable
    removable = new.replicas + sum(kept) - least - (new.replicas - new.available)
    if removable <= 0:
        return kept
    removed = 0
    for index, size in enumerate(old):
        down = max(0, min(removable - removed, size.replicas - size.available))
        kept[index] -= down
        removed += down
    spare = new.available + sum(size.available for size in old) - least
    for index, left in enumerate(kept):
        down = max(0, min(left, spare))
        kept[index] -= down
        spare -= down
    return kept


def proportional(sizes: list[tuple[int, int]], allowed: int, desired: int, most: int) -> list[int]:
    """Scale several active ReplicaSets at once: (replicas, max-replicas when last scaled), largest first.

    `allowed` is what all may have together, `most` the Deployment's replicas + maxSurge.
    """
    to_add = allowed - sum(size for size, _ in sizes)
    added, scaled = 0, []
    for size, before in sizes:
        share = -size if desired == 0 else _round(size * most / (before or most)) - size
        rest = to_add - added
        share = min(share, rest) if to_add > 0 else max(share, rest)
        share = share if to_add else 0
        added += share
        scaled.append(size + share)
    if scaled:
        scaled[0] = max(0, scaled[0] + to_add - added)
    return scaled


def _round(value: float) -> int:
    return math.floor(value + 0.5)
