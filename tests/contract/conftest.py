"""The contract suite's fixtures: a cluster (given or a sandbox of our own) and namespaces in it.

`DEVLOOP_TEST_KUBECONFIG` names a real cluster; else a sandbox is started for the run, as a process:
nothing here imports devloop.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.cluster import Cluster, Namespace, Object, Refused, eventually

RUN_LABEL = "contract-run"
REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test may wait for back-off on a real cluster: more than the 60 s of the other suites."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sandbox)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cluster's kubeconfig; the sandbox is shared by all xdist workers of the run."""
    if given := os.environ.get("DEVLOOP_TEST_KUBECONFIG"):
        yield Path(given).expanduser()
        return
    os.environ.setdefault("DEVLOOP_TEST_BACKOFF_SCALE", "0.1")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with _shared_sandbox(shared) as path:
        yield path


@contextmanager
def _shared_sandbox(folder: Path) -> Iterator[Path]:
    """The first worker starts it, the last one ends it; `users` lists who holds it."""
    name = f"contract-{os.environ.get('PYTEST_XDIST_TESTRUNUID', uuid.uuid4().hex)[:8]}"
    lock, users = folder / "sandbox.lock", folder / "sandbox.json"

    def change(how: Callable[[Object], None]) -> Object:
        with lock.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            state = json.loads(users.read_text()) if users.exists() else {"users": []}
            how(state)
            users.write_text(json.dumps(state))
            return dict(state)

    def enter(state: Object) -> None:
        if not state["users"]:
            scale = os.environ["DEVLOOP_TEST_BACKOFF_SCALE"]
            more = shlex.split(os.environ.get("DEVLOOP_TEST_SANDBOX_ARGS", ""))
            printed = _sandbox(folder, "up", "--name", name, "--backoff-scale", scale, *more)
            state["kubeconfig"] = re.findall(r"^kubeconfig: +(.+)$", printed, re.M)[0]
        state["users"].append(os.getpid())

    def leave(state: Object) -> None:
        state["users"].remove(os.getpid())
        if not state["users"]:
            _sandbox(folder, "down", "--name", name)

    state = change(enter)
    try:
        yield Path(state["kubeconfig"])
    finally:
        change(leave)


def _sandbox(state: Path, *arguments: str) -> str:
    """Run the sandbox's command with its state in the run's folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "devloop_sandbox.cli", *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(state / "state")},
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"sandbox {arguments}: {done.returncode}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    cluster = Cluster(kubeconfig)
    eventually(lambda: cluster.call("GET", "/readyz", accept="*/*").text == "ok", "not ready")
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def namespaces(cluster: Cluster) -> Iterator[Callable[[], Namespace]]:
    """Make a namespace; all of this session are gone when it ends."""
    run = uuid.uuid4().hex[:12]
    waits_for_account = any(
        r["name"] == "serviceaccounts" for r in cluster.call("GET", "/api/v1").json()["resources"]
    )

    def make() -> Namespace:
        made = cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"generateName": "contract-", "labels": {RUN_LABEL: run}},
            }
        )
        ns = Namespace(cluster, made["metadata"]["name"])
        if waits_for_account:  # pods are refused until a controller has made it
            path = f"/api/v1/namespaces/{ns.name}/serviceaccounts"
            eventually(
                lambda: [
                    a for a in cluster.call("GET", path).json()["items"] if a["metadata"]["name"] == "default"
                ],
                f"no default service account in {ns.name}",
            )
        return ns

    yield make
    mine = {"labelSelector": f"{RUN_LABEL}={run}"}
    for left in cluster.call("GET", "/api/v1/namespaces", **mine).json()["items"]:
        leave(Namespace(cluster, left["metadata"]["name"]))
    eventually(
        lambda: not cluster.call("GET", "/api/v1/namespaces", **mine).json()["items"],
        "namespaces of this run are left",
        240,
    )


def leave(ns: Namespace) -> None:
    """Delete the namespace and whatever a failed test holds in it by a finalizer."""
    for left in ns.items("ConfigMap"):
        if left["metadata"].get("finalizers"):
            name = left["metadata"]["name"]
            ns.merge("ConfigMap", name, {"metadata": {"finalizers": None}})
    try:
        ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")
    except Refused as error:
        if error.code not in (404, 409):  # gone, or on its way
            raise


@pytest.fixture
def ns(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A namespace for one test."""
    made = namespaces()
    yield made
    leave(made)


@pytest.fixture(scope="module")
def shared_ns(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A namespace for the tests of one module, which must not step on each other's names."""
    made = namespaces()
    yield made
    leave(made)
