"""The forwarded ports of a session, as config.yaml has them now."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from devloop.errors import PlatformError
from devloop.events import Emit, Forwarded, Notice
from devloop.forward.listener import ForwardedPort, is_free, open_sockets
from devloop.forward.pods import Pods
from devloop.forward.tunnels import Tunnels
from devloop.model import Forward, Target
from devloop.ports import Cluster
from devloop.safety_net import SafetyNet

BUSY_SECONDS = 1.0  # between two looks at a port that is in use

Wanted = tuple[Forward, tuple[Target, ...]]  # what is forwarded, and whose pods


class TunnelCluster(Cluster, Tunnels, Protocol):
    """What it asks of the cluster."""


@dataclass(eq=False, slots=True)
class _Port:
    """One that is forwarded. `ended`: it listens no more."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Forwarder:
    """`run` until cancelled. `wanted` is asked again after each `reloaded`."""

    def __init__(
        self,
        cluster: TunnelCluster,
        wanted: Callable[[], Sequence[Wanted]],
        reloaded: Callable[[], Awaitable[None]],
        emit: Emit,
        net: SafetyNet,
    ) -> None:
        self._cluster, self._wanted, self._reloaded = cluster, wanted, reloaded
        self._emit, self._net = emit, net
        self._ports: dict[Wanted, _Port] = {}

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                wanted = dict.fromkeys(self._wanted())
                if wanted.keys() == self._ports.keys():
                    await self._reloaded()
                else:
                    await self._take(wanted.keys(), group)

    async def _take(self, wanted: Set[Wanted], group: TaskGroup) -> None:
        leaving = [self._ports.pop(one) for one in self._ports.keys() - wanted]
        for port in leaving:
            port.scope.cancel()
        for port in leaving:  # before others listen: the same port may go to another service now
            await port.ended.wait()
        for one in wanted:
            if one not in self._ports:
                self._ports[one] = _Port()
                group.start_soon(self._keep, one, self._ports[one])

    async def _keep(self, wanted: Wanted, port: _Port) -> None:
        forward, _ = wanted
        try:
            with port.scope:
                await self._net.keep(_name(forward), self._serve, *wanted, service=forward.service)
        finally:
            port.ended.set()

    async def _serve(self, forward: Forward, targets: Sequence[Target]) -> None:
        pods = Pods()
        sockets = await self._open(forward)
        try:
            self._emit(Forwarded(forward.service, forward.url, forward.to))
            async with anyio.create_task_group() as group:
                # Of its own: what the API server refuses is no reason to listen no more.
                follow = partial(self._net.keep, _name(forward), self._follow, targets, pods)
                group.start_soon(partial(follow, service=forward.service))
                await ForwardedPort(forward, pods, self._cluster, self._emit).serve(sockets)
        finally:
            for one in sockets:
                one.close()
            self._emit(Forwarded(forward.service, forward.url, forward.to, open=False))

    async def _open(self, forward: Forward) -> list[socket.socket]:
        """A port that is in use is reported once, and taken when it is free."""
        reported = ""
        while True:
            try:
                return open_sockets(forward)
            except PlatformError as error:
                if error.message != reported:
                    self._emit(Notice(forward.service, "error", error.message, error.hint))
                reported = error.message
            await anyio.sleep(BUSY_SECONDS)
            while not is_free(forward):  # noqa: ASYNC110 - a port that becomes free is no event
                await anyio.sleep(BUSY_SECONDS)

    async def _follow(self, targets: Sequence[Target], pods: Pods) -> None:
        async with AsyncExitStack() as stack:
            feeds = [await stack.enter_async_context(self._cluster.feed(target)) for target in targets]
            await pods.follow(feeds)


def _name(forward: Forward) -> str:
    return f"the forward of port {forward.port}"
