"""The garbage collection on nodes without a Docker API, in a registry, and beside running trips (S25)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.adapters.nodes.claims import Claims
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore
from devloop.adapters.nodes.gc import LEFTOVER_SECONDS, Collector, FirstSeen, Keep
from devloop.adapters.nodes.images import is_tagged, project_in
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.registry import RegistryRoute, RegistryStore
from devloop.adapters.nodes.registry_api import Registry as Client
from devloop.adapters.nodes.routes import CommandRoute, Route, SharedRoute
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.nodes.stores import EngineStore, ShellStore
from devloop.events import TripEnded
from devloop.model import BuildSpec, Image, NodeFacts, Service, Timing, Unchanged
from devloop.sinks.live_images import History
from tests.adapters.conftest import Bench, fingerprint
from tests.adapters.nodes.test_containerd import delta_of, loader
from tests.adapters.nodes.test_registry import built as built_for_registry
from tests.adapters.nodes.test_registry import loader as registry_loader
from tests.support.node_container import Node
from tests.support.registry import Registry

pytestmark = pytest.mark.engine
NOW = 1_800_000_000.0
CRICTL = Path(__file__).parents[2] / "standins" / "crictl"


@pytest.fixture(scope="module")
def container() -> Iterator[Node]:
    node = Node()
    node.start()
    yield node
    node.stop()


@pytest.fixture
async def route(container: Node, bench: Bench) -> AsyncIterator[ContainerdRoute]:
    container.clear()
    shell = ContainerShell(bench.engine, container.name)
    yield ContainerdRoute(bench.engine, bench.digests, (ContainerdStore(container.name, shell),))
    await shell.aclose()


async def built(bench: Bench, tiny: str) -> Image:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    return await bench.builder().build(service, fingerprint())


def refs_on(container: Node) -> set[str]:
    listed = container.sh("ctr -n k8s.io images ls -q").split()
    return {ref.removeprefix("docker.io/library/") for ref in listed if not ref.startswith("sha256:")}


def lived(history: History, ref: str) -> None:
    history(TripEnded("web", 1, 0.0, Unchanged(fingerprint(), ref, Timing(0.0, 0.0, ()))))


async def deltas(bench: Bench, route: ContainerdRoute, parent: Image, count: int) -> list[Image]:
    """So many edits, as trips bring them: the builder's engine has none of them."""
    wired = loader(bench, route)
    await wired.load(parent)
    made = [await delta_of(bench.engine, parent, "file", b"%d" % number) for number in range(count)]
    for image in made:
        await wired.load(image)
    return made


async def test_s25_deltas_go_from_a_containerd_node(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str, tmp_path: Path
) -> None:
    parent = await built(bench, tiny)
    made = await deltas(bench, route, parent, 12)
    history = History(tmp_path / "lived.json")
    for image in (parent, *made):
        lived(history, image.ref)
    assert await bench.engine.inspect(made[-1].ref) is None

    def keep() -> Keep:
        return Keep(history.newest(5) | {parent.ref}, history.all())

    removed = await Collector(bench.engine, bench.project, keep).collect(route, NOW)
    assert sorted(removed) == sorted(f"{container.name}: {image.ref}" for image in made[:-5])
    assert refs_on(container) == {parent.ref, *(image.ref for image in made[-5:])}
    names = container.sh("ctr -n k8s.io images ls -q").split()
    assert not [image.id for image in made[:-5] if image.id in names]  # nor by the name that CRI gives it
    assert "bin/busybox" in container.files(made[-1].ref)


async def test_s25_what_never_was_live_goes_from_a_node_after_an_hour_across_restarts(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str, tmp_path: Path
) -> None:
    parent = await built(bench, tiny)
    (failed,) = await deltas(bench, route, parent, 1)
    keep = Keep(frozenset((parent.ref,)))

    async def collect(now: float) -> tuple[str, ...]:
        """By a devloop that has just started."""
        fresh = ContainerdStore(container.name, route.stores[0].shell)
        seen = FirstSeen(tmp_path / "seen.json")
        again = ContainerdRoute(bench.engine, bench.digests, (fresh,))
        return await Collector(bench.engine, bench.project, lambda: keep, seen=seen).collect(again, now)

    assert await collect(NOW) == ()
    assert await collect(NOW + LEFTOVER_SECONDS) == ()
    assert await collect(NOW + LEFTOVER_SECONDS + 60) == (f"{container.name}: {failed.ref}",)
    assert refs_on(container) == {parent.ref}
    assert (tmp_path / "seen.json").stat().st_mode & 0o777 == 0o600


async def test_s25_another_projects_and_foreign_images_stay_on_a_node(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    parent = await built(bench, tiny)
    await deltas(bench, route, parent, 2)
    container.sh(
        f"ctr -n k8s.io images tag docker.io/library/{parent.ref} docker.io/library/mine:latest >/dev/null"
    )
    before = refs_on(container)
    for project in ("other", f"{bench.project}x", ""):
        collector = Collector(bench.engine, project, lambda: Keep(frozenset()))
        assert await collector.collect(route, NOW) == ()
        assert await collector.collect(route, NOW + 2 * LEFTOVER_SECONDS) == ()
    assert refs_on(container) == before
    mine = Collector(bench.engine, bench.project, lambda: Keep(frozenset()))
    await mine.collect(route, NOW)
    await mine.collect(route, NOW + 2 * LEFTOVER_SECONDS)
    assert refs_on(container) == {"mine:latest"}  # no tag of devloop's making


async def test_s25_an_image_under_two_names_stays_for_the_one_that_is_kept(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """A runtime that is asked to remove one name removes the image."""
    parent = await built(bench, tiny)
    await deltas(bench, route, parent, 0)
    other = f"{parent.ref.rpartition(':')[0]}:dl-{'a' * 16}"
    container.sh(
        f"ctr -n k8s.io images tag docker.io/library/{parent.ref} docker.io/library/{other} >/dev/null"
    )
    keep = Keep(frozenset((parent.ref,)), lived=frozenset((other,)))
    assert await Collector(bench.engine, bench.project, lambda: keep).collect(route, NOW) == ()
    assert refs_on(container) == {parent.ref, other}


@pytest.mark.parametrize("runtime", ["docker", "crictl"])
async def test_s25_nodes_that_a_products_command_fills_are_collected(
    bench: Bench, container: Node, tiny: str, runtime: str, route: ContainerdRoute
) -> None:
    """Minikube's image load: the nodes are asked by command lines."""
    if runtime == "crictl":
        subprocess.run(
            ["docker", "cp", str(CRICTL), f"{container.name}:/usr/local/bin/crictl"],
            check=True,
            capture_output=True,
        )
    images = [await built(bench, tiny) for _ in range(3)]

    async def on_host(line: str) -> tuple[int, str]:
        done = await anyio.run_process(["sh", "-c", line], check=False, env=dict(os.environ))
        return done.returncode, done.stdout.decode()

    async def on_node(line: str) -> tuple[int, str]:
        return await route.stores[0].shell.run(line)

    async def no_command(image: Image) -> None:
        raise AssertionError

    store = ShellStore("node", on_host if runtime == "docker" else on_node, runtime == "docker")
    by_command: Route = CommandRoute("image-load", bench.engine, bench.digests, (store,), no_command, "")  # type: ignore[arg-type]
    wired = loader(bench, route)
    if runtime == "crictl":
        for image in images:
            await wired.load(image)
    foreign = Collector(bench.engine, "other", lambda: Keep(frozenset(), frozenset(i.ref for i in images)))
    assert await foreign.collect(by_command, NOW) == ()
    keep = Keep(frozenset((images[0].ref,)), lived=frozenset(image.ref for image in images))
    held = await store.own(bench.project, ())
    assert {one.ref.removeprefix("docker.io/library/") for one in held} == {image.ref for image in images}
    removed = await Collector(bench.engine, bench.project, lambda: keep).collect(by_command, NOW)
    assert any(ref.endswith(images[1].ref) for ref in removed)
    assert [await bench.engine.inspect(image.ref) is not None for image in images] == [True, False, False]
    if runtime == "crictl":
        assert refs_on(container) == {images[0].ref}
        container.sh("rm /usr/local/bin/crictl")


async def test_s25_a_registry_of_this_machine_is_collected(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    wired = await registry_loader(bench, registry, dict(os.environ))
    images = [await built_for_registry(bench, registry, tiny, f"RUN echo {n}\n") for n in range(3)]
    for image in images:
        await wired.load(image)
    keep = Keep(frozenset((images[0].ref,)), lived=frozenset(image.ref for image in images))
    route = await wired.route()
    repositories = [f"{registry.host}/team/app", f"{registry.host}/team/none"]
    for project, gone in (("other", 0), (bench.project, 2)):
        collector = Collector(bench.engine, project, lambda: keep, repositories=repositories)
        removed = [
            ref for ref in await collector.collect(route, NOW) if ref.startswith(registry.host + "/team:")
        ]
        assert len(removed) == gone
    left = [await route.stores[0].digest(image.ref) for image in images]
    assert left == [images[0].id, None, None]


async def test_s25_a_registry_elsewhere_is_left_alone(bench: Bench, registry: Registry, tiny: str) -> None:
    """Somebody else's cluster may run what was pushed from a config.yaml of the same path."""
    client = Client(registry.host, dict(os.environ))
    client.is_local = False
    store = RegistryStore(registry.host, client)
    wired = await registry_loader(bench, registry, dict(os.environ))
    image = await built_for_registry(bench, registry, tiny)
    await wired.load(image)
    assert await store.own(bench.project, [f"{registry.host}/team/app"]) == ()
    client.is_local = True
    assert [one.ref for one in await store.own(bench.project, [f"{registry.host}/team/app"])] == [image.ref]
    await client.aclose()
    assert RegistryRoute(bench.engine, bench.digests, store, "").how == "registry"


# --- beside trips -----------------------------------------------------------------------------------------


async def test_s25_an_image_that_a_trip_found_does_not_vanish_before_it_is_loaded(
    bench: Bench, tiny: str
) -> None:
    """An old image is reused: it was live long ago, and no Deployment names it yet."""
    made = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    service = Service(made.name, made.image, BuildSpec(made.build.context, made.build.dockerfile), ())
    image = await bench.builder().build(service, fingerprint())
    shared, claims = SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),)), Claims()

    async def nodes() -> tuple[NodeFacts, ...]:
        return (NodeFacts("node", "amd64", "docker://20.10"),)

    async def choose(facts: tuple[NodeFacts, ...]) -> Route:
        return shared

    wired = ClusterLoader(bench.engine, bench.digests, nodes, choose, bench.events.append, claims)
    collector = Collector(
        bench.engine, bench.project, lambda: Keep(frozenset(), frozenset((image.ref,))), claims=claims
    )
    assert await wired.find(service, image.fingerprint) is not None
    assert await collector.collect(shared, NOW) == ()
    assert (await wired.load(image)).nodes == ("node",)
    await wired.find(service, fingerprint())  # the next trip is about another image
    assert await collector.collect(shared, NOW) == (image.ref,)


async def test_s25_a_trip_waits_for_a_removal_in_progress() -> None:
    claims, order = Claims(), []
    begun, go_on = anyio.Event(), anyio.Event()

    async def remove() -> None:
        with claims.removing("a:1") as free:
            assert free
            begun.set()
            await go_on.wait()
            order.append("removed")

    async def find() -> None:
        await claims.claim("a", "a:1")
        order.append("found")

    async with anyio.create_task_group() as group:
        group.start_soon(remove)
        await begun.wait()
        group.start_soon(find)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        go_on.set()
    assert order == ["removed", "found"]
    with claims.removing("a:1") as free:
        assert not free


async def test_s25_a_nodes_trouble_is_its_own(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """One that is away, or whose runtime refuses, holds up no other."""
    parent = await built(bench, tiny)
    await deltas(bench, route, parent, 1)

    async def gone(line: str) -> tuple[int, str]:
        return 255, "connection refused"

    both = ContainerdRoute(
        bench.engine,
        bench.digests,
        (ShellStore("away", gone, docker=True), *route.stores),  # type: ignore[arg-type]
    )
    keep = Keep(frozenset(), lived=frozenset((parent.ref,)))
    removed = await Collector(bench.engine, bench.project, lambda: keep).collect(both, NOW)
    assert f"{container.name}: {parent.ref}" in removed


def test_s25_whose_an_image_is() -> None:
    labels = {"dev.devloop.project": "abc"}
    assert project_in({"config": {"Labels": labels}}) == "abc"
    assert project_in({"status": {"id": "x"}, "info": {"imageSpec": {"config": {"Labels": labels}}}}) == "abc"
    assert project_in({"config": {"Labels": None, "Env": ["dev.devloop.project=abc"]}}) == ""
    assert project_in([1, "x", None]) == ""
    assert is_tagged(f"127.0.0.1:5000/a:dl-{'0' * 16}")
    assert is_tagged(f"a:dl-{'0' * 16}-base")
    assert not is_tagged("a:dl-0")
    assert not is_tagged(f"a:dl-{'0' * 16}@sha256:x")
    assert replace(Keep(frozenset(("a:1",))), lived=frozenset()).wants("docker.io/library/a:1")
