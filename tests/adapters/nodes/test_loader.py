"""Images into nodes, on two real engines: the machine's own builds, the second stands for the node's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.facts import platform_of
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.minikube import Minikube
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.adapters.nodes.routes import EngineRoute
from devloop.errors import FingerprintError, LoadError, PlatformError
from devloop.events import Event, Progress
from devloop.model import Image, NodeFacts, Service
from tests.adapters.conftest import Bench, fingerprint
from tests.adapters.nodes.test_containerd import delta_of
from tests.support.dockerd import Dockerd

pytestmark = pytest.mark.engine
STANDINS = Path(__file__).parents[2] / "standins"


@dataclass
class Cluster:
    """A stand-in Minikube whose state a test may change, and a loader for it."""

    bench: Bench
    state: dict[str, Any]
    file: Path
    runtime: str = "docker://20.10.24"
    events: list[Event] = field(default_factory=list)
    choices: list[RouteChoice] = field(default_factory=list)

    def write(self) -> None:
        self.file.write_text(json.dumps(self.state))

    def calls(self, word: str) -> list[list[str]]:
        log = self.file.with_name(self.file.name + ".calls")
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if word in call]

    async def nodes(self) -> tuple[NodeFacts, ...]:
        return tuple(NodeFacts(node["name"], "amd64", self.runtime) for node in self.state["nodes"])

    def loader(self, load: str = "auto", **wiring: Any) -> ClusterLoader:
        self.write()
        bench = self.bench
        choice = RouteChoice(
            bench.engine,
            bench.digests,
            "minikube",
            "minikube",
            "minikube",
            self.environment,
            load=load,
            **wiring,
        )
        self.choices.append(choice)
        return ClusterLoader(bench.engine, bench.digests, self.nodes, choice, self.events.append)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{STANDINS}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "MINIKUBE_STANDIN": str(self.file)}


@pytest.fixture
async def minikube(bench: Bench, second: Dockerd, node: Engine, tmp_path: Path) -> AsyncIterator[Cluster]:
    state = {
        "profile": "minikube",
        "runtime": "docker",
        "nodes": [{"name": "minikube", "socket": str(second.socket)}],
        "docker_env": second.variables(),
    }
    cluster = Cluster(bench, state, tmp_path / "minikube.json")
    cluster.write()
    yield cluster
    for choice in cluster.choices:
        await choice.aclose()


async def built(bench: Bench, tiny: str, more: str = "") -> tuple[Service, Image]:
    service = bench.service(f"FROM {tiny}\n{more}COPY file /file\n")
    return service, await bench.builder().build(service, fingerprint())


# --- the shared engine --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["annotation", "config", "desktop"])
async def test_s11_the_builders_own_engine_is_shared(bench: Bench, tiny: str, how: str) -> None:
    _, image = await built(bench, tiny)
    address = (await bench.engine.endpoint()).host
    annotations = {"dev.devloop/engine": address} if how == "annotation" else {}

    async def nodes() -> tuple[NodeFacts, ...]:
        return (NodeFacts("sandbox", "amd64", "docker://20.10.24", annotations),)

    choice = RouteChoice(
        bench.engine,
        bench.digests,
        "here",
        "docker-desktop" if how == "desktop" else "sandbox",
        "",
        os.environ,
        engine=address if how == "config" else None,
    )
    loader = ClusterLoader(bench.engine, bench.digests, nodes, choice, bench.events.append)
    loaded = await loader.load(image)
    assert (loaded.how, loaded.nodes, loaded.sent) == ("shared", ("sandbox",), 0)
    await choice.aclose()


async def test_s13_an_image_that_vanished_from_a_shared_engine_is_an_error_and_not_found(
    minikube: Cluster, bench: Bench, tiny: str
) -> None:
    service, image = await built(bench, tiny)
    loader = minikube.loader("shared")
    assert await loader.find(service, image.fingerprint) is not None
    await bench.engine.remove(image.ref)
    assert await loader.find(service, image.fingerprint) is None
    with pytest.raises(LoadError) as caught:
        await loader.load(image)
    assert caught.value.reason == "ImageMissing"


# --- docker-env: engine to engine ---------------------------------------------------------------


async def test_s11_docker_env_loads_and_verifies(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    _, image = await built(bench, tiny)
    loader = minikube.loader()
    loaded = await loader.load(image)
    assert loaded.how == "docker-env"
    assert loaded.nodes == ("minikube",)
    facts = await node.inspect(image.ref)
    assert facts is not None
    assert facts.id == image.id
    assert loaded.sent > facts.size
    assert [event for event in minikube.events if isinstance(event, Progress)][-1].unit == "bytes"
    assert minikube.calls("docker-env")[0][-4:] == ["--shell", "none", "-o", "json"]


async def test_second_image_on_a_base_sends_its_own_layers_only(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    loader = minikube.loader()
    _, first = await built(bench, tiny, "RUN echo '<a>' > /same\n")
    await loader.load(first)
    _, second = await built(bench, tiny, "RUN echo '<a>' > /same\n")
    loaded = await loader.load(second)
    assert loaded.sent < 100_000
    assert loaded.skipped > 1_000_000
    files = subprocess.run(
        ["docker", "-H", (await node.endpoint()).host, "create", second.ref, "x"],
        check=True,
        capture_output=True,
        text=True,
    )
    there = subprocess.run(
        [
            "sh",
            "-c",
            'docker -H "$0" export "$1" | tar t',
            (await node.endpoint()).host,
            files.stdout.strip(),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert {"bin/busybox", "same", "file"} <= set(there.splitlines())
    subprocess.run(
        ["docker", "-H", (await node.endpoint()).host, "rm", files.stdout.strip()],
        check=True,
        capture_output=True,
    )


async def test_layers_that_vanished_from_the_node_are_sent_after_all(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the node's layers is stale by the time of the load: pruned behind our back."""
    loader = minikube.loader()
    _, first = await built(bench, tiny)
    await loader.load(first)
    route = await loader.route()
    assert isinstance(route, EngineRoute)
    stale = await route._chains(route.stores[0])
    await node.remove(first.ref)

    async def chains(self: EngineRoute, store: object) -> frozenset[str]:
        return stale

    monkeypatch.setattr(EngineRoute, "_chains", chains)
    _, second = await built(bench, tiny)
    loaded = await loader.load(second)
    facts = await node.inspect(second.ref)
    assert facts is not None
    assert facts.id == second.id
    assert loaded.sent > 1_000_000


async def test_s13_docker_env_is_read_anew_when_the_port_changes(
    minikube: Cluster, bench: Bench, second: Dockerd, tiny: str
) -> None:
    loader = minikube.loader()
    _, first = await built(bench, tiny)
    await loader.load(first)
    old = second.port
    await anyio.to_thread.run_sync(second.restart)
    assert second.port != old
    minikube.state["docker_env"] = second.variables()
    minikube.write()
    service, image = await built(bench, tiny)
    assert await loader.find(service, image.fingerprint) is not None
    assert (await loader.load(image)).how == "docker-env"


async def test_a_stopped_minikube_says_so(minikube: Cluster, bench: Bench, tiny: str) -> None:
    minikube.state["nodes"][0]["host"] = "Stopped"
    _, image = await built(bench, tiny)
    with pytest.raises(PlatformError) as caught:
        await minikube.loader().load(image)
    assert "not running" in caught.value.message
    assert "minikube -p minikube" in (caught.value.hint or "")


# --- minikube image load --------------------------------------------------------------------------


async def test_s2_image_load_is_verified_on_each_node(
    minikube: Cluster, bench: Bench, node: Engine, second: Dockerd, tiny: str
) -> None:
    minikube.state["nodes"].append({"name": "minikube-m02", "socket": str(second.socket)})
    _, image = await built(bench, tiny)
    loaded = await minikube.loader().load(image)
    assert loaded.how == "image-load"
    assert loaded.nodes == ("minikube", "minikube-m02")
    assert {call[call.index("-n") + 1] for call in minikube.calls("ssh")} == {"minikube", "minikube-m02"}
    edit = await delta_of(bench.engine, image, "new", b"x")  # on no engine: it is made whole for the command
    assert (await minikube.loader().load(edit)).image.id == edit.id


async def test_s2_image_load_that_fails_in_silence_is_an_error(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    minikube.state["silent"] = ["minikube"]
    _, image = await built(bench, tiny)
    with pytest.raises(LoadError) as caught:
        await minikube.loader("image-load").load(image)
    assert caught.value.reason == "NotOnNode"
    assert "minikube" in caught.value.message
    assert caught.value.evidence == ("minikube: no such image",)
    assert caught.value.hint


async def test_s2_a_node_that_kept_an_old_image_under_the_tag_is_an_error(
    minikube: Cluster, bench: Bench, node: Engine, second: Dockerd, tiny: str
) -> None:
    """minikube up to 1.38 does not overwrite a tag that a container uses, and exits 0."""
    _, old = await built(bench, tiny)
    _, image = await built(bench, tiny)
    save = subprocess.run(["docker", "save", old.ref], check=True, capture_output=True)
    subprocess.run(
        ["docker", "-H", f"unix://{second.socket}", "load"],
        input=save.stdout,
        check=True,
        capture_output=True,
    )
    await node.tag(old.ref, *image.ref.split(":"))
    minikube.state["silent"] = ["minikube"]
    with pytest.raises(LoadError) as caught:
        await minikube.loader("image-load").load(image)
    assert caught.value.evidence == (f"minikube: {old.id}",)


async def test_s11_two_nodes_take_image_load_because_docker_env_serves_one(
    minikube: Cluster, bench: Bench, node: Engine, second: Dockerd, tiny: str
) -> None:
    minikube.state["nodes"].append({"name": "minikube-m02", "socket": str(second.socket)})
    assert (await minikube.loader().route()).how == "image-load"
    with pytest.raises(PlatformError, match="one node only"):
        await minikube.loader("docker-env").route()


# --- finding --------------------------------------------------------------------------------------


async def test_s12_found_on_the_node_though_the_builder_lost_it(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    loader = minikube.loader()
    service, image = await built(bench, tiny)
    await loader.load(image)
    await bench.engine.remove(image.ref)
    found = await loader.find(service, image.fingerprint)
    assert found is not None
    assert (found.id, found.how, found.ref) == (image.id, "reused", image.ref)
    assert (await loader.load(found)).sent == 0


async def test_s12_found_on_the_builder_is_loaded_without_a_build(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    loader = minikube.loader()
    service, image = await built(bench, tiny)
    found = await loader.find(service, image.fingerprint)
    assert found is not None
    assert found.how == "reused"
    await loader.load(found)
    assert await node.inspect(image.ref) is not None


async def test_s12_another_tools_image_under_our_tag_is_not_ours(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str
) -> None:
    service, image = await built(bench, tiny)
    other = fingerprint()
    await bench.engine.tag(image.ref, *service.ref(other).split(":"))
    assert await minikube.loader().find(service, other) is None


# --- what is refused, and status -------------------------------------------------------------------


async def test_s11_an_unknown_cluster_is_refused_with_what_to_do(bench: Bench) -> None:
    choice = RouteChoice(bench.engine, bench.digests, "prod", "remote", "", os.environ)
    with pytest.raises(LoadError) as caught:
        await choice((NodeFacts("n1", "amd64", "cri-o://1.30"),))
    assert "cri-o://1.30" in caught.value.message
    assert "dev.devloop/engine" in (caught.value.hint or "")


def test_s6_nodes_of_several_platforms_are_refused_by_name() -> None:
    with pytest.raises(FingerprintError) as caught:
        platform_of((NodeFacts("a", "amd64"), NodeFacts("b", "arm64")))
    assert "a linux/amd64" in caught.value.message
    assert "b linux/arm64" in caught.value.message
    assert platform_of((NodeFacts("a", "amd64"), NodeFacts("b", "amd64"))) == "linux/amd64"


async def test_status_of_one_node_of_two_and_of_none(minikube: Cluster) -> None:
    command = Minikube("minikube", minikube.environment)
    assert [node.name for node in await command.status()] == ["minikube"]
    minikube.state["nodes"].append({"name": "minikube-m02", "socket": "", "host": "Stopped"})
    minikube.write()
    assert [node.worker for node in await command.status()] == [False, True]
    assert await command.stopped() == "node minikube-m02 is Stopped"
    minikube.state["status"] = "null"
    minikube.write()
    assert await command.status() == ()
    assert "shows no node" in await command.stopped()


async def test_another_profile_is_named(minikube: Cluster) -> None:
    with pytest.raises(PlatformError, match="no such profile"):
        await Minikube("other", minikube.environment).docker_env()


def test_the_standin_is_a_command() -> None:
    assert (STANDINS / "minikube").stat().st_mode & stat.S_IXUSR


# --- cancelling -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tiny: str) -> Iterator[str]:
    """An image with a layer of 1 GB."""
    ref = "devloop-dockertest-large:1"
    dockerfile = f"FROM {tiny}\nRUN dd if=/dev/zero of=/large bs=1048576 count=1024\n"
    subprocess.run(
        ["/usr/bin/docker", "build", "-q", "-t", ref, "-"],
        input=dockerfile.encode(),
        check=True,
        capture_output=True,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    yield ref
    subprocess.run(["docker", "image", "rm", ref], check=False, capture_output=True)


async def test_a_load_of_1_gb_is_cancelled_and_leaves_nothing(
    minikube: Cluster, bench: Bench, node: Engine, tiny: str, large: str
) -> None:
    facts = await bench.engine.inspect(large)
    assert facts is not None
    image = Image("large", fingerprint(), large, facts.id, "cli", facts.size)
    loader = minikube.loader()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(loader.load, image)
            while not any(isinstance(e, Progress) and e.done > 50_000_000 for e in minikube.events):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert await node.inspect(large) is None
        _, small = await built(bench, tiny)
        assert (await loader.load(small)).nodes == ("minikube",)
