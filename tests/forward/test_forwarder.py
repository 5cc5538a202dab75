"""Ports of this machine that lead to pods: real sockets, a real API server, real WebSockets."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from devloop.events import Event, Forwarded, Notice
from devloop.fault_reports import Reports
from devloop.forward import connection, listener
from devloop.forward.forwarder import Forwarder, Wanted
from devloop.model import Forward, Target
from devloop.safety_net import SafetyNet
from tests.support.pod_ports import PORT, TARGET, PodPorts, echo, pod_view, says
from tests.support.sample_project import free_port


class Running:
    """A forwarder at work, and what it told."""

    def __init__(self, events: list[Event], wanted: list[Wanted]) -> None:
        self.events, self.wanted = events, wanted
        self._reloaded = anyio.Event()

    def reload(self, *wanted: Wanted) -> None:
        self.wanted[:] = wanted
        self._reloaded.set()
        self._reloaded = anyio.Event()

    async def reloaded(self) -> None:
        await self._reloaded.wait()

    def open(self) -> set[str]:
        found: set[str] = set()
        for event in self.events:
            if isinstance(event, Forwarded):
                (found.add if event.open else found.discard)(event.url)
        return found

    def has(self, event: Event) -> bool:
        return event in self.events

    def notices(self) -> list[Notice]:
        return [event for event in self.events if isinstance(event, Notice)]


def wanted(port: int, address: str = "127.0.0.1") -> Wanted:
    return Forward("web", address, port, PORT), (TARGET,)


async def until(look: Callable[[], Any]) -> None:
    with anyio.fail_after(20):
        while not look():
            await anyio.sleep(0.005)


@asynccontextmanager
async def forwarding(ports: PodPorts, folder: Path, *forwards: Wanted) -> AsyncIterator[Running]:
    events: list[Event] = []
    running = Running(events, list(forwards))
    net = SafetyNet(Reports(folder / "reports", lambda text: text), events.append)
    forwarder = Forwarder(
        cast(Any, ports), lambda: tuple(running.wanted), running.reloaded, events.append, net
    )
    async with anyio.create_task_group() as group:
        group.start_soon(forwarder.run)
        yield running
        group.cancel_scope.cancel()


async def ask(port: int, host: str = "127.0.0.1") -> bytes:
    """One connection, one line, one answer."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"hello\n")
        return await reader.readline()
    finally:
        writer.close()


@asynccontextmanager
async def one_port(ports: PodPorts, folder: Path) -> AsyncIterator[tuple[int, Running]]:
    """A forward of a free port, listening."""
    port = free_port()
    async with forwarding(ports, folder, wanted(port)) as running:
        await until(running.open)
        yield port, running


async def test_a_connection_reaches_the_pod(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, running):
        assert await ask(port) == b"one\n"
        assert running.open() == {f"http://127.0.0.1:{port}"}
        assert not running.notices()


async def test_localhost_is_both_of_its_addresses(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    port = free_port()
    async with forwarding(ports, tmp_path, wanted(port, "localhost")) as running:
        await until(running.open)
        assert await ask(port) == await ask(port, "::1") == b"one\n"


async def test_many_connections_at_once_carry_much_both_ways(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", echo)
    await ports.show(pod_view("one"))

    async def exchange(number: int) -> None:
        data = bytes([number]) * 300_000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()

    async with one_port(ports, tmp_path) as (port, _), anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(exchange, number)


async def test_a_connection_waits_for_a_ready_pod(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one", ready=False))
    async with one_port(ports, tmp_path) as (port, _), asyncio.TaskGroup() as group:
        answer = group.create_task(ask(port))
        await anyio.wait_all_tasks_blocked()
        assert not ports.reached
        await ports.show(pod_view("one"))
        assert await answer == b"one\n"


async def test_new_connections_go_to_the_new_pod_and_old_ones_stay(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("old", says(b"old"))
    await ports.listen("new", says(b"new"))
    await ports.show(pod_view("old"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"old\n"
        await ports.show(pod_view("old"), pod_view("new", at=2.0))
        await until(lambda: True)
        assert await ask(port) == b"new\n"
        writer.write(b"hello\n")
        assert await reader.readline() == b"old\n"
        writer.close()


async def test_where_one_pod_refuses_another_takes_what_was_sent(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("old", says(b"old"))
    await ports.show(pod_view("old"), pod_view("new", at=2.0))  # ready, and nothing listens yet
    async with one_port(ports, tmp_path) as (port, _):
        assert await ask(port) == b"old\n"
        assert ports.reached == ["new", "old"]


async def test_a_pod_that_is_replaced_while_the_tunnel_is_made_gets_nothing(
    ports: PodPorts, tmp_path: Path
) -> None:
    await ports.listen("old", says(b"old"))
    await ports.listen("new", says(b"new"))
    await ports.show(pod_view("old"))
    async with one_port(ports, tmp_path) as (port, _), asyncio.TaskGroup() as group:
        ports.proxy.freeze()
        answer = group.create_task(ask(port))
        await ports.proxy.wait_for("GET", "/pods/old/portforward")
        await ports.show(pod_view("old"), pod_view("new", at=2.0))
        ports.proxy.thaw()
        assert await answer == b"new\n"


async def test_a_ready_pod_that_does_not_listen_yet_is_tried_again(ports: PodPorts, tmp_path: Path) -> None:
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _), asyncio.TaskGroup() as group:
        answer = group.create_task(ask(port))
        await until(lambda: len(ports.reached) >= 2)
        await ports.listen("one", says(b"one"))
        assert await answer == b"one\n"


async def test_a_pod_that_the_api_has_not_any_more_is_passed_over(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    gone = pod_view("gone", at=9.0)
    ports.feed_.show(pods=(gone, *ports.feed_.latest.pods))  # the watch does not know it yet
    async with one_port(ports, tmp_path) as (port, _):
        assert await ask(port) == b"one\n"


async def test_a_connection_outlasts_an_outage_of_the_api(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, running), asyncio.TaskGroup() as group:
        await ports.proxy.refuse()
        answer = group.create_task(ask(port))
        await until(lambda: ports.proxy.connections == 0)
        await ports.proxy.accept()
        assert await answer == b"one\n"
        assert not running.notices()


async def test_without_a_pod_a_connection_is_reset_in_time_and_that_is_told_once(
    ports: PodPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "WAIT_SECONDS", 0.2)
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, running):
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await ask(port)
        (notice,) = running.notices()
        assert f"a connection to http://127.0.0.1:{port} was given up after 0 s" in notice.message
        assert "connection refused" in notice.message
        await ports.show()
        await ports.listen("one", says(b"one"))
        await ports.show(pod_view("one"))
        assert await ask(port) == b"one\n"
        await ports.show()
        with pytest.raises(ConnectionResetError):
            await ask(port)
        assert "no pod is ready" in running.notices()[-1].message
        assert len(running.notices()) == 2


async def test_a_client_that_ends_its_half_still_gets_the_answer(
    ports: PodPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def late(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readline()
        await ended.wait()
        writer.write(b"x" * 200_000)
        await writer.drain()

    await ports.listen("one", late)
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        writer.write_eof()
        await until(lambda: ports.writers)
        ended.set()
        assert await reader.read() == b"x" * 200_000
        writer.close()


async def test_a_client_that_has_left_does_not_hold_its_connection_to_the_pod(
    ports: PodPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWERED_SECONDS", 0.05)
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        assert await ask(port) == b"one\n"  # the server would keep the connection
        await until(lambda: not ports.writers)


async def test_a_client_that_never_got_an_answer_is_given_up_later(
    ports: PodPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNANSWERED_SECONDS", 0.05)

    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    await ports.listen("one", silent)
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        await until(lambda: ports.writers)
        writer.close()
        await until(lambda: not ports.writers)


async def test_the_end_of_the_pod_is_the_end_of_the_connection(ports: PodPorts, tmp_path: Path) -> None:
    async def once(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readline()
        writer.write(b"y" * 100_000)
        await writer.drain()

    await ports.listen("one", once)
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.read() == b"y" * 100_000
        writer.close()


async def test_connections_of_a_pod_that_is_gone_end(
    ports: PodPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may be gone too: nobody ends them then."""
    monkeypatch.setattr(connection, "GONE_SECONDS", 0.0)
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"one\n"
        await ports.show()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_broken_tunnel_is_no_end_in_good_order(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"one\n"
        ports.proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert await ask(port) == b"one\n"


async def test_a_client_that_does_not_read_stops_the_pod(ports: PodPorts, tmp_path: Path) -> None:
    size, sent = 64 << 20, 0

    async def much(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal sent
        while sent < size:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    await ports.listen("one", much)
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        before = -1
        while before != sent or not sent:
            before = sent
            await anyio.sleep(0.2)
        assert sent < size // 2
        read = 0
        while data := await reader.read(1 << 20):
            read += len(data)
        assert read == size
        writer.close()


async def test_a_busy_port_is_reported_with_its_holder_and_taken_once_it_is_free(
    ports: PodPorts, tmp_path: Path
) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        async with forwarding(ports, tmp_path, wanted(port)) as running:
            await until(running.notices)
            (notice,) = running.notices()
            assert notice.level == "error"
            assert f"port {port} on 127.0.0.1 is in use by " in notice.message
            assert f"(pid {os.getpid()})" in notice.message
            assert not running.open()
            busy.close()
            await until(running.open)
            assert await ask(port) == b"one\n"
            assert len(running.notices()) == 1


async def test_a_reload_adds_and_removes_ports_and_leaves_the_others(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    first, second = free_port(), free_port()
    async with forwarding(ports, tmp_path, wanted(first)) as running:
        await until(running.open)
        reader, writer = await asyncio.open_connection("127.0.0.1", first)
        running.reload(wanted(first), wanted(second))
        await until(lambda: len(running.open()) == 2)
        assert await ask(second) == b"one\n"
        writer.write(b"hello\n")
        assert await reader.readline() == b"one\n"
        running.reload(wanted(second))
        await until(lambda: len(running.open()) == 1)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", first)
        with suppress(ConnectionError):
            assert not await reader.read()
        writer.close()
        running.reload()
        await until(lambda: not running.open())


async def test_a_port_goes_over_to_another_service_in_one_reload(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    port = free_port()
    async with forwarding(ports, tmp_path, wanted(port)) as running:
        await until(running.open)
        forward, targets = wanted(port)
        for _ in range(20):
            forward = replace(forward, service=forward.service + "x")
            running.reload((forward, targets))
            await until(partial(running.has, Forwarded(forward.service, forward.url, PORT)))
            assert await ask(port) == b"one\n"
        assert not running.notices()


async def test_its_end_is_quick_and_leaves_nothing(ports: PodPorts, tmp_path: Path) -> None:
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    before = len(asyncio.all_tasks())
    open_writers: list[StreamWriter] = []
    async with one_port(ports, tmp_path) as (port, _):
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            open_writers.append(writer)
            writer.write(b"hello\n")
            assert await reader.readline() == b"one\n"
    await until(lambda: not ports.writers)
    for writer in open_writers:
        writer.close()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_what_the_feed_raises_leaves_the_port_open(ports: PodPorts, tmp_path: Path) -> None:
    """A role that may not list pods, for one: it is reported, and tried again."""
    refusals = [RuntimeError("the watch fell")]
    shown = ports.feed

    @asynccontextmanager
    async def feed(target: Target) -> AsyncIterator[Any]:
        if refusals:
            raise refusals.pop()
        async with shown(target) as opened:
            yield opened

    ports.feed = feed  # type: ignore[method-assign]
    await ports.listen("one", says(b"one"))
    await ports.show(pod_view("one"))
    async with one_port(ports, tmp_path) as (port, running):
        assert await ask(port) == b"one\n"
        assert running.notices()
