"""A Service's port: one listener, each connection piped to a ready endpoint."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import cast

from typing_extensions import override

Backend = Callable[[], tuple[str, int] | None]  # the endpoint for the next connection
CONNECT_TIMEOUT = 10.0  # seconds
MARK = 64 * 1024  # bytes waiting for a slow reader before the other side is paused


class _Pipe(asyncio.Protocol):
    """One side of a connection; what it reads the other side writes."""

    def __init__(self) -> None:
        self.other: _Pipe | None = None
        self.transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(MARK)

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    @override
    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write_eof()
        return True  # the other direction may still flow

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            if exc is not None:
                self.other.transport.abort()
            else:
                self.other.transport.close()

    @override
    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Client(_Pipe):
    """The side that connected to the Service. What it says before an endpoint is reached, is kept for it."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy
        self._early = bytearray()
        self._ended = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.accept(self)

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        assert self.transport is not None
        self._early += data
        self.transport.pause_reading()  # not before: Python 3.11.2 forgets a pause of a connection just made

    @override
    def eof_received(self) -> bool:
        self._ended = True
        return super().eof_received()

    def join(self, server: _Pipe) -> None:
        """An endpoint was reached."""
        assert self.transport is not None
        assert server.transport is not None
        self.other = server
        if self.transport.is_closing():
            server.transport.close()
            return
        server.transport.write(bytes(self._early))
        if self._ended:
            server.transport.write_eof()
        self.transport.resume_reading()


class Proxy:
    """Listens on (host, port). `pods` is the network whose peers may come in besides this machine's."""

    def __init__(self, host: str, port: int, backend: Backend, pods: str) -> None:
        self._address = host, port
        self._backend = backend
        self._pods = ipaddress.ip_network(pods)
        self._server: asyncio.Server | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """OSError if the port is taken."""
        host, port = self._address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), host, port, reuse_address=True)

    def close(self) -> None:
        """Stop listening; open connections live on, as they do on a real node."""
        if self._server is not None:
            self._server.close()
        for task in self._dialling:
            task.cancel()

    def accept(self, client: _Client) -> None:
        assert client.transport is not None
        backend = self._backend() if self._may_enter(client.transport) else None
        if backend is None:
            client.transport.abort()  # nobody is ready: the peer sees a reset
            return
        task = asyncio.create_task(self._dial(client, *backend))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    def _may_enter(self, transport: asyncio.Transport) -> bool:
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:
            return False
        address = ipaddress.ip_address(peer[0])
        return address.is_loopback or address in self._pods or peer[0] == own[0]

    async def _dial(self, client: _Client, host: str, port: int) -> None:
        server = _Pipe()
        server.other = client
        transport = client.transport
        assert transport is not None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_connection(lambda: server, host, port)
        except OSError:  # TimeoutError is one
            transport.abort()
            return
        client.join(server)
