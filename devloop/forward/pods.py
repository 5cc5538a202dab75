"""The pods of one service as its feeds show them, followed by one task for all connections."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from devloop.forward.choice import candidates
from devloop.model import PodView, Snapshot
from devloop.ports import Feed
from devloop.rollout.follow import any_newer


class Pods:
    """Empty until `follow` runs."""

    def __init__(self) -> None:
        self._snapshots: Sequence[Snapshot] = ()
        self._changed = anyio.Event()  # set, and replaced, at each newer snapshot
        self._gone: dict[str, anyio.Event] = {}  # uid -> whether it is, of the pods that somebody asked for

    async def follow(self, feeds: Sequence[Feed]) -> None:
        """Until cancelled."""
        while True:
            seen = [feed.latest for feed in feeds]
            self._snapshots = seen
            present = {pod.uid for snapshot in seen for pod in snapshot.pods}
            for uid in self._gone.keys() - present:
                self._gone.pop(uid).set()
            self._changed.set()
            self._changed = anyio.Event()
            await any_newer(feeds, seen)

    def ready(self) -> list[PodView]:
        """Those that a new connection may go to, the best first."""
        return candidates(self._snapshots)

    def gone(self, pod: PodView) -> anyio.Event:
        """Set once the API has the pod no more."""
        return self._gone.setdefault(pod.uid, anyio.Event())

    async def change(self, seconds: float) -> None:
        """Wait for the next snapshot, for so long at most."""
        with anyio.move_on_after(seconds):
            await self._changed.wait()
