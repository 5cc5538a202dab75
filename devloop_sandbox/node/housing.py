"""A pod's holder: taken from the pool, named after the pod, removed at its end."""

from __future__ import annotations

import asyncio

from devloop_sandbox.engine.client import EngineError
from devloop_sandbox.engine.holders import Holder, inspect_holder
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.objects.resources import Obj


class Housing:
    """`holder` is None until one is taken, and again when it has died."""

    def __init__(self, parts: Parts) -> None:
        self.holder: Holder | None = None
        self.is_new = False  # taken, and not yet called after the pod
        self._parts = parts
        self._taking: asyncio.Task[EngineError | None] | None = None

    @property
    def address(self) -> str:
        """The pod's address, "" if it has none yet."""
        return self.holder.address if self.holder is not None else ""

    async def ensure(self, tasks: asyncio.TaskGroup) -> None:
        """Have a holder. Taking one runs on in `tasks` when the caller is cancelled, so that none is lost."""
        if self.holder is not None:
            return
        self._taking = tasks.create_task(self._take())
        if (refused := await asyncio.shield(self._taking)) is not None:
            raise refused

    async def _take(self) -> EngineError | None:
        try:
            self.holder = await self._parts.pool.take()
        except EngineError as error:
            return error
        self.is_new = True
        return None

    async def settle(self) -> None:
        """Wait for a taking that runs."""
        if self._taking is not None:
            await asyncio.wait([self._taking])

    async def name(self, pod: Obj) -> None:
        self.is_new = False
        if self.holder is not None:
            await self._parts.pool.name(self.holder, pod)

    async def is_dead(self) -> bool:
        engine, network = self._parts.engine, self._parts.network
        return (
            self.holder is not None and await inspect_holder(engine, self.holder.container, network) is None
        )

    async def release(self) -> None:
        if self.holder is not None:
            await self._parts.engine.remove(self.holder.container)
            self.holder = None

    def addresses(self) -> Obj:
        """The host's and the pod's, as the status has them."""
        host = self._parts.network.gateway
        found: Obj = {"hostIP": host, "hostIPs": [{"ip": host}]}
        if self.holder is not None:
            found |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        return found

    def addressed(self, pod: Obj) -> Obj:
        """The pod with its addresses, which the downward API and /etc/hosts show."""
        return {**pod, "status": {**pod.get("status", {}), **self.addresses()}}
