"""Images into a real containerd that runs in a node container, as kind's and Minikube's do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.archive.docker_archive import chain_ids
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes import containerd
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore, _imported
from devloop.adapters.nodes.host import HostShell
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.adapters.nodes.shells import shell as nodeshell
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.nodes.shells.shell import Body, NodeShell
from devloop.errors import LoadError, PlatformError
from devloop.image_refs import full
from devloop.model import Archive, Image, NodeFacts
from tests.adapters.conftest import Bench, fingerprint
from tests.support.node_container import Node

pytestmark = pytest.mark.engine


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


async def built(bench: Bench, tiny: str, more: str = "") -> Image:
    service = bench.service(f"FROM {tiny}\n{more}COPY file /file\n")
    return await bench.builder().build(service, fingerprint())


def member(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    assert found is not None, name
    return found.read()


async def delta_of(engine: Engine, parent: Image, name: str, content: bytes) -> Image:
    """The parent and one layer with one file, as bytes that no engine has."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    async with engine.save(parent.ref) as pieces:
        saved = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        manifest = json.loads(member(tar, "manifest.json"))[0]
        config = json.loads(member(tar, manifest["Config"]))
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config["rootfs"]["diff_ids"].append(diff_id)
    config["history"].append({"created_by": "delta"})
    text = json.dumps(config).encode()
    mark = fingerprint()
    return Image(
        parent.service,
        mark,
        f"{parent.ref.partition(':')[0]}:dl-{mark.digest}",
        f"sha256:{hashlib.sha256(text).hexdigest()}",
        "delta",
        parent.size,
        Archive(text, layer.getvalue(), tuple(config["rootfs"]["diff_ids"])),
    )


def loader(bench: Bench, route: ContainerdRoute) -> ClusterLoader:
    async def nodes() -> tuple[NodeFacts, ...]:
        return (NodeFacts(route.stores[0].node, "amd64", "containerd://1.6.20"),)

    async def choose(facts: tuple[NodeFacts, ...]) -> ContainerdRoute:
        return route

    return ClusterLoader(bench.engine, bench.digests, nodes, choose, bench.events.append)


async def test_s2_full_image_is_streamed_and_verified_by_config_digest(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    image = await built(bench, tiny)
    loaded = await loader(bench, route).load(image)
    assert loaded.how == "containerd"
    assert loaded.sent > 1_000_000
    assert await route.stores[0].digest(image.ref) == image.id
    assert {"bin/busybox", "file"} <= container.files(image.ref)


async def test_second_image_on_a_base_sends_its_own_layers_only(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    await loader(bench, route).load(await built(bench, tiny))
    second = await built(bench, tiny, "RUN echo '<&>' > /more\n")
    loaded = await loader(bench, route).load(second)
    assert loaded.sent < 100_000
    assert loaded.skipped > 1_000_000
    assert {"bin/busybox", "more", "file"} <= container.files(second.ref)


async def test_snapshots_count_as_present_though_their_blobs_are_gone(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """Minikube discards the blobs of what it unpacked."""
    first = await built(bench, tiny)
    await loader(bench, route).load(first)
    facts = await bench.engine.inspect(first.ref)
    assert facts is not None
    container.sh(f"ctr -n k8s.io content rm {' '.join(facts.diff_ids)} >/dev/null")
    second = await delta_of(bench.engine, first, "new", b"x")
    assert (await loader(bench, route).load(second)).sent < 20_000
    assert {"bin/busybox", "file", "new"} <= container.files(second.ref)


async def test_delta_is_loaded_without_any_other_engine(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    parent = await built(bench, tiny)
    await loader(bench, route).load(parent)
    image = await delta_of(bench.engine, parent, "file", b"changed")
    loaded = await loader(bench, route).load(image)
    assert loaded.sent < 20_000
    assert await bench.engine.inspect(image.ref) is None
    assert container.sh(f"ctr -n k8s.io images ls -q name==docker.io/library/{image.ref}").strip()
    assert "bin/busybox" in container.files(image.ref)


async def test_delta_whose_parent_the_node_lost_is_sent_whole(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """The node was pruned behind our back."""
    parent = await built(bench, tiny)
    await loader(bench, route).load(parent)
    container.clear()
    image = await delta_of(bench.engine, parent, "new", b"x")
    loaded = await loader(bench, route).load(image)
    assert loaded.sent > 1_000_000
    assert {"bin/busybox", "file", "new"} <= container.files(image.ref)


async def test_delta_whose_parent_is_nowhere_fails_and_leaves_no_tag(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    parent = await built(bench, tiny)
    image = await delta_of(bench.engine, parent, "new", b"x")
    assert image.archive is not None
    strange = ("sha256:" + "0" * 64, *image.archive.diff_ids[1:])
    config = json.loads(image.archive.config)
    config["rootfs"]["diff_ids"] = list(strange)
    text = json.dumps(config).encode()
    broken = replace(
        image,
        id=f"sha256:{hashlib.sha256(text).hexdigest()}",
        archive=Archive(text, image.archive.layer, strange),
    )
    with pytest.raises(LoadError) as caught:
        await loader(bench, route).load(broken)
    assert caught.value.reason == "ParentMissing"
    assert container.sh(f"ctr -n k8s.io images ls -q name=={full(image.ref)}").strip() == ""


async def test_s12_find_asks_the_node(bench: Bench, route: ContainerdRoute, tiny: str) -> None:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    image = await bench.builder().build(service, fingerprint())
    await loader(bench, route).load(image)
    await bench.engine.remove(image.ref)
    found = await loader(bench, route).find(service, image.fingerprint)
    assert found is not None
    assert found.id == image.id
    assert await route.stores[0].remove(image.ref)
    assert await loader(bench, route).find(service, image.fingerprint) is None


async def test_crictl_is_asked_where_the_node_has_it(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """A stand-in that answers as crictl does; Debian packages none."""
    stand_in = Path(__file__).parents[2] / "standins" / "crictl"
    subprocess.run(
        ["docker", "cp", str(stand_in), f"{container.name}:/usr/local/bin/crictl"],
        check=True,
        capture_output=True,
    )
    try:
        image = await built(bench, tiny)
        await loader(bench, route).load(image)
        assert await route.stores[0].digest(image.ref) == image.id
    finally:
        container.sh("rm /usr/local/bin/crictl")


async def test_s2_a_crictl_that_speaks_to_no_cri_is_as_good_as_none(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    container.sh(
        "printf '#!/bin/sh\\necho no runtime at /run/containerd/containerd.sock >&2; exit 1\\n' "
        ">/usr/local/bin/crictl; chmod +x /usr/local/bin/crictl"
    )
    try:
        parent = await built(bench, tiny)
        await loader(bench, route).load(parent)
        image = await delta_of(bench.engine, parent, "file", b"changed")
        await loader(bench, route).load(image)
        store = ContainerdStore(container.name, route.stores[0].shell)
        assert await store.digest(parent.ref) == parent.id
        assert await route.stores[0].digest(image.ref) == image.id
        assert await route.stores[0].remove(image.ref)
        assert await store.digest(image.ref) is None
    finally:
        container.sh("rm /usr/local/bin/crictl")


def test_s2_what_ctr_says_of_an_import() -> None:
    digest = f"sha256:{'7cfa' * 16}"
    output = f"unpacking docker.io/library/app:1 ({digest})...done\n"
    assert _imported(output, "docker.io/library/app:1") == [digest]
    assert _imported(output, "docker.io/library/app") == []
    assert _imported(output, "docker.io/library/app:2") == []
    assert _imported(output.replace("done", "failed"), "docker.io/library/app:1") == []
    shortened = f"docker.io/library/app 1\tsaved\t\napplication/vnd.oci.image.manifest.v1+json {digest}\n"
    assert _imported(shortened, "docker.io/library/app:1") == []  # of ctr 2.1


@pytest.mark.parametrize("words", ["its own", "others"])
async def test_s2_a_delta_is_asked_for_unless_its_import_reported_its_digest(
    bench: Bench,
    route: ContainerdRoute,
    container: Node,
    tiny: str,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    """Where no crictl can tell what kubelet sees, ctr's word is as good after the import as in it."""
    if words == "others":
        monkeypatch.setattr(containerd, "_imported", lambda output, name: [])
    parent = await built(bench, tiny)
    await loader(bench, route).load(parent)
    image = await delta_of(bench.engine, parent, "file", b"changed")
    asked: list[str] = []
    run = route.stores[0].shell.run

    async def noted(line: str, body: Body = None, *, ahead: bool = False) -> tuple[int, str]:
        if not ahead:
            asked.append(line)
        return await run(line, body, ahead=ahead)

    monkeypatch.setattr(route.stores[0].shell, "run", noted)
    assert image.archive is not None
    await route.stores[0].load(image.ref, oci.delta(image.archive, image.ref), oci.described(image.archive))
    clear = words == "its own" and " 1." in container.sh("ctr --version")
    assert len(asked) == (0 if clear else 1)
    assert await route.stores[0].digest(image.ref) == image.id
    assert await route.stores[0].digest(image.ref) == image.id  # the node's, not what was kept


def waiting(shell: NodeShell) -> list[int]:
    return sorted(len(spares) for spares in shell._spares.values())


async def until_waiting(shell: NodeShell, counts: list[int]) -> None:
    while waiting(shell) != counts:
        await anyio.sleep(0.01)


async def test_waiting_shells_are_used_and_replaced(
    bench: Bench, container: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodeshell, "REST_SECONDS", 0.0)
    shell = ContainerShell(bench.engine, container.name)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(shell.keep_warm)
            await until_waiting(shell, [2])
            assert await shell.run("cat; exit 3", b"input") == (3, "input")
            assert await shell.run("echo $((6 * 7))") == (0, "42\n")
            await until_waiting(shell, [2])
            group.cancel_scope.cancel()
    assert waiting(shell) == [0]


@pytest.mark.parametrize("kind", ["container", "machine"])
async def test_a_line_that_waits_for_its_input_is_started_ahead(
    bench: Bench, container: Node, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its process is older than its input. One that fails is not believed before a new one failed too."""
    monkeypatch.setattr(nodeshell, "REST_SECONDS", 0.0)
    shell: NodeShell = ContainerShell(bench.engine, container.name)
    if kind == "machine":
        shell = HostShell("this-machine", os.environ)
    line = "begun=$(date +%s%N); cat; echo $begun"
    failing = "read -r word; test -e /dev/$word"
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(shell.keep_warm)
            assert (await shell.run(line, b"a ", ahead=True))[1].startswith("a ")
            plain = [2] if kind == "container" else []
            await until_waiting(shell, [1, *plain])
            await anyio.sleep(0.5)  # an engine starts an exec some time after it says so
            sent = time.time_ns()
            code, output = await shell.run(line, b"b ", ahead=True)
            assert (code, output[:2]) == (0, "b ")
            assert int(output[2:]) < sent
            assert (await shell.run(failing, b"null\n", ahead=True))[0] == 0
            await until_waiting(shell, [1, 1, *plain])
            assert (await shell.run(failing, b"nothing\n", ahead=True))[0] == 1
            await until_waiting(shell, [1, 1, *plain])
            group.cancel_scope.cancel()
    assert not any(waiting(shell))


async def test_an_import_that_waits_outlives_its_containerd(
    bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S12: containerd starts again, and the delta lands by a new import, without the layers below it."""
    monkeypatch.setattr(nodeshell, "REST_SECONDS", 0.0)
    node = Node()
    node.start()
    shell = ContainerShell(bench.engine, node.name)
    store = ContainerdStore(node.name, shell)
    try:
        parent = await built(bench, tiny)
        image = await delta_of(bench.engine, parent, "changed", b"new")
        assert image.archive is not None
        made = loader(bench, ContainerdRoute(bench.engine, bench.digests, (store,)))
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(shell.keep_warm)
                await made.load(parent)
                await until_waiting(shell, [1, 2])
                await anyio.run_process(["docker", "restart", "-t", "1", node.name])
                node.wait()
                assert (await made.load(image)).sent < 100_000
                assert await store.digest(image.ref) == image.id
                await until_waiting(shell, [1, 2])
                group.cancel_scope.cancel()
            # A lease of the import that died with its containerd ends by itself, the others at once.
            while len(node.sh("ctr -n k8s.io leases ls -q").split()) > 1:
                await anyio.sleep(0.05)
    finally:
        await shell.aclose()
        node.stop()


async def test_s12_what_the_node_had_is_known_beforehand(
    bench: Bench, route: ContainerdRoute, container: Node, tiny: str
) -> None:
    """An absent image costs no question, one that was there is asked for, and so is what was brought."""
    here = await built(bench, tiny)
    await loader(bench, route).load(here)
    store = ContainerdStore(container.name, route.stores[0].shell)
    assert await store.look("devloop-dockertest-none:1") is None
    assert await store.look(here.ref) == here.id
    other = await built(bench, tiny, "ENV another=1\n")
    fresh = ContainerdRoute(bench.engine, bench.digests, (store,))
    assert await store.look(other.ref) is None
    await loader(bench, fresh).load(other)
    assert await store.look(other.ref) == other.id
    await route.stores[0].remove(other.ref)
    assert await store.look(other.ref) is None


async def test_a_node_that_restarted_is_asked_by_a_new_shell(bench: Bench) -> None:
    node = Node()
    node.start()
    try:
        shell = ContainerShell(bench.engine, node.name)
        await shell._fill()
        await anyio.run_process(["docker", "restart", "-t", "1", node.name])
        assert (await shell.run("echo back")) == (0, "back\n")
        await shell.aclose()
    finally:
        node.stop()
    with pytest.raises(PlatformError):
        await shell.run("true")


@pytest.mark.parametrize("product", ["kind", "k3d", "minikube"])
async def test_s11_containerd_in_a_node_container_is_chosen(
    bench: Bench, container: Node, product: str
) -> None:
    choice = RouteChoice(bench.engine, bench.digests, product, product, "p", os.environ)
    route = await choice((NodeFacts(container.name, "amd64", "containerd://1.6.20"),))
    assert route.how == "containerd"
    await choice.aclose()


async def test_s11_a_containerd_that_cannot_be_reached_is_refused_by_name(bench: Bench) -> None:
    choice = RouteChoice(bench.engine, bench.digests, "far", "microk8s", "", os.environ)
    with pytest.raises(LoadError) as caught:
        await choice((NodeFacts("far-node", "amd64", "containerd://1.7.1"),))
    assert "far-node" in caught.value.message
    assert "containerd://1.7.1" in caught.value.message


@pytest.mark.parametrize("command", ["kind", "k3d"])
async def test_s2_the_products_own_command_is_verified_on_the_node(
    bench: Bench, container: Node, command: str, tiny: str, tmp_path: Path
) -> None:
    container.clear()
    standins = Path(__file__).parents[2] / "standins"
    environment = {
        **os.environ,
        "PATH": f"{standins}{os.pathsep}{os.environ['PATH']}",
        "STANDIN_NODES": container.name,
    }
    choice = RouteChoice(bench.engine, bench.digests, f"{command}-p", command, "p", environment, load=command)
    facts = (NodeFacts(container.name, "amd64", "containerd://1.6.20"),)

    async def nodes() -> tuple[NodeFacts, ...]:
        return facts

    image = await built(bench, tiny)
    wired = ClusterLoader(bench.engine, bench.digests, nodes, choice, bench.events.append)
    assert (await wired.load(image)).how == command
    edit = await delta_of(bench.engine, image, "new", b"x")  # on no engine: it is made whole for the command
    assert (await wired.load(edit)).image.id == edit.id
    assert {"file", "new"} <= container.files(edit.ref)
    container.clear()
    environment["STANDIN_SILENT"] = "1"
    with pytest.raises(LoadError) as caught:
        await wired.load(image)
    assert caught.value.reason == "NotOnNode"
    await choice.aclose()


async def test_the_node_knows_the_chains_it_unpacked(bench: Bench, route: ContainerdRoute, tiny: str) -> None:
    image = await built(bench, tiny)
    await loader(bench, route).load(image)
    facts = await bench.engine.inspect(image.ref)
    assert facts is not None
    assert frozenset(chain_ids(facts.diff_ids)) <= await route.stores[0].chains()
