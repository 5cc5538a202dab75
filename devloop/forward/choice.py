"""Which pods a new connection may go to, the best first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from devloop.model import PodView, Snapshot


def candidates(snapshots: Sequence[Snapshot]) -> list[PodView]:
    """The ready pods that stay: those with the images of the template first, of these the newest first."""
    ranked = [
        ((_is_current(pod, snapshot), _ready_since(pod), pod.name), pod)
        for snapshot in snapshots
        for pod in snapshot.pods
        if pod.ready and not pod.terminating and not pod.over
    ]
    return [pod for _, pod in sorted(ranked, key=lambda one: one[0], reverse=True)]


def _is_current(pod: PodView, snapshot: Snapshot) -> bool:
    runs = {container.name: container.image for container in pod.containers}
    return all(runs.get(name) == image for name, image in snapshot.images.items())


def _ready_since(pod: PodView) -> float:
    return pod.ready_at or pod.started_at or 0.0
