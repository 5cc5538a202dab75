"""S29 as a table. No test here opens a connection: sockets are forbidden while they run."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from devloop.adapters.kubernetes.guard import admit, identify, is_near
from devloop.adapters.kubernetes.kubeconfig import Context
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
    ],
)
def test_s29_loopback_and_private_addresses_are_near(server: str, near: bool) -> None:
    assert is_near(server) is near
