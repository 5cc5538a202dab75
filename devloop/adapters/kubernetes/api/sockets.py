"""Sockets to the API server, such that a peer that silently went away is noticed."""

from __future__ import annotations

import socket
from typing import Any

_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000))


def open_socket(address: tuple[Any, ...]) -> socket.socket:
    """Keep-alive probes: a half-open connection (a VM that went away) ends after about 25 s."""
    sock = socket.socket(address[0], address[1], address[2])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock
