"""What the cluster shows now, beside what it showed when the last trip ended, target by target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devloop.model import Service, Snapshot, Target
from devloop.rollout.judge import carries, own_images


def with_revisions(settled: Sequence[Snapshot], snapshots: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """`settled`, completed with the revisions that are no news: the trip's own, where it ended before the
    watch showed it, and that of another service's image in the same pods."""
    return tuple(
        replace(
            old,
            revision=now.revision,
            theirs=now.theirs,
            generation=now.generation,
            observed_generation=now.observed_generation,
        )
        if _is_no_news(old, now)
        else old
        for now, old in zip(snapshots, settled, strict=True)
    )


def rolling(settled: Sequence[Snapshot], snapshots: Sequence[Snapshot]) -> Target | None:
    """Whose pods are replaced for something else than an image (a manifest, `kubectl rollout restart`); None
    where nobody's are.

    A trip follows that rollout to its end, as any other.
    """
    for now, old in zip(snapshots, settled, strict=True):
        if now.uid == old.uid and now.revision not in ("", old.revision) and _shows_revision(now):
            return now.target
    return None


def rewritten(service: Service, settled: Sequence[Snapshot], snapshots: Sequence[Snapshot], ref: str) -> bool:
    """Whether a target names another image than when the last trip ended, and it is not the tree's."""
    return any(
        (now.uid != old.uid or own_images(now, service.image) != own_images(old, service.image))
        and not carries(now, service.image, ref)
        for now, old in zip(snapshots, settled, strict=True)
    )


def _is_no_news(old: Snapshot, now: Snapshot) -> bool:
    """Whether a revision that the last trip did not settle for is its own, or another service's."""
    if now.uid != old.uid or now.revision in ("", old.revision) or not _shows_revision(now):
        return False
    others = old.theirs.keys() & now.theirs.keys()
    saved = any(now.theirs[name].image != old.theirs[name].image for name in others)
    return saved or not old.revision or not _shows_revision(old)


def _shows_revision(snapshot: Snapshot) -> bool:
    """Of a template that another service wrote, a StatefulSet's status shows the revision a moment later."""
    return not snapshot.theirs or snapshot.observed_generation >= snapshot.generation
