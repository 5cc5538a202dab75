"""Each of the five on a sandbox: images built, charts installed, the backend's data read from outside."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.sample_project import Sandbox
from tests.topologies import helm
from tests.topologies.deployments import ALL, UMBRELLA, Topology
from tests.topologies.http_checks import CHECKS, reached, wait_for_backend_data

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(300)]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    cluster = Sandbox(f"topologies-{os.getpid()}", tmp_path_factory.mktemp("state"))
    cluster.up()
    yield cluster
    cluster.down()


def free_node_port() -> int:
    """Of the usual range, past what the charts fix: another cluster on this machine may hold those."""
    for port in range(30300 + os.getpid() % 1000, 32767):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port in 30300-32766")


@contextmanager
def built(topology: Topology) -> Iterator[dict[str, str]]:
    """Service -> the tag of its image, gone at the end."""
    images = {}
    number = next(_numbers)
    try:
        for service in topology.services:
            tag = f"topologies-{os.getpid()}-{number}-{service}:1.0.0"
            images[service] = topology.build(service, tag)
        yield images
    finally:
        for tag in images.values():
            subprocess.run(["docker", "rmi", "-f", tag], capture_output=True, check=False)


@contextmanager
def installed(topology: Topology, sandbox: Sandbox, values: dict[str, dict[str, Any]]) -> Iterator[None]:
    """`values` by release; what a person makes beforehand is made, too."""
    done = []
    try:
        for words in topology.before:
            sandbox.kubectl(*words)
        for release in topology.releases:
            helm.install(
                sandbox.kubeconfig,
                topology.chart(release),
                values[release],
                name=release,
                namespace=topology.namespace,
                create=topology.namespace != "default" and not topology.before,
            )
            done.append(release)
        yield
    finally:
        for release in done:
            helm.uninstall(sandbox.kubeconfig, name=release, namespace=topology.namespace)
        if topology.namespace != "default":
            sandbox.kubectl("delete", "namespace", topology.namespace, "--ignore-not-found", check=False)


def wait_until_rolled_out(topology: Topology, sandbox: Sandbox) -> None:
    for release in topology.releases:
        selector = f"app.kubernetes.io/instance={release}"
        words = ("get", "deployment", "-n", topology.namespace, "-l", selector, "-o", "name")
        names = sandbox.kubectl(*words).split()
        assert names
        for name in names:
            sandbox.kubectl("rollout", "status", name, "-n", topology.namespace, "--timeout=55s")


def ask(topology: Topology, sandbox: Sandbox) -> None:
    check = CHECKS[topology.name]
    forward = ("kubectl", "--kubeconfig", str(sandbox.kubeconfig), "--context", sandbox.context)
    with reached(check, sandbox.kubectl, forward) as url:
        about = wait_for_backend_data(check, url)
    pods = sandbox.kubectl("get", "pods", "-n", topology.namespace, "-o", "name").split()
    assert f"pod/{about['pod']}" in pods


@pytest.mark.parametrize("topology", ALL, ids=lambda topology: topology.name)
def test_a_request_from_outside_returns_the_backends_data(topology: Topology, sandbox: Sandbox) -> None:
    given = {topology.node_port: free_node_port()} if topology.node_port else {}
    with built(topology) as images:
        values = {release: topology.values(release, images, **given) for release in topology.releases}
        with installed(topology, sandbox, values):
            wait_until_rolled_out(topology, sandbox)
            ask(topology, sandbox)


def test_the_umbrella_installs_without_devloop(sandbox: Sandbox) -> None:
    """000 line 49: with values.yaml alone but for the images' names, so with the document's probes."""
    with built(UMBRELLA) as images:
        values: dict[str, Any] = {
            service: {"image": {"repository": tag.removesuffix(":1.0.0")}} for service, tag in images.items()
        }
        with installed(UMBRELLA, sandbox, {"todo-chatbot": values}):
            wait_until_rolled_out(UMBRELLA, sandbox)
            ask(UMBRELLA, sandbox)
