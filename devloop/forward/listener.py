"""One forwarded port: accepts connections at any time, and finds a ready pod for each."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from anyio.abc import SocketListener, SocketStream, TaskGroup

from devloop.errors import PlatformError, TunnelError
from devloop.events import Emit, Notice
from devloop.forward.connection import ClientGoneError, Connection
from devloop.forward.pods import Pods
from devloop.forward.tunnels import API_AWAY, Tunnels
from devloop.local_ports import IN_USE, bound, listen
from devloop.model import Forward, PodView

WAIT_SECONDS = 10.0  # that a new connection waits for a ready pod that takes it
AGAIN_SECONDS = 0.1  # between two tries, where every ready pod refused
OUT_OF_FILES_SECONDS = 0.1


class NoPodError(TunnelError):
    """No pod took the connection in time."""


class OvertakenError(TunnelError):
    """While the tunnel was made, a better pod became ready: this one is about to end."""


def open_sockets(forward: Forward) -> list[socket.socket]:
    """What listens for the forward. Raises PlatformError that names who holds the port already."""
    what = f"{forward.service} cannot be forwarded there"
    example = f"services: {{{forward.service}: {{forward: {{{forward.port + 1}: {forward.to}}}}}}}"
    busy = f"stop it, or write another port in config.yaml: {example}; devloop watch takes it once it is free"
    hints = busy, "write an address of this machine in config.yaml: forward: {address: localhost, ports: …}"
    if forward.address != "localhost":
        return [listen(forward.address, forward.port, what, hints)]
    sockets = [listen("127.0.0.1", forward.port, what, hints)]
    try:
        sockets.append(listen("::1", forward.port, what, hints))
    except PlatformError as error:  # a machine need not have IPv6
        if error.reason == IN_USE:  # what some programs take for localhost would be somebody else's
            sockets[0].close()
            raise
    return sockets


def is_free(forward: Forward) -> bool:
    """Whether `open_sockets` would work, without a look at who holds the port."""
    for address in ("127.0.0.1", "::1") if forward.address == "localhost" else (forward.address,):
        try:
            bound(address, forward.port).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE or address != "::1":
                return False
    return True


class Outage:
    """Of the API server: while it lasts, one connection knocks for all that wait."""

    def __init__(self) -> None:
        self._lasts = False
        self._knocking = anyio.Lock()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Open a tunnel in this block: at once, or one after the other as long as that fails."""
        async with AsyncExitStack() as stack:
            if self._lasts:
                await stack.enter_async_context(self._knocking)
            try:
                yield
                self._lasts = False
            except TunnelError as error:
                if error.reason == API_AWAY:
                    self._lasts = True
                    await anyio.sleep(AGAIN_SECONDS)
                raise


class ForwardedPort:
    """`serve` until cancelled; whatever happens to pods or to the API server, it listens."""

    def __init__(self, forward: Forward, pods: Pods, tunnels: Tunnels, emit: Emit) -> None:
        self._forward, self._pods, self._tunnels, self._emit = forward, pods, tunnels, emit
        self._outage = Outage()
        self._reported = False  # that connections fail: once, until one goes well

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        async with anyio.create_task_group() as group:
            for one in sockets:
                group.start_soon(self._accept, one, group)

    async def _accept(self, one: socket.socket, group: TaskGroup) -> None:
        async with await SocketListener.from_socket(one) as listener:
            while True:
                try:
                    client = await listener.accept()
                except OSError:  # no more files may be opened: those that are open end some time
                    await anyio.sleep(OUT_OF_FILES_SECONDS)
                    continue
                group.start_soon(self._handle, client)

    async def _handle(self, client: SocketStream) -> None:
        async with client:
            connection = Connection(client, self._went_well)
            try:
                await self._carry(connection)
                await connection.close()
            except NoPodError as error:
                self._report(error)
                connection.reset()
            except TunnelError:
                connection.reset()
            except ClientGoneError:
                pass

    async def _carry(self, connection: Connection) -> None:
        """To the best pod that takes it. Raises NoPodError, TunnelError (it broke), ClientGoneError."""
        end = anyio.current_time() + WAIT_SECONDS
        refused: set[str] = set()
        last: TunnelError | None = None
        while True:
            pod = self._best(refused)
            left = end - anyio.current_time()
            if pod is None:
                if left <= 0:
                    raise self._no_pod(last)
                await self._pods.change(min(left, AGAIN_SECONDS) if refused else left)
                refused.clear()
                continue
            try:
                await self._try(pod, connection, refused, max(left, AGAIN_SECONDS))
                return
            except TunnelError as error:
                if error.reached:
                    raise
                last = error
                if not isinstance(error, OvertakenError):
                    refused.add(pod.uid)

    def _best(self, refused: Set[str]) -> PodView | None:
        return next((one for one in self._pods.ready() if one.uid not in refused), None)

    async def _try(self, pod: PodView, connection: Connection, refused: Set[str], seconds: float) -> None:
        async with AsyncExitStack() as stack:
            with anyio.move_on_after(seconds) as opening:
                async with self._outage.passed():
                    tunnel = await stack.enter_async_context(self._tunnels.tunnel(pod, self._forward.to))
            if opening.cancelled_caught:
                raise TunnelError("the API server does not answer", reached=False)
            best = self._best(refused)
            if best is not None and best.uid != pod.uid:
                raise OvertakenError(f"{pod.name} was replaced meanwhile", reached=False)
            await connection.carry(tunnel, self._pods.gone(pod))

    def _no_pod(self, last: TunnelError | None) -> NoPodError:
        why = last.message if last else "no pod is ready"
        text = f"a connection to {self._forward.url} was given up after {WAIT_SECONDS:.0f} s: {why}"
        return NoPodError(text, reached=False, hint=last.hint if last else None)

    def _went_well(self) -> None:
        self._reported = False

    def _report(self, error: NoPodError) -> None:
        if not self._reported:
            self._reported = True
            self._emit(Notice(self._forward.service, "warning", error.message, error.hint))
