"""A real TCP/TLS proxy that breaks things on purpose, in front of an API server or an engine.

    async with open_proxy("https://127.0.0.1:6443", upstream_tls=tls, cert=make_cert(tmp_path)) as proxy:
        proxy.on("PATCH", "/deployments/", Lose())      # the next one takes effect, its answer is lost
        proxy.on("GET", "/pods", Answer(500), times=2)
        proxy.freeze()                                  # half-open: connections stay, no byte moves
        proxy.thaw(); proxy.cut(); await proxy.refuse(); await proxy.accept()

`through(kubeconfig, proxy, folder)` writes a kubeconfig that leads through the proxy. Upstreams:
https://HOST:PORT, http://HOST:PORT, unix:///path; `listen` may be a unix path too.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Answer:
    """Answer in the server's stead; the request never reaches it. `body` is a Status if left out."""

    status: int
    body: bytes | None = None
    message: str = "a fault of the test"
    reason: str = "InternalError"


@dataclass(frozen=True)
class Lose:
    """The request takes effect; of its answer only `keep` bytes arrive, then the connection is cut."""

    keep: int = 0


@dataclass(frozen=True)
class Swallow:
    """No answer ever; with `forward` the server gets the request all the same."""

    forward: bool = False


@dataclass(frozen=True)
class Delay:
    """The answer comes `seconds` late."""

    seconds: float


Fault = Answer | Lose | Swallow | Delay


@dataclass
class _Rule:
    method: str
    part: str
    fault: Fault
    times: int


@dataclass
class Proxy:
    """`seen` is every request as "METHOD /path?query"; `hits` counts faults that struck."""

    upstream: str
    upstream_tls: ssl.SSLContext | None
    cert: tuple[Path, Path] | None
    listen: Path | None
    seen: list[str] = field(default_factory=list)
    hits: int = 0
    port: int = 0
    _rules: list[_Rule] = field(default_factory=list)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _flow: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        if self.listen is not None:
            return f"unix://{self.listen}"
        return f"{'https' if self.cert else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def on(self, method: str, part: str, fault: Fault, times: int = 1) -> None:
        """Let `fault` strike the next `times` requests of `method` ("*" any) with `part` in their target."""
        self._rules.append(_Rule(method, part, fault, times))

    def heal(self) -> None:
        self._rules.clear()

    async def wait_for(self, method: str, part: str, count: int = 1) -> None:
        """Until `count` such requests have come in since the proxy began."""
        while sum(line.startswith(f"{method} ") and part in line for line in self.seen) < count:
            self._stirred.clear()
            await self._stirred.wait()

    def freeze(self) -> None:
        self._flow.clear()

    def thaw(self) -> None:
        self._flow.set()

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def refuse(self) -> None:
        """Close the listener and every connection, as a server that went away."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    async def accept(self, port: int | None = None) -> None:
        """Listen (again), on the same port unless another is given (0 = any)."""
        if self.listen is not None:
            self.listen.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, str(self.listen))
            return
        tls = None
        if self.cert is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*self.cert)
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port if port is None else port, ssl=tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one connection -------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._relay(reader, writer, pumps)
        except (OSError, EOFError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pumps: list[asyncio.Task[None]],
    ) -> None:
        up_writer: asyncio.StreamWriter | None = None
        hold = _Hold()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = head.split(b" ", 2)[:2]
                line = f"{method.decode()} {target.decode()}"
                self.seen.append(line)
                self._stirred.set()
                await self._flow.wait()
                fault = self._strike(method.decode(), target.decode())
                if isinstance(fault, Answer):
                    await _read_body(reader, head)
                    writer.write(_response(fault))
                    continue
                if isinstance(fault, Swallow) and not fault.forward:
                    await asyncio.Event().wait()
                hold.fault = fault
                hold.begin()
                if up_writer is None:
                    up_reader, up_writer = await self._connect()
                    self._writers.add(up_writer)
                    pumps.append(asyncio.create_task(self._pump(up_reader, writer, hold)))
                up_writer.write(self._readdress(head))
                if b"upgrade:" in head.lower() and await hold.switches():
                    await self._pump(reader, up_writer, _Hold())
                    return
                async for chunk in _body(reader, head):
                    up_writer.write(chunk)
                    await up_writer.drain()
        finally:
            if up_writer is not None:
                self._writers.discard(up_writer)
                up_writer.transport.abort()

    def _readdress(self, head: bytes) -> bytes:
        """The request with the Host that the upstream expects."""
        host = urlsplit(self.upstream).netloc or "localhost"
        first, *fields = head.split(b"\r\n")
        kept = [line for line in fields if not line.lower().startswith(b"host:")]
        return b"\r\n".join([first, b"Host: " + host.encode(), *kept])

    def _strike(self, method: str, target: str) -> Fault | None:
        for rule in self._rules:
            if rule.times > 0 and rule.method in ("*", method) and rule.part in target:
                rule.times -= 1
                self.hits += 1
                return rule.fault
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.upstream)
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path)
        return await asyncio.open_connection(parts.hostname, parts.port, ssl=self.upstream_tls)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hold: _Hold) -> None:
        """Answers back to the client, as the fault of the present request allows."""
        try:
            while data := await reader.read(65536):
                hold.answered(data)
                await self._flow.wait()
                fault = hold.fault
                if isinstance(fault, Swallow):
                    continue
                if isinstance(fault, Lose):
                    writer.write(data[: fault.keep])
                    with suppress(OSError):
                        await writer.drain()
                    writer.transport.abort()
                    break
                if isinstance(fault, Delay):
                    hold.fault = None
                    await asyncio.sleep(fault.seconds)
                writer.write(data)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        hold.answered(b"")
        writer.close()  # with what it still has to write


class _Hold:
    """The fault of the request that is being answered, and how its answer begins."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self._first: bytes | None = None
        self._came = asyncio.Event()

    def begin(self) -> None:
        self._first = None
        self._came.clear()

    def answered(self, data: bytes) -> None:
        if self._first is None:
            self._first = data
            self._came.set()

    async def switches(self) -> bool:
        """Whether the server leaves HTTP from here on."""
        await self._came.wait()
        return (self._first or b"").startswith(b"HTTP/1.1 101")


@asynccontextmanager
async def open_proxy(
    upstream: str,
    *,
    upstream_tls: ssl.SSLContext | None = None,
    cert: tuple[Path, Path] | None = None,
    listen: Path | None = None,
) -> AsyncIterator[Proxy]:
    proxy = Proxy(upstream, upstream_tls, cert, listen)
    proxy.thaw()
    await proxy.accept(0)
    try:
        yield proxy
    finally:
        await proxy.close()


def make_cert(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "faults")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    crt_file, key_file = folder / "faults.crt", folder / "faults.key"
    crt_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return crt_file, key_file


def upstream_of(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """(server, TLS context) of a kubeconfig with one cluster, client certificate data included."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        files = []
        for key in ("client-certificate-data", "client-key-data"):
            files.append(kubeconfig.parent / key)
            files[-1].write_bytes(base64.b64decode(user[key]))
        tls.load_cert_chain(files[0], files[1])
    return cluster["server"], tls


def through(kubeconfig: Path, proxy: Proxy, target: Path) -> Path:
    """`kubeconfig` again at `target`, its server being the proxy, its marks and user the same."""
    assert proxy.cert is not None
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["server"] = proxy.url
    cluster["certificate-authority-data"] = base64.b64encode(proxy.cert[0].read_bytes()).decode()
    target.write_text(json.dumps(document))
    return target


def _response(fault: Answer) -> bytes:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": fault.message,
        "reason": fault.reason,
        "code": fault.status,
    }
    body = json.dumps(status).encode() if fault.body is None else fault.body
    return (
        f"HTTP/1.1 {fault.status} Fault\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    async for _ in _body(reader, head):
        pass


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    """The bytes of a request's body as they came, by length or in chunks."""
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while True:
            size = await reader.readuntil(b"\r\n")
            length = int(size.split(b";")[0], 16)
            yield size + await reader.readexactly(length + 2)
            if not length:
                return
    left = int(fields.get(b"content-length", b"0"))
    while left:
        chunk = await reader.read(min(left, 65536))
        if not chunk:
            raise EOFError
        left -= len(chunk)
        yield chunk
