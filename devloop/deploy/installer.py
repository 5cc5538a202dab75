"""The `Installer` port: namespaces, plain manifests, releases, each when it changed or is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Protocol

import anyio
import anyio.to_thread

from devloop.deploy.manifests import Manifests, Step
from devloop.deploy.releases import POLL_SECONDS, Releases
from devloop.errors import DevloopError, PrerequisiteError
from devloop.model import Service

Waiting = Callable[[tuple[str, ...]], AbstractContextManager[None]]


class OtherContainers(Protocol):
    """Other services, as far as this one waits for them (trip/sharing.py)."""

    def loaded(self, service: Service) -> None:
        """The service's image is on the nodes."""
        ...

    async def all_loaded(self, service: Service) -> bool:
        """Wait for the images of those that share a workload with it; False where nobody does.

        Raises TargetMissingError where one of them has none to come.
        """
        ...

    async def turn(self, service: Service, waiting: Waiting) -> None:
        """Wait for those that it depends on, within `waiting` of their names. Raises DependencyError."""
        ...


class Installation:
    """Manifests and releases together, in this order, for a manifest may hold what a chart needs."""

    def __init__(self, manifests: Manifests, releases: Releases, others: OtherContainers) -> None:
        self.manifests, self.releases = manifests, releases
        self._others = others

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As in the port. A target that is missing may wait for the images of its other containers."""
        self._others.loaded(service)
        await self.releases.make_namespaces()

        async def both() -> bool:
            return await self._both(
                lambda: self.manifests.install(service, ref, missing=missing),
                lambda: self.releases.install(service, ref, missing=missing),
            )

        changed = await both()
        if missing and await self._others.all_loaded(service):
            changed = await both() or changed
        return changed

    async def turn(self, service: Service, waiting: Waiting) -> None:
        """As in the port."""
        await self._others.turn(service, waiting)

    async def settle(self, *, trips_follow: bool = False) -> bool:
        """Write what changed, as far as its images are loaded. Raises as `install`. `trips_follow`: as in
        Manifests."""
        await self.releases.make_namespaces()
        return await self._both(
            lambda: self.manifests.settle(trips_follow=trips_follow), self.releases.settle
        )

    @asynccontextmanager
    async def writing(self, service: Service) -> AsyncIterator[None]:
        async with self.releases.writing(service):
            yield

    async def unblocked(self) -> None:
        """Returns as soon as one of those that lack something no longer does."""
        waiting = [part for part in (self.manifests, self.releases) if part.blocked]
        if not waiting:  # a namespace that goes away, for one
            await anyio.sleep(POLL_SECONDS)
            return
        async with anyio.create_task_group() as group:

            async def wait(part: Manifests | Releases) -> None:
                while True:
                    with suppress(DevloopError):  # no answer, or another error: what was missing still is
                        await part.unblocked()
                        group.cancel_scope.cancel()
                    await anyio.sleep(POLL_SECONDS)

            for part in waiting:
                group.start_soon(wait, part)

    async def _both(self, apply: Step, release: Step) -> bool:
        """Manifests, then releases; what manifests lack a release may bring."""
        try:
            applied = await apply()
        except PrerequisiteError:
            if not await release():
                raise
            return await apply() or True
        return await release() or applied
