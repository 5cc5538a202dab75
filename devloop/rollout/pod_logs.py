"""The new pods' logs, line by line, across rollouts: a companion of each worker in `watch`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

import anyio

from devloop.errors import DevloopError
from devloop.events import Emit, PodLog
from devloop.model import ContainerView, PodView, Snapshot, Target
from devloop.ports import Feed
from devloop.rollout.follow import any_newer


class Logs(Protocol):
    """Of the port Cluster."""

    def logs(
        self, target: Target, pod: str, container: str, *, from_now: bool = False
    ) -> AsyncIterator[str]: ...


Run = tuple[str, str, int]  # pod uid, container, restarts: one life of one container


async def follow_logs(service: str, feeds: Sequence[Feed], cluster: Logs, emit: Emit) -> None:
    """Emit every line of the containers that carry the template; ends when cancelled.

    What a pod printed before this began is not repeated.
    """
    followed: set[Run] = set()
    from_now = True  # what stands at the start printed its lines before

    async def follow(target: Target, pod: str, container: str, recent: bool) -> None:
        try:
            async for line in cluster.logs(target, pod, container, from_now=recent):
                emit(PodLog(service, pod, container, line))
        except DevloopError:
            return  # the pod or the API server is gone; the container's next life is followed again

    async with anyio.create_task_group() as group:
        while feeds:
            seen = [feed.latest for feed in feeds]
            lives = {run: (s.target, pod, box) for s in seen for run, pod, box in _lives(s)}
            for run in lives.keys() - followed:
                target, pod, container = lives[run]
                group.start_soon(follow, target, pod.name, container.name, from_now)
            # Followed on while nothing names its pod's revision, as amid the writes of an update in place.
            known = {pod.uid for snapshot in seen for pod in snapshot.pods}
            followed = {run for run in followed | lives.keys() if run[0] in known}
            from_now = False
            await any_newer(feeds, seen)


def _lives(snapshot: Snapshot) -> Iterator[tuple[Run, PodView, ContainerView]]:
    for pod in snapshot.pods:
        if pod.revision == snapshot.revision and not pod.terminating:
            for container in pod.containers:
                if container.running and container.name not in snapshot.theirs:  # another service shows it
                    yield (pod.uid, container.name, container.restarts), pod, container
