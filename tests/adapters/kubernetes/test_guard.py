"""S29 as a table. No test here opens a connection: sockets are forbidden while they run."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from yarl import URL

from devloop.adapters.kubernetes.api.guard import admit, identify, is_near
from devloop.adapters.kubernetes.api.kubeconfig import Context
from devloop.errors import ConfigError

MINIKUBE = [{"name": "cluster_info", "extension": {"provider": "minikube.sigs.k8s.io", "version": "v1.39.0"}}]
SANDBOX = [{"name": "devloop.sandbox", "extension": {"provider": "sandbox.devloop.dev"}}]
LOOPBACK = "https://127.0.0.1:6443"


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the guard opened a connection or asked DNS")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def context(cluster_name: str, server: str, name: str = "ctx", **cluster: object) -> Context:
    return Context(name, cluster_name, {"server": server, **cluster}, {}, "default", (Path("config"),))


@pytest.mark.parametrize(
    "made, product, profile",
    [
        (context("dev", "https://192.168.49.2:8443", extensions=MINIKUBE), "minikube", "dev"),
        (context("minikube", LOOPBACK, extensions=MINIKUBE), "minikube", "minikube"),
        (context("kind-kind", LOOPBACK), "kind", "kind"),
        (context("kind-two", "https://[::1]:6443"), "kind", "two"),
        (context("k3d-dev", "https://0.0.0.0:6443"), "k3d", "dev"),
        (context("k3d-dev", "https://localhost:6443"), "k3d", "dev"),
        (
            context("docker-desktop", "https://kubernetes.docker.internal:6443"),
            "docker-desktop",
            "docker-desktop",
        ),
        (context("rancher-desktop", LOOPBACK), "rancher-desktop", "rancher-desktop"),
        (context("colima", LOOPBACK), "colima", "colima"),
        (context("colima-work", LOOPBACK), "colima", "work"),
        (context("orbstack", LOOPBACK), "orbstack", "orbstack"),
        (context("microk8s-cluster", "https://192.168.1.20:16443"), "microk8s", "microk8s-cluster"),
        (context("devloop-sandbox", LOOPBACK, extensions=SANDBOX), "sandbox", "devloop-sandbox"),
    ],
)
def test_s29_a_known_product_on_this_machine_is_local(made: Context, product: str, profile: str) -> None:
    platform = identify(made)
    assert (platform.product, platform.profile, platform.local) == (product, profile, True)
    assert admit(made, allow_remote=False) == platform


@pytest.mark.parametrize(
    "made",
    [
        context("gke_company_europe_prod", "https://34.90.1.2"),
        context("prod", "https://10.1.2.3:6443"),  # private, but nobody's local product
        context("minikube", "https://192.168.49.2:8443"),  # the name alone is no mark
        context("prod", LOOPBACK, name="minikube"),  # a tunnel, under a context of a fair name
        context("prod", LOOPBACK, name="kind-kind"),
        context("kind-kind", "https://34.90.1.2"),  # the mark, but far away
        context("kind-kind", "https://kind.example.com:6443"),  # DNS would have to say
        context("dev", "https://34.90.1.2:8443", extensions=MINIKUBE),
        context("dev", "https://192.168.49.2:8443", extensions=[{"name": "cluster_info", "extension": None}]),
        context("dev", LOOPBACK, extensions=[{"name": "cluster_info", "extension": {"provider": "other"}}]),
        context("kind-kind", LOOPBACK, **{"proxy-url": "http://proxy.example.com:3128"}),
        context("kind-kind", "https://203.0.113.5"),  # documentation network: Python calls it private
    ],
)
def test_s29_anything_else_needs_allow_remote(made: Context) -> None:
    with pytest.raises(ConfigError) as caught:
        admit(made, allow_remote=False)
    assert "allow_remote: true" in str(caught.value.hint)
    assert made.name in caught.value.message
    assert made.server in caught.value.message
    assert admit(made, allow_remote=True).local is False


@pytest.mark.parametrize(
    "server, near",
    [
        ("https://127.0.0.1:1", True),
        ("https://127.9.9.9", True),
        ("https://[::1]:1", True),
        ("https://[::ffff:127.0.0.1]:1", True),
        ("https://[fe80::1%25eth0]:1", True),
        ("https://10.0.0.1", True),
        ("https://172.16.0.1", True),
        ("https://172.32.0.1", False),
        ("https://192.168.0.1", True),
        ("https://[fd00::1]", True),
        ("https://LOCALHOST:1", True),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
        ("https://user@34.1.1.1", False),
        ("https://127.0.0.1@34.1.1.1", False),
        ("https://x.localhost", True),
        ("https://8.8.8.8", False),
        ("", False),
        # IPv6
        ("https://[::]:1", True),
        ("https://[0:0:0:0:0:0:0:1]:1", True),
        ("https://[::ffff:8.8.8.8]:1", False),
        ("https://[::ffff:192.168.0.1]:1", True),
        ("https://[::127.0.0.1]", False),  # IPv4-compatible: nobody's loopback
        ("https://[64:ff9b::7f00:1]", False),  # NAT64 of 127.0.0.1
        ("https://[2002:7f00:1::]", False),  # 6to4 of 127.0.0.1
        ("https://[fec0::1]", False),
        ("https://[fe80::1%eth0]:1", False),  # Go reads no URL with a bare %
        ("https://[::1]evil.com", False),
        ("https://[::1].evil.com", False),
        ("https://::1", False),
        ("https://[127.0.0.1]", False),
        ("https://[v1.::1]", False),
        # zone ids
        ("https://127.0.0.1%.evil.com", False),
        ("https://127.0.0.1%.evil.com:6443", False),
        ("https://127.0.0.1%25.evil.com", False),
        ("https://[::1%25.evil.com]", False),
        ("https://[::1%25eth0]", False),  # loopback has no zones
        ("https://[fe80::1%8.8.8.8]:1", False),
        ("https://[fe80::1%25]", False),
        ("https://8.8.8.8%127.0.0.1", False),
        ("https://localhost%.evil.com", False),
        # userinfo
        ("https://user:pw@127.0.0.1", False),
        ("https://evil.com:443@127.0.0.1", False),
        ("https://evil.com\\@127.0.0.1:6443", False),
        ("https://127.0.0.1\\@evil.com", False),
        ("https://127.0.0.1:6443\\.evil.com", False),
        ("https://a@b@127.0.0.1", False),
        ("https://@127.0.0.1", False),
        # ports
        ("https://127.0.0.1:65535", True),
        ("https://127.0.0.1:65536", False),
        ("https://127.0.0.1:0", False),
        ("https://127.0.0.1:", False),
        ("https://127.0.0.1:+80", False),
        ("https://127.0.0.1:8_0", False),
        ("https://127.0.0.1:\uff18\uff10", False),
        ("https://127.0.0.1:6443:8.8.8.8", False),
        # trailing dots: a resolver takes "127.0.0.1." for a name
        ("https://127.0.0.1.", False),
        ("https://localhost.", False),
        ("https://localhost..", False),
        ("https://.localhost", False),
        # numbers that only some parsers read as addresses
        ("https://2130706433", False),
        ("https://0x7f000001", False),
        ("https://0x7f.0.0.1", False),
        ("https://0177.0.0.1", False),
        ("https://127.1", False),
        ("https://127.0.0.01", False),
        ("https://0", False),
        # IDNA, look-alikes and escapes
        ("https://127\u30020\u30020\u30021", False),
        ("https://\u2460\u2461\u2466.0.0.1", False),
        ("https://\uff4cocalhost", False),
        ("https://local\u00adhost", False),
        ("https://xn--localhost-.com", False),
        ("https://127.0.0.1%2eevil.com", False),
        ("https://%6cocalhost", False),
        ("https://127.0.0.1%00.evil.com", False),
        # where the authority ends
        ("https://127.0.0.1#@evil.com", False),
        ("https://127.0.0.1?@evil.com/", False),
        ("https://127.0.0.1;@evil.com", False),
        ("https:/\\/127.0.0.1", False),
        ("https:/127.0.0.1", False),
        ("https:127.0.0.1", False),
        ("//127.0.0.1", False),
        ("127.0.0.1:6443", False),
        ("https://127.0.0.1\t.evil.com", False),
        ("https://127.0.0.1\n@evil.com", False),
        ("https://127.0.0.1 ", False),
        ("\nhttps://127.0.0.1", False),
        ("https:///127.0.0.1", False),
        ("https://", False),
        ("https://127.0.0.1/k8s/clusters/c-1", True),
        ("https://127.0.0.1/@evil.com", True),  # a path
        ("https://127.0.0.1/a b", False),
        # schemes
        ("HTTPS://127.0.0.1", True),
        ("http://127.0.0.1", True),
        ("ftp://127.0.0.1", False),
        ("unix:///run/x", False),
        ("https+x://127.0.0.1", False),
        # other reserved networks
        ("https://169.254.169.254", True),
        ("https://100.64.0.1", False),
        ("https://198.18.0.1", False),
        ("https://224.0.0.1", False),
        ("https://255.255.255.255", False),
    ],
)
def test_s29_loopback_and_private_addresses_are_near(server: str, near: bool) -> None:
    assert is_near(server) is near
    if near:  # what is admitted means the same to the client that connects, and to Go's kubectl
        assert same_host(URL(f"{server}/api").host, urlsplit(server).hostname)


def same_host(one: str | None, other: str | None) -> bool:
    def plain(host: str | None) -> object:
        name = (host or "").partition("%")[0].lower()
        return ipaddress.ip_address(name) if ":" in name else name

    return plain(one) == plain(other)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "socks5://127.0.0.1:1", "direct", "x"])
def test_s29_behind_a_proxy_nobody_can_say_where_a_server_is(proxy: str) -> None:
    assert identify(context("kind-kind", LOOPBACK, **{"proxy-url": proxy})).local is False


def test_s29_a_server_name_for_tls_moves_no_connection() -> None:
    assert identify(context("kind-kind", LOOPBACK, **{"tls-server-name": "evil.com"})).local is True
    assert (
        identify(context("kind-kind", "https://8.8.8.8", **{"tls-server-name": "localhost"})).local is False
    )
