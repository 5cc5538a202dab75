from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.charted_project import Charted
from tests.support.sample_project import Project, Sandbox, free_port

_numbers = itertools.count(1)
_PORTS = 400


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox cluster for all tests of this process, each of them in a namespace of its own."""
    cluster = Sandbox(f"e2e-{os.getpid()}-{next(_numbers)}", tmp_path_factory.mktemp("state"))
    cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture
def project(sandbox: Sandbox, tmp_path: Path) -> Iterator[Project]:
    """The sample in a namespace of its own."""
    made = new_project(sandbox, tmp_path / "todo")
    yield made
    made.remove()


def new_project(sandbox: Sandbox, root: Path) -> Project:
    namespace = f"todo-{os.getpid()}-{next(_numbers)}"
    sandbox.new_namespace(namespace)
    return Project(root, sandbox, namespace, node_port=_node_port()).make()


def new_namespace(sandbox: Sandbox) -> str:
    namespace = f"todo-{os.getpid()}-{next(_numbers)}"
    sandbox.new_namespace(namespace)
    return namespace


def new_charted(sandbox: Sandbox, root: Path) -> Charted:
    """The sample's backend as a Helm release, in a namespace of its own."""
    namespace = f"todo-{os.getpid()}-{next(_numbers)}"
    sandbox.new_namespace(namespace)
    return Charted(root, sandbox, namespace, node_port=_node_port()).make()


def _node_port() -> int:
    """A free port of this process' part of the NodePort range; another test may not listen on its own yet."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(_PORTS):
        port = 30100 + worker * _PORTS + next(_numbers) % _PORTS
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port in 30000-32767")


Maker = Callable[[], Project]
__all__ = ["Maker", "free_port"]
