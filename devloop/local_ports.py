"""Ports of this machine: listening on one, and who holds it already."""

from __future__ import annotations

import errno
import socket

from devloop.errors import PlatformError

IN_USE = "PortInUse"
_BACKLOG = 128


def listen(host: str, port: int, what: str, hints: tuple[str, str]) -> socket.socket:
    """A listening socket that does not block. `what` does not work without it: "the metrics cannot be served
    there".

    Raises PlatformError: with the first hint if the port is in use (reason IN_USE, and who holds it), with
    the second if this machine has no such address.
    """
    try:
        return bound(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {host} is in use by {holder(port)}, so {what}"
            raise PlatformError(text, reason=IN_USE, hint=hints[0]) from error
        text = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise PlatformError(text, reason="CannotListen", hint=hints[1]) from error


def bound(host: str, port: int) -> socket.socket:
    """As `listen`, for who has reported already that it did not work. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def holder(port: int) -> str:
    """Who listens on a port of this machine: "nginx (pid 123)", or "another process"."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr[1:2] == (port,)
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass  # other users' processes may not be looked at
    return "another process"
