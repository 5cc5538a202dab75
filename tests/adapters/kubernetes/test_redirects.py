"""S29: what the guard admitted cannot send devloop, and its credentials, elsewhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.client import Client
from devloop.errors import PlatformError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", ""])
async def test_s29_no_redirect_and_no_proxy_of_the_environment_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, variable: str
) -> None:
    visitors: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append((await reader.readline()).decode())
        writer.close()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
    api = await asyncio.start_server(redirect, "127.0.0.1", 0)
    there = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
    if variable:
        monkeypatch.setenv(variable, there)
    kubeconfig = tmp_path / "config"
    server = f"http://127.0.0.1:{api.sockets[0].getsockname()[1]}"
    kubeconfig.write_text(
        json.dumps(
            {
                "contexts": [{"name": "c", "context": {"cluster": "kind-kind", "user": "u"}}],
                "clusters": [{"name": "kind-kind", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    async with other, api, Client(lambda last: open_access([kubeconfig], "c", allow_remote=False)) as client:
        with pytest.raises(PlatformError):
            await client.get("/api/v1/nodes")
        with pytest.raises(PlatformError, match=f"{status}, which sends devloop elsewhere"):
            await client.websocket("/api/v1/namespaces/default/pods/one/portforward", {}, "v4.channel.k8s.io")
    assert visitors == []
