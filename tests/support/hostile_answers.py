# ruff: noqa: E501 - a table of answers
"""What may answer on a port where an engine or an API server should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def answer(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


ANSWERS = {
    "an ssh server": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "nothing": b"",
    "HTML": answer(b"<html>", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
    "a list": answer(b"[]"),
    "a list of nulls": answer(b"[null]"),
    "null": answer(b"null"),
    "a number": answer(b"5"),
    "a text": answer(b'"Id"'),
    "cut off": OK + b'Content-Length: 300\r\n\r\n{"ID": ',
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk cut off": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "moved": b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "moved to itself": b"HTTP/1.1 307 X\r\nLocation: /info\r\nContent-Length: 0\r\n\r\n",
    "moved to no address": b"HTTP/1.1 302 X\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "a huge head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20000,
    "no version": b"200 OK\r\n\r\n",
    "gzip that is none": answer(b"xx", OK + b"Content-Encoding: gzip\r\n"),
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "deep": answer(b"[" * 100_000),
    "not UTF-8": answer(b'{"Id": "\xff"}'),
    "odd types": answer(json.dumps({"Id": 5, "ID": [], "DriverStatus": 5, "Config": [1], "RootFS": "x", "items": 5, "metadata": "m"}).encode()),
    "400 with a list": b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n[]",
    "500 deep": b"HTTP/1.1 500 Bad\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000,
    "an item that is null": answer(b'{"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [null]}'),
    "an item without metadata": answer(b'{"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [{}]}'),
    "metadata null": answer(b'{"kind": "PodList", "metadata": null, "items": []}'),
}  # fmt: skip


@asynccontextmanager
async def serving(text: bytes) -> AsyncIterator[int]:
    """A port that answers every request with these bytes, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1)
            writer.write(text)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
