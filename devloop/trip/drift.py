"""What the cluster shows now, beside what it showed when the last trip ended, target by target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devloop.model import Service, Snapshot
from devloop.rollout.judge import carries, own_images


def with_revisions(settled: Sequence[Snapshot], snapshots: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """`settled`, completed: a trip may end before the watch shows the ReplicaSet that it made, whose revision
    is known now."""
    return tuple(
        replace(old, revision=now.revision) if now.uid == old.uid and not old.revision else old
        for now, old in zip(snapshots, settled, strict=True)
    )


def rolls_again(settled: Sequence[Snapshot], snapshots: Sequence[Snapshot]) -> bool:
    """Whether pods are replaced for something else than the image (a manifest, `kubectl rollout restart`).

    A trip follows that rollout to its end, as any other. Where services share a workload, its template
    changes with each one's image too, which is that one's trip.
    """
    return any(
        now.uid == old.uid and now.revision not in ("", old.revision) and not now.theirs
        for now, old in zip(snapshots, settled, strict=True)
    )


def rewritten(service: Service, settled: Sequence[Snapshot], snapshots: Sequence[Snapshot], ref: str) -> bool:
    """Whether a target names another image than when the last trip ended, and it is not the tree's."""
    return any(
        (now.uid != old.uid or own_images(now, service.image) != own_images(old, service.image))
        and not carries(now, service.image, ref)
        for now, old in zip(snapshots, settled, strict=True)
    )
