"""Cluster DNS: the Services' names for pods, and the host's resolver for the rest of the world."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rrset
from dns.message import Message
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from typing_extensions import override

from devloop_sandbox.objects.resources import Obj

Find = Callable[[str, str, str], Obj | None]  # as Store.find

ZONE = "cluster.local"
TTL = 5  # seconds
FORWARD_TIMEOUT = 4.0  # seconds


@dataclass(frozen=True, slots=True)
class Found:
    """What the cluster knows of a name: addresses, or another name."""

    addresses: tuple[str, ...] = ()
    alias: str = ""


def parse(query: bytes) -> Message:
    """A query with one question; ValueError for anything else."""
    try:
        message = dns.message.from_wire(query)
    except dns.exception.DNSException as error:
        raise ValueError(f"not a DNS message: {error}") from error
    if message.flags & dns.flags.QR or len(message.question) != 1:
        raise ValueError("not a query with one question")
    return message


def name_of(query: Message) -> str:
    """The name that is asked for: lower case, no dot at the end."""
    return query.question[0].name.to_text(omit_final_dot=True).lower()


def answer(query: Message, found: Found | None) -> bytes:
    """The response; None says that the name does not exist."""
    reply = _reply(query, Rcode.NXDOMAIN if found is None else Rcode.NOERROR)
    asked = query.question[0]
    if found is not None and found.alias:
        alias = dns.name.from_text(found.alias).to_text()
        reply.answer.append(dns.rrset.from_text(asked.name, TTL, "IN", "CNAME", alias))
    elif found is not None and found.addresses and asked.rdtype in (RdataType.A, RdataType.ANY):
        reply.answer.append(dns.rrset.from_text_list(asked.name, TTL, "IN", "A", found.addresses))
    return reply.to_wire()


def refusal(query: Message, code: Rcode) -> bytes:
    """A response without an answer."""
    return _reply(query, code).to_wire()


def _reply(query: Message, code: Rcode) -> Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.flags |= dns.flags.AA
    reply.set_rcode(code)
    return reply


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
        name = name_of(question)
        if is_ours(name):
            return answer(question, resolve(name, self._find))
        if question.question[0].rdtype == RdataType.PTR and ipaddress_of(name) in self._pods:
            return answer(question, None)
        forwarded = await forward(query)
        return forwarded or refusal(question, Rcode.SERVFAIL)


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
