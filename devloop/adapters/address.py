"""How far away a host is, judged by its address alone: no name is looked up, no connection opened."""

from __future__ import annotations

import ipaddress
import re
from enum import Enum

# Names that the local products give to loopback themselves. Any other name would need DNS to judge.
_LOCAL_NAMES = ("localhost", "kubernetes.docker.internal", "host.docker.internal", "k8s.orb.local")
_LOCAL_SUFFIXES = (".localhost", ".orb.local")
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
        "169.254.0.0/16",
    )
)
# Only what every URL parser reads alike: no user, no percent sign, no backslash, no letters beyond ASCII.
_URL = re.compile(
    r"""
    (?P<scheme>[a-z]+)://
    (?: (?P<name>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)
      | \[(?P<v6>[0-9a-f:.]+)(?:%25(?P<zone>[a-z0-9_-]+))?\] )
    (?: :(?P<port>[0-9]{1,5}) )?
    (?: /[!-"$->@-\[\]-~]* )?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


class Distance(Enum):
    LOOPBACK = "loopback"
    PRIVATE = "private"
    FAR = "far"  # public, or unknown without asking


def distance_of(url: str, schemes: tuple[str, ...]) -> Distance:
    """Of the host that an HTTP client would connect to; an odd spelling is far."""
    found = _URL.fullmatch(url)
    if found is None or found["scheme"].lower() not in schemes:
        return Distance.FAR
    if found["port"] is not None and not 0 < int(found["port"]) < 65536:
        return Distance.FAR
    name = (found["name"] or "").lower()
    if name in _LOCAL_NAMES or name.endswith(_LOCAL_SUFFIXES):
        return Distance.LOOPBACK
    try:
        address = ipaddress.IPv6Address(found["v6"]) if found["v6"] else ipaddress.IPv4Address(name)
    except ValueError:
        return Distance.FAR
    if found["zone"] and not address.is_link_local:
        return Distance.FAR
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return _of_address(mapped or address)


def _of_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Distance:
    """Python's is_private also takes documentation and benchmark networks: too much for a guard.

    The unspecified address (0.0.0.0, which k3d writes) connects to this machine."""
    if address.is_loopback or address.is_unspecified:
        return Distance.LOOPBACK
    return Distance.PRIVATE if any(address in network for network in _PRIVATE) else Distance.FAR
