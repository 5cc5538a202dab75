"""Probes and lifecycle handlers: how one is run, what its streak means, when the next is due."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from devloop_sandbox.objects.resources import Obj

Exec = Callable[[list[str], float], Awaitable[tuple[int, str]]]  # (command, timeout) -> exit code, output
BODY = 10 * 1024  # bytes of an HTTP answer that are read


@dataclass(slots=True)
class Streak:
    """Consecutive equal results until they are enough to count."""

    success_threshold: int = 1
    failure_threshold: int = 3
    last: bool | None = None
    length: int = 0

    def feed(self, passed: bool) -> bool | None:
        """The verdict, or None while the streak is too short for one."""
        self.length = self.length + 1 if passed is self.last else 1
        self.last = passed
        needed = self.success_threshold if passed else self.failure_threshold
        return passed if self.length >= needed else None


def next_due(anchor: float, now: float, period: float) -> float:
    """The next tick after `now`. The kubelet's ticks count from when it learnt of the pod."""
    return anchor + (int((now - anchor) / period) + 1) * period


def port_number(port: int | str, container: Obj) -> int:
    """A port given by number or by the container's name for it; ValueError if it has none."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ValueError(f"couldn't find port: {port}")


async def check(handler: Obj, container: Obj, host: str, execute: Exec, timeout: float) -> str | None:
    """Run the handler (a probe or a lifecycle hook); None, or why it failed in the kubelet's words."""
    try:
        if "exec" in handler:
            code, output = await execute(handler["exec"].get("command") or [], timeout)
            return None if code == 0 else output
        if "tcpSocket" in handler:
            spec = handler["tcpSocket"]
            return await _tcp(spec.get("host") or host, port_number(spec["port"], container), timeout)
        if "httpGet" in handler:
            return await _http(handler["httpGet"], container, host, timeout)
        if "sleep" in handler:
            await asyncio.sleep(handler["sleep"]["seconds"])
            return None
    except ValueError as error:
        return str(error)
    return None


async def _tcp(host: str, port: int, timeout: float) -> str | None:
    try:
        async with asyncio.timeout(timeout):
            (await _connect(host, port)).close()
    except TimeoutError:
        return f"dial tcp {host}:{port}: i/o timeout"
    except OSError:
        return f"dial tcp {host}:{port}: connect: connection refused"
    return None


async def _connect(host: str, port: int) -> socket.socket:
    """A bare socket: streams would cost a probe, and so an idle cluster, four times as much."""
    line = socket.socket()
    line.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(line, (host, port))
    except BaseException:
        line.close()
        raise
    return line


async def _http(spec: Obj, container: Obj, host: str, timeout: float) -> str | None:
    port = port_number(spec["port"], container)
    scheme = spec.get("scheme", "HTTP").lower()
    address = f"{spec.get('host') or host}:{port}"
    path = "/" + spec.get("path", "/").lstrip("/")
    headers = {"Host": address, "User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {item["name"]: item["value"] for item in spec.get("httpHeaders") or []}
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    url = f'Get "{scheme}://{address}{path}"'
    try:
        async with asyncio.timeout(timeout):
            status = await _fetch(spec.get("host") or host, port, scheme == "https", request)
    except TimeoutError:
        return f"{url}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    except ConnectionRefusedError:
        return f"{url}: dial tcp {address}: connect: connection refused"
    except OSError as error:
        return f"{url}: {str(error) or 'EOF'}"
    if 200 <= status < 400:
        return None
    return f"HTTP probe failed with statuscode: {status}"


async def _fetch(host: str, port: int, secure: bool, request: str) -> int:
    raw = f"{request}\r\n".encode()
    line = await (_first_line_by_tls(host, port, raw) if secure else _first_line(host, port, raw))
    if not line:
        raise ConnectionResetError("EOF")
    parts = line.split(b" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise ValueError(f"malformed HTTP response {line!r}")
    return int(parts[1])


async def _first_line(host: str, port: int, request: bytes) -> bytes:
    loop, answer = asyncio.get_running_loop(), b""
    with await _connect(host, port) as line:
        await loop.sock_sendall(line, request)
        while b"\n" not in answer and len(answer) < BODY and (data := await loop.sock_recv(line, BODY)):
            answer += data
    return answer.partition(b"\n")[0]


async def _first_line_by_tls(host: str, port: int, request: bytes) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()
