"""Ports of pods that lead to TCP servers of the test, through a real API server and a proxy before it."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from devloop.adapters.kubernetes.api.tunnel import PodTunnel
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner
from devloop.clock import Clock
from devloop.model import ContainerView, PodView, Snapshot, Target
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from devloop_sandbox.store.store import Store
from tests.support.fakes import FakeFeed
from tests.support.faulty_proxy import Proxy, make_cert, open_proxy, through, upstream_of

TARGET = Target("deployment", "web", "default")
PORT = 3000
Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def pod_view(name: str, *, image: str = "web:1", at: float = 1.0, **fields: Any) -> PodView:
    """A ready pod; `at`: since when."""
    container = ContainerView("web", image, "sha256:aa", True, 0, running=True)
    pod = PodView(
        name, "default", f"uid-{name}", "hash", "Running", True, False, True, "", (container,), ready_at=at
    )
    return replace(pod, **fields)


class PodPorts:
    """What forwarding asks of a cluster. `feed_` shows the pods; the way to them is real."""

    def __init__(self, store: Store, proxy: Proxy, stack: AsyncExitStack) -> None:
        self._store, self._stack, self.proxy = store, stack, proxy
        self.cluster: KubernetesCluster
        self.feed_ = FakeFeed(Snapshot(TARGET, 1.0, "uid-web", images={"web": "web:1"}))
        self.servers: dict[str, asyncio.Server] = {}  # pod -> what listens on its port
        self.reached: list[str] = []  # the pod of each connection that was asked for, in order
        self.writers: set[StreamWriter] = set()  # of the pods' ends that are open

    async def show(self, *pods: PodView) -> None:
        """These are the pods now."""
        for pod in pods:
            if self._store.find("pods", "default", pod.name) is None:
                body = {
                    "metadata": {"name": pod.name, "namespace": "default"},
                    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
                }
                self._store.create("pods", body)
        self.feed_.show(pods=pods)

    async def listen(self, pod: str, handler: Handler) -> None:
        """Serve the pod's port."""

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            self.writers.add(writer)
            try:
                await handler(reader, writer)
            except ConnectionError:
                pass
            finally:
                self.writers.discard(writer)
                writer.close()

        self.servers[pod] = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._stack.callback(self.servers[pod].close)

    # what `Forwarder` asks of the cluster
    @asynccontextmanager
    async def feed(self, target: Target) -> AsyncIterator[FakeFeed]:
        yield self.feed_

    def tunnel(self, pod: PodView, port: int) -> AbstractAsyncContextManager[PodTunnel]:
        return self.cluster.tunnel(pod, port)

    # what the API server asks of a node
    started = True

    async def port_forward(self, pod: dict[str, Any], port: int) -> tuple[StreamReader, StreamWriter]:
        name = pod["metadata"]["name"]
        self.reached.append(name)
        server = self.servers.get(name)
        if server is None or not server.sockets or port != PORT:
            text = f"failed to connect to localhost:{port} inside namespace: connection refused"
            raise ApiError(500, "InternalError", f"error forwarding port {port} to pod {name}: {text}")
        return await asyncio.open_connection(*server.sockets[0].getsockname()[:2])


@asynccontextmanager
async def pod_ports(folder: Path) -> AsyncIterator[PodPorts]:
    state = folder / "sandbox"
    state.mkdir()
    async with AsyncExitStack() as stack:
        store, api = await stack.enter_async_context(api_server(Options(name="ports", state_dir=state)))
        server, tls = upstream_of(state / "kubeconfig")
        proxy = await stack.enter_async_context(open_proxy(server, upstream_tls=tls, cert=make_cert(folder)))
        ports = PodPorts(store, proxy, stack)
        api.kubelet = cast(Any, ports)
        kubeconfig = through(state / "kubeconfig", proxy, folder / "through")
        owner = Owner("this-host", 4711, "/home/me/todo/config.yaml")
        ports.cluster = await stack.enter_async_context(
            KubernetesCluster(
                [kubeconfig], "devloop-sandbox-ports", owner=owner, clock=Clock(), emit=lambda _: None
            )
        )
        yield ports


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def says(text: bytes) -> Handler:
    """Answers each line with the text, and keeps the connection."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        while await reader.readline():
            writer.write(text + b"\n")
            await writer.drain()

    return handler
