"""Services as pods and people see them: addresses, proxies, names."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from devloop_sandbox.engine.bridge import ensure_network
from devloop_sandbox.engine.client import Engine
from devloop_sandbox.network import dns
from devloop_sandbox.network.addresses import Addresses
from devloop_sandbox.network.proxy import Backend, Proxy
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Store

RETRY = 5.0  # seconds until a taken port is tried again

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a Service's port listens, and which port of it that is."""

    host: str
    port: int
    namespace: str
    service: str
    port_name: str


async def run(store: Store, options: Options) -> None:
    """Until cancelled. OSError at the start if addresses cannot be added or port 53 is taken."""
    async with Engine(options.engine) as engine:
        bridge = await ensure_network(engine, options.project)
    switch = Switch(store, options, bridge.subnet)
    switch.prepare()
    async with asyncio.TaskGroup() as group:
        group.create_task(dns.Server(bridge.gateway, bridge.subnet, store.find).run())
        with store.subscribe() as events:
            changed = asyncio.Event()
            changed.set()
            group.create_task(switch.run(changed))
            async for event in events:
                if event.resource == "services":
                    changed.set()


class Switch:
    """Keeps one proxy per Service port, and the addresses they listen on."""

    def __init__(self, store: Store, options: Options, pods: str) -> None:
        self._store = store
        self._pods = pods
        self._addresses = Addresses(options.state_dir / "addresses")
        self._proxies: dict[Listener, Proxy] = {}
        self._turns = itertools.count()
        self._record = Recorder(store, "kube-proxy")

    def prepare(self) -> None:
        """Put the known Services' addresses in place; OSError says what is missing."""
        self._addresses.restore()
        self._addresses.keep_only({address for one in self._services() if (address := _address(one))})

    async def run(self, changed: asyncio.Event) -> None:
        try:
            while True:
                await changed.wait()
                changed.clear()
                if not await self._reconcile():
                    asyncio.get_running_loop().call_later(RETRY, changed.set)
        finally:
            for proxy in self._proxies.values():
                proxy.close()

    def _services(self) -> list[Obj]:
        return self._store.list("services")

    async def _reconcile(self) -> bool:
        """Listen where Services say, and only there; False if a port could not be had."""
        services = self._services()
        wanted = {listener for service in services for listener in _listeners(service)}
        for listener in self._proxies.keys() - wanted:
            self._proxies.pop(listener).close()
        try:
            self._addresses.keep_only({address for one in services if (address := _address(one))})
        except OSError as error:
            logger.warning("%s", error)
            return False
        complete = True
        for listener in wanted - self._proxies.keys():
            proxy = Proxy(listener.host, listener.port, self._backend(listener), self._pods)
            try:
                await proxy.start()
            except OSError as error:
                complete = False
                self._complain(listener, error)
                continue
            self._proxies[listener] = proxy
        return complete

    def _complain(self, listener: Listener, error: OSError) -> None:
        text = f"cannot listen on {listener.host}:{listener.port}: {error.strerror}"
        logger.warning("service %s/%s: %s", listener.namespace, listener.service, text)
        service = self._store.find("services", listener.namespace, listener.service)
        if service is not None:
            self._record(service, "Warning", "PortNotAvailable", text)

    def _backend(self, listener: Listener) -> Backend:
        def choose() -> tuple[str, int] | None:
            found = self._store.find("endpoints", listener.namespace, listener.service)
            ready = list(_ready(found or {}, listener.port_name))
            return ready[next(self._turns) % len(ready)] if ready else None

        return choose


def _address(service: Obj) -> str | None:
    address = service["spec"].get("clusterIP")
    try:
        return str(ipaddress.IPv4Address(address)) if address else None
    except ValueError:
        return None  # "None": headless


def _listeners(service: Obj) -> Iterator[Listener]:
    meta, spec = service["metadata"], service["spec"]
    if spec.get("type") == "ExternalName":
        return
    for port in spec.get("ports") or []:
        if port.get("protocol", "TCP") != "TCP":
            continue
        names = (meta["namespace"], meta["name"], port.get("name") or "")
        if address := _address(service):
            yield Listener(address, port["port"], *names)
        if port.get("nodePort"):
            yield Listener("127.0.0.1", port["nodePort"], *names)


def _ready(endpoints: Obj, port_name: str) -> Iterator[tuple[str, int]]:
    for subset in endpoints.get("subsets") or []:
        for port in subset.get("ports") or []:
            if (port.get("name") or "") == port_name:
                for entry in subset.get("addresses") or []:
                    yield entry["ip"], port["port"]
