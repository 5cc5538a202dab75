"""`as:` of a kubeconfig's user: devloop acts as that one, as kubectl does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.errors import ConfigError
from tests.support.kubeconfigs import config, write

ALL: dict[str, Any] = {
    "as": "jane",
    "as-uid": "7",
    "as-groups": ["developers", "admins"],
    "as-user-extra": {"acme.com/project": ["one", "two"], "Scopes": ["view"]},
}


async def headers_of(folder: Path, user: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a request, those that ask for impersonation, in their order."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await reader.readuntil(b"\r\n\r\n")).decode().splitlines())
        body = json.dumps({"items": []})
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    api = await asyncio.start_server(answer, "127.0.0.1", 0)
    server = f"http://127.0.0.1:{api.sockets[0].getsockname()[1]}"
    path = write(folder / "a", config(server=server, **user))
    async with api, Client(lambda last: open_access([path], "minikube", allow_remote=False)) as client:
        await client.get("/api/v1/nodes")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in seen)]
    return [pair for pair in pairs if pair[0].startswith("Impersonate-")]


async def test_all_of_it_is_sent_with_each_request(tmp_path: Path) -> None:
    assert await headers_of(tmp_path, ALL) == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "developers"),
        ("Impersonate-Group", "admins"),
        ("Impersonate-Extra-Scopes", "view"),
        ("Impersonate-Extra-acme.com%2Fproject", "one"),
        ("Impersonate-Extra-acme.com%2Fproject", "two"),
    ]


async def test_who_acts_as_nobody_else_sends_nothing_of_it(tmp_path: Path) -> None:
    assert await headers_of(tmp_path, {"token": "t"}) == []


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"as-groups": ["developers"]}, "and no as"),
        ({"as-uid": "7"}, "and no as"),
        ({"as": 7}, "as is not a string"),
        ({"as": "jane", "as-groups": "developers"}, "as-groups is not a list of strings"),
        ({"as": "jane", "as-user-extra": ["x"]}, "as-user-extra is not a mapping"),
        ({"as": "jane", "as-user-extra": {"scopes": "view"}}, "scopes is not a list of strings"),
    ],
)
async def test_what_kubectl_refuses_is_refused(tmp_path: Path, user: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await open_access([write(tmp_path / "a", config(**user))], "minikube", allow_remote=False)
