"""The Services' addresses on this machine's loopback interface, and how they go away again.

They are written down before they are added, so that `down` finds them even after a kill -9.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

_NEW, _DEL = 20, 21  # RTM_NEWADDR, RTM_DELADDR
_REQUEST_ACK, _CREATE_EXCLUSIVE = 0x5, 0x600
_LOCAL, _ADDRESS = 2, 1  # IFA_LOCAL, IFA_ADDRESS


class Addresses:
    """What this sandbox has put on `lo`, kept in the file `memory`."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._held = set(memory.read_text().split()) if memory.exists() else set()

    def keep_only(self, wanted: set[str]) -> None:
        """Add what is missing, remove the rest. OSError (EPERM) without CAP_NET_ADMIN."""
        new, old = wanted - self._held, self._held - wanted
        if not new and not old:
            return
        self._write(self._held | wanted)
        for address in new:
            _change(address, add=True)
        for address in old:
            _change(address, add=False)
        self._held = set(wanted)
        self._write(self._held)

    def restore(self) -> None:
        """Add what the file names again: a reboot has cleared it from the interface."""
        for address in self._held:
            _change(address, add=True)

    def _write(self, addresses: set[str]) -> None:
        self._memory.write_text("".join(f"{address}\n" for address in sorted(addresses)))


def remove_all(memory: Path) -> None:
    """Take every address in the file off the interface; for `down`."""
    if memory.exists():
        Addresses(memory).keep_only(set())
        memory.unlink()


def _change(address: str, *, add: bool) -> None:
    """One rtnetlink request; an address that is already there, or already gone, is fine."""
    packed = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, socket.if_nametoindex("lo"))
    for kind in (_LOCAL, _ADDRESS):
        body += struct.pack("=HH", 8, kind) + packed
    flags = _REQUEST_ACK | (_CREATE_EXCLUSIVE if add else 0)
    head = struct.pack("=IHHII", 16 + len(body), _NEW if add else _DEL, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(head + body)
        (code,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if code and -code not in (errno.EEXIST, errno.EADDRNOTAVAIL):
        verb = "add" if add else "remove"
        raise OSError(-code, f"cannot {verb} {address} on lo: {os.strerror(-code)} (root is needed)")
