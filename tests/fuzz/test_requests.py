# ruff: noqa: E501 - tables of requests
"""Requests to metrics.listen: an answer of HTTP or a closed connection, and the next request is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from hypothesis import example, given
from hypothesis import strategies as st

from devloop.sinks.web import Web, open_listener
from tests.fuzz.words import bounded, broken_bytes, cases

SOUND = (
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n",
    b"GET /api/status?x=%00&y=%ff HTTP/1.1\r\nHost: localhost:9100\r\nConnection: keep-alive\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: [::1]:9100\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n",
)
NASTY = (
    b"", b"\x00", b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000, b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: ::1\r\n\r\n", b"GET /%zz%2e%2e/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"A" * 70_000,
)  # fmt: skip
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
Status = dict[str, Any]


async def _exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _served(requests: list[bytes]) -> None:
    faults: list[object] = []

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        listener = open_listener("127.0.0.1", 0)
        web = Web(listener, "127.0.0.1", lambda: b"devloop_live 1\n", lambda: {"services": {}})
        async with anyio.create_task_group() as group:
            await group.start(web.run)
            for request in requests:
                reply = await _exchange(web.port, request)
                assert reply == b"" or reply.startswith(b"HTTP/1."), reply[:200]
                assert b"Traceback" not in reply
                assert b" 500 " not in reply.split(b"\r\n")[0], reply[:200]
            assert (await _exchange(web.port, HEALTH)).endswith(b"ok\n")
            group.cancel_scope.cancel()
        await asyncio.sleep(0)

    with bounded():
        anyio.run(serve)
    assert not faults, faults


@cases(8)
@given(
    st.lists(
        st.sampled_from(SOUND).flatmap(broken_bytes) | st.sampled_from(NASTY) | st.binary(max_size=50),
        max_size=4,
    )
)
@example([SOUND[3].replace(b"5\r\nhello", b"\x005\r\nhello")])  # uvicorn answered a HEAD with a body
def test_requests_of_any_kind(requests: list[bytes]) -> None:
    _served(requests)


@cases(6)
@given(st.sampled_from(SOUND), st.sampled_from(SOUND).flatmap(broken_bytes))
def test_two_requests_in_one_connection(first: bytes, second: bytes) -> None:
    _served([first + second])
