"""One connection of a client, carried to a pod and back: back pressure, half-closed ends, a pod that goes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream

from devloop.errors import TunnelError
from devloop.forward.tunnels import Tunnel

CHUNK = 32 * 1024  # bytes read at once
REPLAYED = 64 * 1024  # bytes of a client that are kept until the pod answers: they may go to another pod
# A Kubernetes port-forward does not tell the pod that a client has ended: what has half-closed still gets
# its answer, and a client that has left does not hold the pod's connection for ever.
UNANSWERED_SECONDS = 30.0
ANSWERED_SECONDS = 1.0  # of silence after an answer, as containerd and socat give
DRAINED_SECONDS = (
    1.0  # that a client may still send after the pod has ended: closed at once, it might lose the end
)
GONE_SECONDS = 1.0  # that a connection may outlive its pod
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, with no time


class ClientGoneError(Exception):
    """The client closed or reset the connection: there is nobody to serve."""


class Connection:
    """A client's end. `carry` may be called again with another tunnel as long as it says so."""

    def __init__(self, client: SocketStream, answered: Callable[[], None]) -> None:
        """`answered` is called whenever the pod sent something."""
        self._client, self._answer_came = client, answered
        self._sent = b""  # what may be sent again
        self._kept = True  # whether that is all that the client sent
        self._ended = False  # whether the client has sent its end
        self._answered = False  # whether the pod sent something since the client did
        self._moved = 0  # counts what the pod sent

    async def carry(self, tunnel: Tunnel, gone: anyio.Event) -> None:
        """Both directions, until the connection is over. `gone`: the pod is not there any more.

        Raises TunnelError, with `reached` False where another tunnel may take over; ClientGoneError.
        """
        failures: list[TunnelError | ClientGoneError] = []

        async def upward() -> None:
            try:
                if self._sent:
                    await tunnel.send(self._sent)
                await self._send_up(tunnel)
                await self._outlast()
                group.cancel_scope.cancel()
            except TunnelError:
                pass  # what the other direction still holds is the end of an answer, or says why it broke
            except ClientGoneError as error:
                failures.append(error)
                group.cancel_scope.cancel()

        async def downward() -> None:
            try:
                await self._send_down(tunnel)
            except (TunnelError, ClientGoneError) as error:
                failures.append(error)
            group.cancel_scope.cancel()

        async def notice() -> None:
            await gone.wait()
            await anyio.sleep(GONE_SECONDS)  # it has ended before: its last bytes are on their way
            failures.append(TunnelError("the pod is gone", reached=True))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(notice)
            group.start_soon(upward)
            group.start_soon(downward)
        if failures:
            raise self._judged(failures[0])

    def _judged(self, error: TunnelError | ClientGoneError) -> TunnelError | ClientGoneError:
        if isinstance(error, TunnelError) and (self._moved or not self._kept):
            error.reached = True  # what it got cannot be sent again
        return error

    async def _send_up(self, tunnel: Tunnel) -> None:
        while not self._ended:
            try:
                data = await self._client.receive(CHUNK)
            except anyio.EndOfStream:
                self._ended = True
                return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise ClientGoneError from error
            self._answered = False
            if not self._moved:
                self._sent, self._kept = self._sent + data, self._kept and len(self._sent) < REPLAYED
                if not self._kept:
                    self._sent = b""
            await tunnel.send(data)

    async def _outlast(self) -> None:
        """The client has ended: until the pod has been silent for long enough."""
        while True:
            before = self._moved
            await anyio.sleep(ANSWERED_SECONDS if self._answered else UNANSWERED_SECONDS)
            if self._moved == before:
                return

    async def _send_down(self, tunnel: Tunnel) -> None:
        while data := await tunnel.receive():
            self._moved += 1
            self._answer_came()
            self._answered, self._sent = True, b""
            try:
                await self._client.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise ClientGoneError from error

    async def close(self) -> None:
        """The pod has ended: so does the client's connection, with all that was sent before."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
            await self._client.send_eof()
            with anyio.move_on_after(DRAINED_SECONDS):
                while not self._ended:
                    await self._client.receive(CHUNK)

    def reset(self) -> None:
        """Have the client see that it broke: an end in good order could be taken for that of an answer."""
        with suppress(OSError):
            self._client.extra(SocketAttribute.raw_socket).setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET
            )
