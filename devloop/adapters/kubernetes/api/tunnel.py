"""A port-forward to a pod: one WebSocket per connection, in the channels that every kubelet speaks.

Subprotocol v4.channel.k8s.io of `…/portforward?ports=N`: each message begins with its channel, 0 for data and
1 for what went wrong; the first two bytes of each channel are the port. Kubernetes 1.24 to 1.36 pass it on to
the node's runtime as it is (docs/adr/0012).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from devloop.adapters.kubernetes.api.answers import ApiRefusedError
from devloop.adapters.kubernetes.api.client import Client, WebSocket
from devloop.errors import ConfigError, PlatformError, TunnelError
from devloop.forward.tunnels import API_AWAY
from devloop.model import PodView

PROTOCOL = "v4.channel.k8s.io"
DATA, PROBLEM = b"\0", 1
# What runtimes say where they could not even connect: containerd, CRI-O, socat of cri-dockerd, the kubelet.
_NOT_CONNECTED = re.compile(
    r"failed to connect to|connection refused|connect call failed|not running|not found"
    r"|namespace .* is closed|no such (?:file|process|container)|failed to find sandbox",
    re.IGNORECASE,
)
PERMISSION = "the user needs the verbs get and create on pods/portforward"


@asynccontextmanager
async def open_tunnel(client: Client, pod: PodView, port: int) -> AsyncIterator[PodTunnel]:
    """Connect; leaving the block ends the connection. Raises TunnelError."""
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/portforward"
    try:
        socket = await client.websocket(path, {"ports": str(port)}, PROTOCOL)
    except ApiRefusedError as error:
        hint = PERMISSION if error.status == 403 else None
        raise TunnelError(f"port {port} of {pod.name}: {error.message}", reached=False, hint=hint) from error
    except (PlatformError, ConfigError) as error:
        raise TunnelError(error.message, reached=False, reason=API_AWAY, hint=error.hint) from error
    try:
        yield PodTunnel(socket, f"port {port} of {pod.name}")
    finally:
        await socket.close()


class PodTunnel:
    """`forward.tunnels.Tunnel` on a WebSocket."""

    def __init__(self, socket: WebSocket, where: str) -> None:
        self._socket, self._where = socket, where
        self._begun: set[int] = set()  # channels whose port has come

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(DATA + data)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._broken("the connection is gone") from error

    async def receive(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return b""
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise self._broken("the connection to the API server broke")
            channel, data = message.data[0] if message.data else DATA[0], self._payload(message.data)
            if data and channel == PROBLEM:
                text = data.decode(errors="replace").strip()
                raise TunnelError(f"{self._where}: {text}", reached=not _NOT_CONNECTED.search(text))
            if data:
                return data

    def _payload(self, message: bytes) -> bytes:
        """Without its channel, and without the port that comes first on each."""
        channel, data = message[:1], message[1:]
        if channel and channel[0] not in self._begun:
            self._begun.add(channel[0])
            return data[2:]
        return data

    def _broken(self, what: str) -> TunnelError:
        return TunnelError(f"{self._where}: {what}", reached=True)
