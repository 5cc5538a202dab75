"""S11: of the engines that the cluster reports, only those on this machine are taken."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from devloop.adapters.docker.endpoint import current
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.errors import LoadError, PlatformError
from devloop.model import ENGINE_ANNOTATION, NodeFacts
from tests.adapters.conftest import Bench

pytestmark = pytest.mark.engine


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who would be sent our images: on every address of this machine."""
    with closing(socket.create_server(("0.0.0.0", 0))) as made:
        made.setblocking(False)
        yield made


def own_address() -> str:
    """An address of this machine that is not loopback; no packet is sent."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def annotated(address: str) -> tuple[NodeFacts, ...]:
    return (NodeFacts("n1", "amd64", "docker://20.10", {ENGINE_ANNOTATION: address}),)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://{own}:{port}",
        "http://{own}:{port}",
        "tcp://127.0.0.1%.{own}:{port}",
        "tcp://127.0.0.1:{port}@{own}:{port}",
        "tcp://engine.example.com:2375",
        "tcp://8.8.8.8:2375",
        "tcp://localhost.example.com:2375",
        "ssh://root@127.0.0.1",
        "npipe:////./pipe/docker",
        "tcp://",
    ],
)
async def test_s11_an_engine_elsewhere_is_refused_before_any_connection(
    bench: Bench, listener: socket.socket, address: str
) -> None:
    address = address.format(own=own_address(), port=listener.getsockname()[1])
    choice = RouteChoice(bench.engine, bench.digests, "c", "sandbox", "", os.environ)
    with pytest.raises(LoadError) as caught:
        await choice(annotated(address))
    await choice.aclose()
    assert caught.value.reason == "EngineNotLocal"
    assert "n1" in caught.value.message
    assert address in caught.value.message
    assert f"annotate node n1 {ENGINE_ANNOTATION}-" in str(caught.value.hint)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_s11_a_private_engine_is_taken_where_config_names_it(
    bench: Bench, listener: socket.socket
) -> None:
    listener.close()  # nobody answers there: that it was asked is what counts
    address = f"tcp://{own_address()}:1"
    choice = RouteChoice(bench.engine, bench.digests, "c", "sandbox", "", os.environ, engine=address)
    with pytest.raises(PlatformError) as caught:
        await choice(annotated(address))
    await choice.aclose()
    assert not isinstance(caught.value, LoadError)
    assert address in caught.value.message


async def test_s11_the_hint_offers_a_private_engine_only(bench: Bench) -> None:
    for address, offered in (("tcp://10.1.2.3:2375", True), ("tcp://8.8.8.8:2375", False)):
        choice = RouteChoice(bench.engine, bench.digests, "c", "sandbox", "", os.environ)
        with pytest.raises(LoadError) as caught:
            await choice(annotated(address))
        assert (f"cluster.engine: {address}" in str(caught.value.hint)) is offered


@pytest.mark.parametrize("spelling", ["unix://{}", "{}"])
async def test_s11_a_socket_of_this_machine_is_taken(bench: Bench, spelling: str) -> None:
    path = current(os.environ).socket
    choice = RouteChoice(bench.engine, bench.digests, "c", "sandbox", "", os.environ)
    route = await choice(annotated(spelling.format(path)))
    assert route.how == "shared"
    await choice.aclose()


async def test_s11_loopback_is_asked(bench: Bench) -> None:
    choice = RouteChoice(bench.engine, bench.digests, "c", "sandbox", "", os.environ)
    with pytest.raises(PlatformError) as caught:
        await choice(annotated("tcp://127.0.0.1:1"))
    await choice.aclose()
    assert not isinstance(caught.value, LoadError)
