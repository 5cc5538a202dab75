"""What forwarding asks of the cluster: one connection to a port of a pod."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from devloop.model import PodView

API_AWAY = "ApiAway"  # the reason of a TunnelError: no pod can be reached now


class Tunnel(Protocol):
    """Bytes to a port of a pod and back. Both may be called at once, each by one task; cancelling either
    loses what it was at."""

    async def send(self, data: bytes) -> None:
        """Waits while the pod does not read. Raises TunnelError."""
        ...

    async def receive(self) -> bytes:
        """What the pod sent next, b"" once it has ended the connection. Raises TunnelError."""
        ...


class Tunnels(Protocol):
    def tunnel(self, pod: PodView, port: int) -> AbstractAsyncContextManager[Tunnel]:
        """Entering raises TunnelError, with the reason API_AWAY where no pod can be reached. Whether anybody
        listens on the port in the pod is known only by what `receive` raises or returns."""
        ...
