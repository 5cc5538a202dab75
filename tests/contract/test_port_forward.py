"""Connections to ports of a pod, over the websocket whose messages begin with their channel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
import websocket

from tests.contract.cluster import Namespace, Object, Refused, is_true
from tests.contract.objects import container, http_server, pod

PROTOCOL = "v4.channel.k8s.io"
REQUEST = b"GET /index.html HTTP/1.0\r\n\r\n"
ECHO = (
    "import socketserver as s\n"
    "class H(s.BaseRequestHandler):\n"
    " def handle(self):\n"
    "  while d := self.request.recv(65536): self.request.sendall(d)\n"
    "s.ThreadingTCPServer(('', 7000), H).serve_forever()\n"
)


@pytest.fixture(scope="module")
def running(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A pod `one` that answers HTTP on 8080 and 8081, and echoes on 7000."""
    ns = namespaces()
    echo = {**container(), "name": "echo", "command": ["python3", "-c", ECHO], **_probe(7000)}
    second = {**http_server("other", 8081), "name": "second", **_probe(8081)}
    ns.create(pod({**http_server("hello"), **_probe(8080)}, second, echo))
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    yield ns
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


def _probe(port: int) -> Object:
    return {"readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1}}


class Forwarding:
    """One websocket: what came on each channel until the server ended it."""

    def __init__(self, ns: Namespace, ports: list[int] | str, name: str = "one") -> None:
        self.socket = ns.cluster.websocket(
            ns.path("Pod", name, "portforward"), subprotocol=PROTOCOL, ports=ports
        )
        self.channels: dict[int, bytes] = {}

    def receive(self) -> bool:
        """One message; False once the server has ended it."""
        opcode, data = self.socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return False
        self.channels[data[0]] = self.channels.get(data[0], b"") + data[1:]
        return True

    def read(self) -> dict[int, bytes]:
        while self.receive():
            pass
        self.socket.close()
        return self.channels


def test_each_channel_begins_with_its_port(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#podportforwardoptions-v1-core"""
    forwarding = Forwarding(running, [8080, 8081])
    assert forwarding.socket.getsubprotocol() == PROTOCOL
    while len(forwarding.channels) < 4:
        assert forwarding.receive()
    forwarding.socket.close()
    expected = {0: 8080, 1: 8080, 2: 8081, 3: 8081}
    assert forwarding.channels == {channel: struct.pack("<H", port) for channel, port in expected.items()}


def test_what_is_sent_reaches_the_port_and_its_end_is_that_of_the_socket(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/"""
    forwarding = Forwarding(running, [8080])
    forwarding.socket.send_binary(b"\x00" + REQUEST)
    data = forwarding.read()
    assert data[0][2:].startswith(b"HTTP/1.0 200")
    assert data[0].endswith(b"hello\n")
    assert data[1][2:] == b""


def test_two_ports_have_channels_of_their_own(running: Namespace) -> None:
    """https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#podportforwardoptions-v1-core"""
    forwarding = Forwarding(running, "8080,8081")
    forwarding.socket.send_binary(b"\x02" + REQUEST)
    forwarding.socket.send_binary(b"\x00" + REQUEST)
    data = forwarding.read()
    assert data[0].endswith(b"hello\n")
    assert data[2].endswith(b"other\n")


def test_a_port_where_nobody_listens_is_reported_on_its_error_channel(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/"""
    data = Forwarding(running, [9999]).read()
    assert b"error forwarding port 9999 to pod" in data[1][2:]
    assert b"refused" in data[1].lower()
    assert data[0][2:] == b""


def test_a_mebibyte_passes_both_ways(running: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/"""
    forwarding = Forwarding(running, [7000])
    sent = bytes(range(256)) * 4096
    for start in range(0, len(sent), 32768):
        forwarding.socket.send_binary(b"\x00" + sent[start : start + 32768])
    while len(forwarding.channels.get(0, b"")) < 2 + len(sent):
        assert forwarding.receive()
    forwarding.socket.close()
    assert forwarding.channels[0][2:] == sent


@pytest.mark.parametrize("name", ["nowhere"])
def test_a_pod_that_is_not_there_is_refused(running: Namespace, name: str) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/"""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Forwarding(running, [8080], name)
    assert caught.value.status_code == 404


@pytest.mark.parametrize("ports", ["", "0", "70000", "http"])
def test_what_is_no_port_is_refused(running: Namespace, ports: str) -> None:
    """https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#podportforwardoptions-v1-core"""
    with pytest.raises((websocket.WebSocketBadStatusException, Refused)) as caught:
        Forwarding(running, ports)
    assert getattr(caught.value, "status_code", 400) in (400, 500)
