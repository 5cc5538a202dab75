"""The HTTP server: its pages, who may ask, a port in use, closing at once, and a real Prometheus."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import httpx
import pytest

from devloop.clock import Clock
from devloop.errors import PlatformError
from devloop.events import Event
from devloop.sinks.metrics import Metrics
from devloop.sinks.status import StatusBoard
from devloop.sinks.web import PORTS, Web, listener_near, open_listener
from tests.support.trips import live_trip


class Served:
    """A web server on a port of its own, with the sinks behind it."""

    def __init__(self) -> None:
        self.metrics = Metrics("1.2.3", ["backend"])
        self.board = StatusBoard("1.2.3", Path("/c"), "p", ["backend"], 0.0)
        self.web = Web(open_listener("127.0.0.1", 0), "127.0.0.1", self.metrics.render, self.board.answer)

    def emit(self, event: Event) -> None:
        self.metrics(event)
        self.board(event)


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served = Served()
    async with anyio.create_task_group() as group:
        await group.start(served.web.run)
        yield served
        group.cancel_scope.cancel()


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


async def test_the_three_pages() -> None:
    async with serving() as served:
        live_trip(served.emit, Clock())
        metrics = await get(f"{served.web.url}/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert 'devloop_live{service="backend"} 1.0' in metrics.text
        health = await get(f"{served.web.url}/healthz")
        assert (health.status_code, health.text) == (200, "ok\n")
        status = await get(f"{served.web.url}/api/status")
        assert status.json() == json.loads(json.dumps(served.board.answer()))
        assert (await get(f"{served.web.url}/else")).status_code == 404


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:9100", True),
        ("127.0.0.1", True),
        ("localhost:9100", True),
        ("LOCALHOST.:9100", True),
        ("devloop.localhost", True),
        ("[::1]:9100", True),
        ("192.168.49.1:9100", True),
        ("host.docker.internal:9100", True),
        ("host.minikube.internal:9100", True),
        (socket.gethostname(), True),
        ("attacker.example", False),
        ("attacker.example:9100", False),
        ("127.0.0.1.attacker.example", False),
        ("localhost.attacker.example", False),
        ("attackerlocalhost", False),
        ("", False),
    ],
)
async def test_s30_a_host_that_somebody_else_could_own_is_refused(host: str, answered: bool) -> None:
    async with serving() as served:
        for page in ("metrics", "healthz", "api/status"):
            response = await get(f"{served.web.url}/{page}", host=host)
            assert response.status_code == (200 if answered else 421)
            assert answered or "devloop_" not in response.text


async def test_s30_a_request_without_a_host_is_refused() -> None:
    async with serving() as served:
        host, port = served.web.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = await stream.receive()
    assert b" 421 " in answer or b" 400 " in answer


def test_a_port_in_use_names_the_port_and_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PlatformError) as caught:
            open_listener("127.0.0.1", port)
    name = Path("/proc/self/comm").read_text().strip()
    assert caught.value.exit_code == 3
    assert f"port {port} on 127.0.0.1 is in use by {name} (pid {os.getpid()})" in caught.value.message
    assert f'metrics: {{listen: "127.0.0.1:{port + 1}"}}' in (caught.value.hint or "")


def test_for_a_port_in_use_the_next_free_one_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as next_one:
        port = other.getsockname()[1]
        try:
            next_one.bind(("127.0.0.1", port + 1))
            next_one.listen()
        except OSError:
            pass  # somebody else's: in use all the same
        with closing(listener_near("127.0.0.1", port)) as listener:
            assert port + 1 < listener.getsockname()[1] <= port + PORTS


def test_only_a_port_in_use_is_replaced() -> None:
    with pytest.raises(PlatformError, match=r"cannot listen on 192\.0\.2\.1:9100"):
        listener_near("192.0.2.1", 9100)


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(PlatformError, match=r"cannot listen on 192\.0\.2\.1:9100"):
        open_listener("192.0.2.1", 9100)


def test_ipv6_is_an_address() -> None:
    try:
        listener = open_listener("::1", 0)
    except PlatformError:
        assert not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text()
        return
    assert Web(listener, "::1", bytes, dict).url.startswith("http://[::1]:")
    listener.close()


async def test_closing_does_not_wait_for_open_connections() -> None:
    """An idle keep-alive connection and a half-sent request: neither holds up the end."""
    async with serving() as served:
        host, port = served.web.url.removeprefix("http://").split(":")
        idle = await anyio.connect_tcp(host, int(port))
        await idle.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await idle.receive()
        half = await anyio.connect_tcp(host, int(port))
        await half.send(b"GET /metrics HTT")
    for stream in (idle, half):
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
        await stream.aclose()
    with pytest.raises(httpx.ConnectError):
        await get(f"{served.web.url}/healthz")
    open_listener(host, int(port)).close()  # free again at once


@pytest.mark.slow
async def test_a_real_prometheus_reads_the_spans_of_a_trip(tmp_path: Path) -> None:
    """Its value of the trip's duration equals the span that /api/status shows (S32)."""
    prometheus = shutil.which("prometheus")
    assert prometheus, "apt-get install --no-install-recommends prometheus"
    async with serving() as served:
        live_trip(served.emit, Clock())
        target = served.web.url.removeprefix("http://")
        (tmp_path / "prometheus.yml").write_text(
            "scrape_configs:\n  - job_name: devloop\n    scrape_interval: 1s\n    scrape_timeout: 1s\n"
            f"    static_configs: [{{targets: ['{target}']}}]\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [
            prometheus,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            trip = await queried(port, 'devloop_trip_duration_seconds_sum{service="backend",outcome="live"}')
            build = await queried(port, 'devloop_stage_duration_seconds_sum{stage="build"}')
            info = await queried(port, 'devloop_build_info{version="1.2.3"}')
        finally:
            process.terminate()
            await anyio.to_thread.run_sync(process.wait)
        status = (await get(f"{served.web.url}/api/status")).json()
    shown = status["services"]["backend"]["trips"][-1]
    assert trip == pytest.approx(shown["seconds"]["trip"], abs=1e-9)
    assert build == pytest.approx(shown["seconds"]["build"], abs=1e-9)
    assert info == 1


async def queried(port: int, query: str) -> float:
    """The value of the one series that `query` finds, once it is there."""
    with anyio.fail_after(45):
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    answer = await client.get(
                        f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}
                    )
                    found = answer.json()["data"]["result"] if answer.status_code == 200 else []
                except httpx.TransportError:
                    found = []
                if found:
                    assert len(found) == 1
                    return float(found[0]["value"][1])
                await anyio.sleep(0.2)


async def test_a_server_that_ended_can_be_started_again() -> None:
    async with serving() as served:
        await get(f"{served.web.url}/healthz")
    async with anyio.create_task_group() as group:
        await group.start(served.web.run)
        assert (await get(f"{served.web.url}/healthz")).text == "ok\n"
        group.cancel_scope.cancel()
