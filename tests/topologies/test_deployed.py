"""Each of the five on a sandbox: images built, charts installed, the backend's data read from outside."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.project import Sandbox
from tests.topologies import helm
from tests.topologies.deployments import ALL, Topology
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


@pytest.fixture
def deployed(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Topology]:
    topology: Topology = request.param
    images = {}
    installed = []
    number = next(_numbers)
    try:
        for service in topology.services:
            tag = f"topologies-{os.getpid()}-{number}-{service}:1.0.0"
            images[service] = topology.build(service, tag)
        for words in topology.before:
            sandbox.kubectl(*words)
        for release in topology.releases:
            given = {topology.node_port: free_node_port()} if topology.node_port else {}
            helm.install(
                sandbox.kubeconfig,
                topology.chart(release),
                topology.values(release, images, **given),
                name=release,
                namespace=topology.namespace,
                create=topology.namespace != "default" and not topology.before,
            )
            installed.append(release)
        yield topology
    finally:
        for release in installed:
            helm.uninstall(sandbox.kubeconfig, name=release, namespace=topology.namespace)
        if topology.namespace != "default":
            sandbox.kubectl("delete", "namespace", topology.namespace, "--ignore-not-found", check=False)
        for tag in images.values():
            subprocess.run(["docker", "rmi", "-f", tag], capture_output=True, check=False)


@pytest.mark.parametrize("deployed", ALL, ids=lambda topology: topology.name, indirect=True)
def test_a_request_from_outside_returns_the_backends_data(deployed: Topology, sandbox: Sandbox) -> None:
    check = CHECKS[deployed.name]
    forward = ("kubectl", "--kubeconfig", str(sandbox.kubeconfig), "--context", sandbox.context)
    for release in deployed.releases:
        selector = f"app.kubernetes.io/instance={release}"
        names = sandbox.kubectl("get", "deployment", "-n", deployed.namespace, "-l", selector, "-o", "name")
        assert names.split()
        for name in names.split():
            sandbox.kubectl("rollout", "status", name, "-n", deployed.namespace, "--timeout=50s")
    with reached(check, sandbox.kubectl, forward) as url:
        about = wait_for_backend_data(check, url)
    pods = sandbox.kubectl("get", "pods", "-n", deployed.namespace, "-o", "name").split()
    assert f"pod/{about['pod']}" in pods
