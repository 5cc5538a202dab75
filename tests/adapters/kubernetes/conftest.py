"""A real API server over HTTPS without controllers or node: the tests write what those would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner
from devloop.clock import Clock
from devloop.events import Event
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from tests.support.faulty_proxy import Proxy, make_cert, open_proxy, through, upstream_of
from tests.support.kubernetes_objects import Api

CONTEXT = "devloop-sandbox-adapters"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The API half of the sandbox, and a plain HTTP client for the test's own writes."""
    state = tmp_path / "sandbox"
    state.mkdir()
    async with (
        api_server(Options(name="adapters", state_dir=state)),
        Api.open(state / "kubeconfig") as opened,
    ):
        yield opened


@pytest.fixture
def events() -> list[Event]:
    return []


@asynccontextmanager
async def open_cluster(
    kubeconfig: Path, events: list[Event], context: str = CONTEXT, *, patient: bool = False
) -> AsyncIterator[KubernetesCluster]:
    owner = Owner("this-host", 4711, "/home/me/todo/config.yaml")
    async with KubernetesCluster(
        [kubeconfig], context, owner=owner, clock=Clock(), emit=events.append, patient=patient
    ) as cluster:
        yield cluster


@pytest.fixture
async def cluster(api: Api, events: list[Event]) -> AsyncIterator[KubernetesCluster]:
    async with open_cluster(api.kubeconfig, events) as opened:
        yield opened


@pytest.fixture
async def proxy(api: Api, tmp_path: Path) -> AsyncIterator[Proxy]:
    server, tls = upstream_of(api.kubeconfig)
    async with open_proxy(server, upstream_tls=tls, cert=make_cert(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def shaky(
    api: Api, proxy: Proxy, tmp_path: Path, events: list[Event]
) -> AsyncIterator[KubernetesCluster]:
    """The cluster adapter with the proxy between it and the API server."""
    kubeconfig = through(api.kubeconfig, proxy, tmp_path / "through")
    async with open_cluster(kubeconfig, events) as opened:
        yield opened


async def until(look: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until `look` is true; the test fails after `seconds`."""
    with anyio.fail_after(seconds):
        while not look():
            await anyio.sleep(0.005)
