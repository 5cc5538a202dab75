"""What people and programs may have a running `devloop watch` do: for keys, and for the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio.to_thread

from devloop.clock import Clock
from devloop.errors import ConfigError, DevloopError
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.model import Change, Held, Service
from devloop.trip.worker_pool import WorkerPool

Release = Callable[[Service], Awaitable[bool]]  # lifts a service's hold (S24); whether there was one
REBUILD, RESTART = "rebuild", "restart"  # why a trip began, as TripStarted has it


@dataclass(frozen=True, slots=True)
class Result:
    """What was done about one service. `done`: it is, or is going to be, as it was asked for; else `message`
    says why not. It does not name the service."""

    service: str
    done: bool
    message: str
    hint: str | None = None


class Actions:
    """Each takes names of services, none for all that the watch works for, and returns when it has begun:
    what comes of it is a trip like any other. Raises ConfigError for an unknown name.
    """

    def __init__(self, pool: WorkerPool, rebuilt: RebuildSalts, release: Release, clock: Clock) -> None:
        self._pool, self._rebuilt, self._release, self._clock = pool, rebuilt, release, clock

    @property
    def pool(self) -> WorkerPool:
        """The workers that all of this is done to."""
        return self._pool

    @property
    def services(self) -> tuple[str, ...]:
        """The names of those that the watch works for."""
        return tuple(self._pool.services)

    async def rebuild(self, names: Sequence[str] = ()) -> tuple[Result, ...]:
        """Build the images anew and in full, though their fingerprints may be the same: under new tags (S3).

        Raises PlatformError where the state directory cannot be written.
        """
        chosen = self._chosen(names)
        begins = [service.name for service in chosen if not self._pool.is_paused(service.name)]
        if begins:
            await anyio.to_thread.run_sync(self._rebuilt.renew, begins, str(self._clock.now()))
        for name in begins:
            self._begin(name, REBUILD)
        return tuple(
            Result(service.name, True, "rebuilding") if service.name in begins else _paused(service.name)
            for service in chosen
        )

    async def restart(self, names: Sequence[str] = ()) -> tuple[Result, ...]:
        """Replace the pods, with the image that they have, or with that of a tree that has changed."""
        return tuple(map(self._restart, self._chosen(names)))

    async def pause(self, names: Sequence[str] = ()) -> tuple[Result, ...]:
        """Collect what is saved, and begin no trip until `resume`. One that runs goes on."""
        return tuple(
            Result(service.name, True, "paused" if fresh else "was paused already")
            for service in self._chosen(names)
            for fresh in (self._pool.pause(service.name),)
        )

    async def resume(self, names: Sequence[str] = ()) -> tuple[Result, ...]:
        """Lift pauses and the holds of `devloop rollback`; what was collected is taken up."""
        return tuple([await self._resume(service) for service in self._chosen(names)])

    async def trigger(self, names: Sequence[str] = ()) -> tuple[Result, ...]:
        """Take up what was saved of services with `trigger: manual`; without names, of all of those."""
        chosen = self._chosen(names)
        manual = [service for service in chosen if service.trigger == "manual"]
        return tuple(map(self._trigger, chosen if names else manual))

    def _trigger(self, service: Service) -> Result:
        name = service.name
        if service.trigger != "manual":
            return Result(name, False, "follows every save: its trigger is not manual")
        if self._pool.is_paused(name):
            return _paused(name)
        return Result(name, True, "triggered" if self._pool.trigger(name) else "nothing is pending")

    def _restart(self, service: Service) -> Result:
        name = service.name
        standing = self._pool.standing(name)
        if self._pool.is_paused(name):
            return _paused(name)
        if not service.targets:
            return Result(name, False, "has no deploy: in config.yaml, so no pods")
        if standing is not None and isinstance(standing.outcome, Held) and not standing.busy:
            hint = f"devloop resume {name}, or kubectl rollout restart"
            return Result(name, False, "is held at another image by devloop rollback", hint)
        self._begin(name, RESTART, restart=True)
        return Result(name, True, "restarting")

    async def _resume(self, service: Service) -> Result:
        name = service.name
        try:
            held = await self._release(service)
        except DevloopError as error:  # a pause is lifted all the same
            held = None
            failure = error
        paused = self._pool.resume(name)
        if held is None:
            return Result(name, False, f"its hold could not be lifted: {failure.message}", failure.hint)
        if not (paused or held):
            return Result(name, True, "was neither paused nor held")
        return Result(name, True, "resumed" if paused else "no longer held")

    def _begin(self, name: str, why: str, *, restart: bool = False) -> None:
        now = self._clock.now()
        self._pool.begin(name, Change(frozenset(), now, now, why, restart))

    def _chosen(self, names: Sequence[str]) -> tuple[Service, ...]:
        services = self._pool.services
        unknown = [name for name in names if name not in services]
        if unknown:
            raise ConfigError(
                f"the running devloop watch has no service {', '.join(unknown)}",
                hint=f"it works for: {', '.join(services) or 'none'}",
            )
        return tuple(services[name] for name in dict.fromkeys(names or services))


def _paused(name: str) -> Result:
    return Result(name, False, "is paused", f"devloop resume {name}")
