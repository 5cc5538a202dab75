"""The workers of `watch`, one per service, and their replacement when config.yaml changes (S28)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import anyio
from anyio.abc import TaskGroup

from devloop.engine import start_of
from devloop.errors import DevloopError, HeldError
from devloop.events import LiveChanged, Notice
from devloop.model import Change, Service, Target
from devloop.ports import World
from devloop.safety_net import SafetyNet
from devloop.worker import Worker

Companion = Callable[[Worker], Coroutine[Any, Any, None]]
Hold = Callable[[Target], AbstractContextManager[None]]


class Crew:
    """`run` works for `services` until cancelled; `employ` changes whom it works for, at any time.

    `hold` keeps every other devloop away from a target (S26); `companions` run beside each worker.
    """

    def __init__(
        self, world: World, hold: Hold, net: SafetyNet, companions: Sequence[Companion] = ()
    ) -> None:
        self._world, self._hold, self._net, self._companions = world, hold, net, companions
        self._employed: dict[str, tuple[Worker, anyio.CancelScope]] = {}
        self._group: TaskGroup | None = None

    async def run(self, services: Sequence[Service]) -> None:
        """Raises HeldError, PlatformError at the start only."""
        async with anyio.create_task_group() as group:
            self._group = group
            self.employ(services, first=True)
            await anyio.sleep_forever()

    def employ(self, services: Sequence[Service], *, first: bool = False) -> tuple[str, ...]:
        """Work for exactly these from now on; the names of those that are new, changed or gone."""
        assert self._group is not None
        wanted = {service.name: service for service in services}
        touched: list[str] = []
        for name, (worker, scope) in list(self._employed.items()):
            if wanted.get(name) != worker.service:
                scope.cancel()
                del self._employed[name]
                touched.append(name)
        for name, service in wanted.items():
            if name not in self._employed:
                worker, scope = Worker(service, self._world), anyio.CancelScope()
                self._employed[name] = worker, scope
                worker.inbox.put(start_of(self._world.clock))
                self._group.start_soon(self._work, worker, scope, first)
                touched.append(name)
        return tuple(dict.fromkeys(touched))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the services that it works for."""
        return tuple(self._employed)

    def deliver(self, name: str, change: Change) -> None:
        """Put a change into the inbox of the service, if it is still one of ours."""
        if name in self._employed:
            self._employed[name][0].inbox.put(change)

    async def _work(self, worker: Worker, scope: anyio.CancelScope, first: bool) -> None:
        with scope, ExitStack() as stack:
            for target in worker.service.targets:
                try:
                    stack.enter_context(self._hold(target))
                except HeldError as error:
                    if first:
                        raise
                    self._world.emit(Notice(worker.service.name, "error", error.message, error.hint))
                    return
            name = worker.service.name
            await self._net.keep(
                f"service {name}",
                self._serve,
                name,
                scope,
                service=name,
                fell=lambda: self._world.emit(LiveChanged(name, False, "", "failed")),
                lets_through=lambda error: (
                    first and worker.outcome is None and isinstance(error, DevloopError)
                ),
            )

    async def _serve(self, name: str, scope: anyio.CancelScope) -> None:
        """The worker with its companions; after an error that nobody expected, to be called again."""
        worker = self._employed[name][0]
        try:
            async with anyio.create_task_group() as group:
                for companion in self._companions:
                    group.start_soon(self._net.keep, f"{name}, beside its trips", companion, worker)
                await worker.run()
        except Exception:
            again = Worker(worker.service, self._world)
            again.inbox.put(start_of(self._world.clock))
            self._employed[name] = again, scope
            raise
