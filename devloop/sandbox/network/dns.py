"""Cluster DNS: the Services' names for pods, and the host's resolver for the rest of the world."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from devloop.sandbox.resources import Obj

Find = Callable[[str, str, str], Obj | None]  # as Store.find

ZONE = "cluster.local"
TTL = 5  # seconds
A, CNAME, PTR, ANY = 1, 5, 12, 255
OK, SERVFAIL, NXDOMAIN, NOTIMP = 0, 2, 3, 4
FORWARD_TIMEOUT = 4.0  # seconds
_HEADER = struct.Struct("!HHHHHH")


@dataclass(frozen=True, slots=True)
class Question:
    name: str  # lower case, no dot at the end
    kind: int
    raw: bytes  # as it stood in the query


@dataclass(frozen=True, slots=True)
class Found:
    """What the cluster knows of a name: addresses, or another name."""

    addresses: tuple[str, ...] = ()
    alias: str = ""


def parse(query: bytes) -> Question:
    """The one question of a query; ValueError if it is malformed."""
    try:
        _, flags, count, *_ = _HEADER.unpack_from(query)
        if flags & 0x8000 or count != 1:
            raise ValueError("not a query with one question")
        labels, at = [], _HEADER.size
        while length := query[at]:
            if length > 63:
                raise ValueError("compressed name in a question")
            labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
        kind, _ = struct.unpack_from("!HH", query, at + 1)
    except (IndexError, struct.error) as error:
        raise ValueError("truncated query") from error
    return Question(".".join(labels).lower(), kind, query[_HEADER.size : at + 5])


def answer(query: bytes, question: Question, found: Found | None) -> bytes:
    """The response; None says that the name does not exist."""
    records = b""
    count = 0
    if found is not None and found.alias:
        data = _encode(found.alias)
        records, count = _record(CNAME, data), 1
    elif found is not None and question.kind in (A, ANY):
        records = b"".join(_record(A, socket.inet_aton(address)) for address in found.addresses)
        count = len(found.addresses)
    return _reply(query, question, NXDOMAIN if found is None else OK, records, count)


def refusal(query: bytes, question: Question, code: int) -> bytes:
    return _reply(query, question, code, b"", 0)


def _reply(query: bytes, question: Question, code: int, records: bytes, count: int) -> bytes:
    number, flags, *_ = _HEADER.unpack_from(query)
    flags = 0x8480 | (flags & 0x0100) | code  # response, authoritative, recursion available
    return _HEADER.pack(number, flags, 1, count, 0, 0) + question.raw + records


def _record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data


def _encode(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def resolve(name: str, find: Find) -> Found | None:
    """A name under cluster.local: [<hostname>.]<service>.<namespace>.svc; None if there is no such."""
    parts = name.removesuffix(f".{ZONE}").split(".")
    if parts[-1] != "svc":
        return None
    if len(parts) in (1, 2):
        known = len(parts) == 1 or find("namespaces", "", parts[0]) is not None
        return Found() if known else None
    namespace, service, hosts = parts[-2], parts[-3], parts[:-3]
    found = find("services", namespace, service)
    if found is None or len(hosts) > 1:
        return None
    if found["spec"].get("type") == "ExternalName":
        return Found(alias=found["spec"]["externalName"])
    address = found["spec"].get("clusterIP")
    if address and address != "None" and not hosts:
        return Found((address,))
    ready = [
        entry
        for subset in (find("endpoints", namespace, service) or {}).get("subsets") or []
        for entry in subset.get("addresses") or []
        if not hosts or entry.get("hostname") == hosts[0]
    ]
    if hosts and not ready:
        return None
    return Found(tuple(entry["ip"] for entry in ready))


def is_ours(name: str) -> bool:
    return name == ZONE or name.endswith(f".{ZONE}")


def host_resolver(config: Path) -> str | None:
    """The first nameserver of a resolv.conf; None if there is none."""
    try:
        text = config.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    return None


class Server(asyncio.DatagramProtocol):
    """Answers on (address, 53), UDP and TCP; only peers of the network `pods` and this machine."""

    def __init__(self, address: str, pods: str, find: Find) -> None:
        self._address = address
        self._pods = ipaddress.ip_network(pods)
        self._find = find
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled. OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, (self._address, 53))
        except OSError as error:
            question = "does a sandbox of the same name run from another state folder (XDG_STATE_HOME)?"
            message = f"DNS for the pods on {self._address}:53: {error.strerror}; {question}"
            raise OSError(error.errno, message) from error
        self._transport = transport
        try:
            async with await asyncio.start_server(self._serve_tcp, self._address, 53) as server:
                await server.serve_forever()
        finally:
            transport.close()
            for task in self._tasks:
                task.cancel()

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._may_ask(addr[0]):
            return
        task = asyncio.create_task(self._answer_udp(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_udp(self, query: bytes, peer: tuple[str, int]) -> None:
        reply = await self.reply(query)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self._may_ask(writer.get_extra_info("peername")[0]):
                size = int.from_bytes(await reader.readexactly(2), "big")
                reply = await self.reply(await reader.readexactly(size))
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _may_ask(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer)
        return address in self._pods or address.is_loopback

    async def reply(self, query: bytes) -> bytes | None:
        """The response to a query, None for garbage."""
        try:
            question = parse(query)
        except ValueError:
            return None
        if is_ours(question.name):
            return answer(query, question, resolve(question.name, self._find))
        if question.kind == PTR and ipaddress_of(question.name) in self._pods:
            return answer(query, question, None)
        forwarded = await forward(query)
        return forwarded or refusal(query, question, SERVFAIL)


def ipaddress_of(name: str) -> ipaddress.IPv4Address:
    """The address in d.c.b.a.in-addr.arpa, 0.0.0.0 for anything else."""
    labels = name.removesuffix(".in-addr.arpa").split(".")
    try:
        return ipaddress.IPv4Address(".".join(reversed(labels)))
    except ValueError:
        return ipaddress.IPv4Address(0)


async def forward(query: bytes) -> bytes | None:
    """Ask the host's resolver; None if it has none or that does not answer."""
    server = host_resolver(Path("/etc/resolv.conf"))
    if server is None:
        return None
    loop = asyncio.get_running_loop()
    received: asyncio.Future[bytes] = loop.create_future()

    class Reply(asyncio.DatagramProtocol):
        @override
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if not received.done() and data[:2] == query[:2]:
                received.set_result(data)

        @override
        def error_received(self, exc: Exception) -> None:
            if not received.done():
                received.set_exception(exc)

    try:
        transport, _ = await loop.create_datagram_endpoint(Reply, remote_addr=(server, 53))
    except OSError:
        return None
    try:
        transport.sendto(query)
        async with asyncio.timeout(FORWARD_TIMEOUT):
            return await received
    except OSError:
        return None
    finally:
        transport.close()
