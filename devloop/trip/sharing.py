"""Services that share a workload: each sets a container of its own, and the pods need all of them (S26).

A pod that is not ready says nothing against a service while another one's image for it is still on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from devloop.errors import DependencyError, OvertakenError, TargetMissingError, TreeMovedError
from devloop.image_refs import same_repository
from devloop.model import Failed, Held, Neighbour, Outcome, Service, Snapshot, Superseded, Target

if TYPE_CHECKING:
    from devloop.ports import Feed


Waiting = Callable[[tuple[str, ...]], AbstractContextManager[None]]


class Sharing:
    """What the services of one session know of each other's trips. A service is at work until it rests."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._rests: dict[str, str] = {}  # service -> "failed in build", "is live"
        self._loaded: set[str] = set()
        self._lived: set[str] = set()  # once in this session; or held at an image that did
        self._moved = anyio.Event()

    def employ(self, services: Sequence[Service]) -> None:
        """These are worked for from now on; those that are new or changed are at work."""
        wanted = {service.name: service for service in services}
        for name in [name for name, old in self._services.items() if wanted.get(name) != old]:
            self._rests.pop(name, None)
            self._loaded.discard(name)
        self._services = wanted
        self._stir()

    def begun(self, service: Service) -> None:
        """A trip of the service begins."""
        if self._rests.pop(service.name, None) is not None:
            self._stir()

    def loaded(self, service: Service) -> None:
        """The service's image is on the nodes."""
        self._loaded.add(service.name)
        self._stir()

    def ended(self, service: Service, outcome: Outcome) -> None:
        """A trip ended; after some of its ends another one follows at once."""
        error = outcome.error if isinstance(outcome, Failed) else None
        if not isinstance(outcome, Failed | Superseded):
            self._loaded.add(service.name)
            self._lived.add(service.name)
        if not isinstance(outcome, Superseded) and not isinstance(error, TreeMovedError | OvertakenError):
            self.rests(service, _word(outcome))

    def rests(self, service: Service, result: str) -> None:
        """No trip of the service is under way, and none is to come by itself."""
        self._rests[service.name] = result
        self._stir()

    def gives_up(self, service: Service) -> None:
        """No further trip is to come, also where one would follow."""
        if service.name not in self._rests:
            self.rests(service, "failed: its tree or its workload keeps changing")

    def feed(self, service: Service, feed: Feed) -> Feed:
        """The feed as this service sees it."""
        return _SharedFeed(feed, lambda: self._neighbours(service, feed.latest.target), lambda: self._moved)

    async def all_loaded(self, service: Service) -> bool:
        """Wait for the images of those that share a workload; False where nobody does.

        Raises TargetMissingError where one of them has none to come.
        """
        while others := [other for other, _ in self._sharing(service) if other.name not in self._loaded]:
            for other in others:
                if other.name in self._rests:
                    result = self._rests[other.name]
                    raise TargetMissingError(
                        f"{service.targets[0]} is not there yet: it waits for the image of {other.name}, "
                        f"which {result}",
                        reason="WaitsForImage",
                        hint=f"fix {other.name}: both continue as soon as its image is there",
                    )
            await self._moved.wait()
        return any(True for _ in self._sharing(service))

    async def turn(self, service: Service, waiting: Waiting) -> None:
        """Wait for those that the service depends on, within `waiting` of their names; at once where it has
        been live before. One that is not worked for is not waited for.

        Raises DependencyError where one of them is not live, and no trip of it is to come by itself.
        """
        if names := self._awaited(service):
            with waiting(names):
                while names := self._awaited(service):
                    for name in names:
                        if name in self._rests:
                            raise DependencyError(
                                f"{service.name} waits for {name}, which {self._rests[name]}",
                                hint=f"fix {name}: {service.name} continues as soon as it is live",
                            )
                    await self._moved.wait()

    async def dependencies_live(self, service: Service) -> None:
        """Wait for them however long it takes."""
        while self._awaited(service):
            await self._moved.wait()

    def _awaited(self, service: Service) -> tuple[str, ...]:
        if service.name in self._lived:
            return ()
        return tuple(
            name for name in service.depends_on if name in self._services and name not in self._lived
        )

    def _sharing(self, service: Service) -> Iterator[tuple[Service, Target]]:
        """The others, each with its target on a workload of this service."""
        workloads = {target.workload for target in service.targets}
        for other in self._services.values():
            for target in other.targets if other.name != service.name else ():
                if target.workload in workloads:
                    yield other, target

    def _neighbours(self, service: Service, at: Target) -> tuple[tuple[Neighbour, str, str | None], ...]:
        """(who, image, container) of the others on this one workload."""
        return tuple(
            (Neighbour(other.name, self._rests.get(other.name, "")), other.image, target.container)
            for other, target in self._sharing(service)
            if target.workload == at.workload
        )

    def _stir(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()


Neighbours = tuple[tuple[Neighbour, str, str | None], ...]


class _SharedFeed:
    """`ports.Feed`: another's containers are marked in its snapshots, and no images of this service's."""

    def __init__(self, feed: Feed, neighbours: Callable[[], Neighbours], moved: Callable[[], anyio.Event]):
        self._feed, self._neighbours, self._moved = feed, neighbours, moved
        self._known: tuple[Snapshot, Neighbours, Snapshot] | None = None

    @property
    def latest(self) -> Snapshot:
        """The same object as before if nothing of it has changed."""
        seen, neighbours = self._feed.latest, self._neighbours()
        if not neighbours:
            return seen
        if self._known is None or self._known[0] is not seen or self._known[1] != neighbours:
            self._known = seen, neighbours, marked(seen, neighbours)
        return self._known[2]

    async def next(self, seen: Snapshot) -> Snapshot:
        while (newest := self.latest) is seen:
            beneath, moved = self._feed.latest, self._moved()
            async with anyio.create_task_group() as group:

                async def other_trip(moved: anyio.Event = moved) -> None:
                    await moved.wait()
                    group.cancel_scope.cancel()

                group.start_soon(other_trip)
                await self._feed.next(beneath)
                group.cancel_scope.cancel()
        return newest


def marked(snapshot: Snapshot, neighbours: Neighbours) -> Snapshot:
    """The snapshot with the containers that others set."""
    theirs: dict[str, Neighbour] = {}
    for who, image, container in neighbours:
        for name, text in snapshot.images.items():
            if name == container if container is not None else same_repository(text, image):
                theirs[name] = replace(who, image=text)
    own = {name: text for name, text in snapshot.images.items() if name not in theirs}
    return replace(snapshot, images=own, theirs=theirs)


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Failed) and isinstance(outcome.error, DependencyError):
        return outcome.error.message.partition(" ")[2].partition(",")[0]  # "waits for db"
    if isinstance(outcome, Failed):
        return f"failed in {outcome.stage}"
    return "is held" if isinstance(outcome, Held) else "is live"
