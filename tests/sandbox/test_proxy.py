"""The proxy of a Service: what a client says before an endpoint is reached is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from devloop_sandbox.network.proxy import Proxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.write_eof()


@pytest.mark.parametrize("pauses", [True, False], ids=["as it is", "reading cannot be paused"])
async def test_bytes_sent_before_the_endpoint_is_reached_arrive(
    pauses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's Python 3.11.2 goes on reading a connection that was paused when it was made."""
    if not pauses:
        monkeypatch.setattr(
            "asyncio.selector_events._SelectorSocketTransport.pause_reading", lambda self: None
        )
    loop = asyncio.get_running_loop()
    dial = loop.create_connection

    async def slow(*words: Any, **named: Any) -> Any:
        await asyncio.sleep(0.1)
        return await dial(*words, **named)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    proxy = Proxy("127.0.0.1", 0, lambda: address, "10.0.0.0/8")
    await proxy.start()
    assert proxy._server is not None
    try:
        reader, writer = await asyncio.open_connection(*proxy._server.sockets[0].getsockname())
        monkeypatch.setattr(loop, "create_connection", slow)
        for number in range(3):
            writer.write(b"%d" % number * 100_000)
            await asyncio.sleep(0.01)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"0" * 100_000 + b"1" * 100_000 + b"2" * 100_000
        writer.close()
    finally:
        proxy.close()
        server.close()
