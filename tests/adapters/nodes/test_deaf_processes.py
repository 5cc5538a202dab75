"""A container that SIGTERM does not reach is killed at once; one that handles it has its time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes import containerd
from devloop.adapters.nodes.host import HostShell
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.routes import Route, SharedRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.errors import PlatformError
from devloop.model import NodeFacts
from tests.adapters.conftest import Bench
from tests.support.dockerd import Dockerd
from tests.support.sample_project import BASE

pytestmark = pytest.mark.engine
LOOP = "while :; do sleep 0.1; done"
SCRIPTS = {
    "no handler": (LOOP, True),
    "ignored": (f"trap '' TERM; {LOOP}", True),
    "handled": (f"trap 'exit 0' TERM; {LOOP}", False),
}


def docker(*words: str) -> str:
    return subprocess.run(("docker", *words), capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[str]:
    """The id of a container that runs the parametrised script; it has installed its traps."""
    container = docker("run", "-d", BASE, "sh", "-c", f"trap : USR1; {request.param}")
    yield container
    docker("rm", "-f", container)


async def nodes() -> tuple[NodeFacts, ...]:
    return (NodeFacts("node", "amd64", "docker://20.10.24"),)


@pytest.mark.parametrize(("script", "killed"), SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_s35_a_containerd_kills_it_too(
    second: Dockerd, monkeypatch: pytest.MonkeyPatch, tiny: str, script: str, killed: bool
) -> None:
    """The containerd below the second engine, which keeps its containers in the namespace moby."""
    engine = ("docker", "-H", f"unix://{second.socket}")
    save = subprocess.Popen(("docker", "save", tiny), stdout=subprocess.PIPE)
    subprocess.run((*engine, "load", "-q"), stdin=save.stdout, check=True, capture_output=True)
    assert save.wait() == 0
    words = ("run", "-d", "--network", "none", tiny, "sh", "-c", f"trap : USR1; {script}")
    container = subprocess.run((*engine, *words), capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setattr(containerd, "CTR", "ctr -n moby")
    address = {"CONTAINERD_ADDRESS": str(second.exec_root / "containerd" / "containerd.sock")}
    shell = HostShell("node", {**os.environ, **address})
    asked = Engine.at(second.endpoint(), role="node's engine")
    try:
        while not (await asked.caught_signals(container) or 0) & 1 << 9:
            pass
        store = containerd.ContainerdStore("node", shell)
        assert not await store.end("docker", container, deaf=True)
        assert not await store.end("containerd", "0" * 64, deaf=True)
        assert await store.end("containerd", container, deaf=True) is killed
    finally:
        await shell.aclose()
        await asked.aclose()
        subprocess.run((*engine, "rm", "-f", container), check=True, capture_output=True)


def loader(bench: Bench) -> ClusterLoader:
    async def choose(_: tuple[NodeFacts, ...]) -> Route:
        return SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),))

    return ClusterLoader(bench.engine, bench.digests, nodes, choose, bench.events.append)


@pytest.mark.parametrize(("started", "killed"), SCRIPTS.values(), ids=SCRIPTS.keys(), indirect=["started"])
async def test_s35_only_a_process_without_a_handler_is_killed(
    bench: Bench, started: str, killed: bool
) -> None:
    while (
        not (await bench.engine.caught_signals(started) or 0) & 1 << 9
    ):  # SIGUSR1: the shell has come so far
        pass
    assert await loader(bench).end("node", f"docker://{started}", deaf=True) is killed
    assert (docker("inspect", "-f", "{{.State.Running}}", started) == "false") is killed
    if killed:
        assert not await loader(bench).end("node", f"docker://{started}", deaf=True), "it has ended"


@pytest.mark.parametrize("started", [LOOP], indirect=True)
async def test_s35_what_is_elsewhere_or_unknown_has_its_grace_period(bench: Bench, started: str) -> None:
    ours = loader(bench)
    assert not await ours.end("another", f"docker://{started}", deaf=True)
    assert not await ours.end("node", f"containerd://{started}", deaf=True)
    assert not await ours.end("node", "docker://" + "0" * 64, deaf=True)
    assert not await ours.end("node", "", deaf=True)
    assert docker("inspect", "-f", "{{.State.Running}}", started) == "true"


async def test_s35_a_node_that_does_not_answer_is_no_error(bench: Bench) -> None:
    async def choose(_: tuple[NodeFacts, ...]) -> Route:
        raise PlatformError("gone")

    ours = ClusterLoader(bench.engine, bench.digests, nodes, choose, bench.events.append)
    assert not await ours.end("node", "docker://a", deaf=True)
