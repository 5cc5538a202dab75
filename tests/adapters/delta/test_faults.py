"""What may go wrong while a delta goes to a node: each ends live or with a clear error, and never with
a tag on the wrong content (S3). Others are in test_deltas.py, test_containerd.py and test_loader.py: a node
that was pruned, a parent that is gone everywhere, layers that vanished."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import Endpoint
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore
from devloop.adapters.nodes.routes import EngineRoute
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.nodes.stores import EngineStore
from devloop.errors import LoadError, PlatformError
from tests.support.dockerd import Dockerd
from tests.support.file_to_node import DOCKERFILE, Pipeline, shown
from tests.support.node_container import Node

pytestmark = pytest.mark.engine
BIG = "RUN dd if=/dev/urandom of=/big bs=1048576 count=40\n"


def own_engine(pipeline: Pipeline, engine: Engine) -> EngineRoute:
    bench, store = pipeline.bench, EngineStore("node", engine, Digests(engine))
    return EngineRoute("docker-env", bench.engine, bench.digests, (store,))


async def held(engine: Engine, ref: str) -> str | None:
    facts = await engine.inspect(ref)
    return None if facts is None else facts.id


# --- a load that is cut ---------------------------------------------------------------------------


class Cut:
    """A unix socket before an engine's; while `after` is set, loads are cut after so many bytes."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.path = Path(tempfile.mkdtemp(prefix="dlt")) / "cut"
        self.after: int | None = None
        self.cuts = 0

    async def run(self) -> None:
        listener = await anyio.create_unix_listener(self.path)
        await listener.serve(self._serve)

    async def _serve(self, client: SocketStream) -> None:
        async with (
            client,
            await anyio.connect_unix(self._engine) as engine,
            anyio.create_task_group() as group,
        ):

            async def back() -> None:
                with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await client.send(await engine.receive())
                group.cancel_scope.cancel()

            group.start_soon(back)
            sent, loading = 0, False
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    piece = await client.receive()
                    loading = loading or b"/images/load" in piece
                    sent += len(piece)
                    if loading and self.after is not None and sent > self.after:
                        self.cuts += 1
                        break
                    await engine.send(piece)
            group.cancel_scope.cancel()


@pytest.fixture
async def cut(second: Dockerd, node: Engine) -> AsyncIterator[Cut]:
    made = Cut(str(second.socket))
    async with anyio.create_task_group() as group:
        group.start_soon(made.run)
        while not made.path.exists():
            await anyio.sleep(0.01)
        yield made
        group.cancel_scope.cancel()
    shutil.rmtree(made.path.parent)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "delta"])
async def test_a_load_that_is_cut_leaves_no_tag_and_the_next_one_lives(
    pipeline: Pipeline, node: Engine, cut: Cut, whole: bool
) -> None:
    through = Engine.at(Endpoint(f"unix://{cut.path}", origin="the test"))
    pipeline.route = own_engine(pipeline, through)
    if not whole:
        await pipeline.trip()
        pipeline.write("src/main.py", "two")
    cut.after = 100_000 if whole else 2_000
    taken = await pipeline.fingerprint("src/main.py")
    with pytest.raises((PlatformError, LoadError)) as caught:
        await pipeline.trip("src/main.py")
    assert cut.cuts
    assert str(cut.path) in caught.value.message or "node" in caught.value.message
    assert await held(node, pipeline.service.ref(taken)) is None
    cut.after = None
    loaded = await pipeline.trip("src/main.py")
    assert await held(node, loaded.image.ref) == loaded.image.id
    await through.aclose()


async def test_an_import_that_is_cut_leaves_no_tag_and_the_next_one_lives(pipeline: Pipeline) -> None:
    """The builder's archive ends in the middle: containerd gets half of an image."""
    container = Node()
    container.start()
    shell = ContainerShell(pipeline.bench.engine, container.name)
    try:
        store = ContainerdStore("node", shell)
        pipeline.route = ContainerdRoute(pipeline.bench.engine, pipeline.bench.digests, (store,))
        loaded = await pipeline.trip()
        pipeline.write("src/main.py", "two")
        taken = await pipeline.fingerprint("src/main.py")
        image = await pipeline.builder.build(pipeline.service, taken)
        assert image.archive is not None
        layout = bytes(oci.delta(image.archive, image.ref))

        async def body() -> AsyncIterator[bytes]:
            yield layout[: len(layout) // 2]

        with pytest.raises(LoadError) as caught:
            await store.load(image.ref, body())
        assert caught.value.reason == "ImportFailed"
        assert await store.digest(image.ref) is None
        assert await store.digest(loaded.image.ref) == loaded.image.id
        assert (await pipeline.load(image)).image.id == image.id
        assert await store.digest(image.ref) == image.id
    finally:
        await shell.aclose()
        container.stop()


# --- engines that come and go -----------------------------------------------------------------------


async def test_s13_an_engine_that_restarts_between_build_and_load(
    pipeline: Pipeline, second: Dockerd, node: Engine
) -> None:
    pipeline.route = own_engine(pipeline, node)
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    taken = await pipeline.fingerprint("src/main.py")
    assert await pipeline.loader.find(pipeline.service, taken) is None
    image = await pipeline.builder.build(pipeline.service, taken)
    assert image.how == "delta"
    await anyio.to_thread.run_sync(second.restart)
    loaded = await pipeline.load(image)
    assert await held(node, loaded.image.ref) == loaded.image.id


async def test_s12_a_node_that_is_pruned_between_look_and_load(pipeline: Pipeline, node: Engine) -> None:
    """`find` has seen the parent's layers; then all is gone. What was seen is not believed."""
    pipeline.route = own_engine(pipeline, node)
    first = await pipeline.trip()
    pipeline.write("src/main.py", "two")
    taken = await pipeline.fingerprint("src/main.py")
    assert await pipeline.loader.find(pipeline.service, taken) is None
    image = await pipeline.builder.build(pipeline.service, taken)
    await node.remove(first.image.ref)
    loaded = await pipeline.load(image)
    assert await held(node, loaded.image.ref) == loaded.image.id
    assert loaded.sent > 1_000_000


async def test_two_services_on_one_base_do_not_touch_each_other(
    pipeline: Pipeline, node: Engine, tiny: str
) -> None:
    """They share layers, not parents; one's images go, the other's deltas still load."""
    pipeline.route = own_engine(pipeline, node)
    bench = pipeline.bench
    other = Pipeline(
        bench, bench.service(DOCKERFILE.format(tiny=tiny)), pipeline.state.parent / "other", pipeline.route
    )
    other.state.mkdir()
    other.write("src/main.py", "another")
    other.start()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(pipeline.trip)
            group.start_soon(other.trip)
        pipeline.write("src/main.py", "two")
        other.write("src/main.py", "another two")
        one, two = await pipeline.trip("src/main.py"), await other.trip("src/main.py")
        assert (one.image.how, two.image.how) == ("delta", "delta")
        for listed in await node.images():
            for ref in listed.refs:
                if ref.startswith(f"{pipeline.service.image}:"):
                    await node.remove(ref)
        other.write("src/main.py", "another three")
        three = await other.trip("src/main.py")
        assert three.image.how == "delta"
        assert await held(node, three.image.ref) == three.image.id
        pipeline.write("src/main.py", "three")
        four = await pipeline.trip("src/main.py")
        assert await held(node, four.image.ref) == four.image.id
    finally:
        await other.fingerprinter.close()


# --- a full disk ------------------------------------------------------------------------------------


@pytest.fixture
def small() -> Iterator[Dockerd]:
    """An engine whose disk holds 24 MB."""
    folder = Path(tempfile.mkdtemp(prefix="dlt"))
    (folder / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder / "data")], check=True)
    try:
        with Dockerd(folder, "10.213.79.1/24") as dockerd:
            yield dockerd
    finally:
        subprocess.run(["umount", "-l", str(folder / "data")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_full_disk_is_named_and_the_old_image_stays(pipeline: Pipeline, small: Dockerd) -> None:
    engine = Engine.at(small.endpoint(), role="node's engine")
    try:
        pipeline.route = own_engine(pipeline, engine)
        first = await pipeline.trip()
        dockerfile = (pipeline.service.build.context / "Dockerfile").read_text()
        pipeline.write("Dockerfile", dockerfile + BIG)
        taken = await pipeline.fingerprint("Dockerfile")
        with pytest.raises(LoadError) as caught:
            await pipeline.trip("Dockerfile")
        assert caught.value.reason == "DiskFull"
        assert "space" in (caught.value.hint or "")
        assert await held(engine, pipeline.service.ref(taken)) is None
        assert await held(engine, first.image.ref) == first.image.id
        pipeline.write("Dockerfile", dockerfile)
        assert (await pipeline.trip("Dockerfile")).image.id == first.image.id
    finally:
        await engine.aclose()


async def test_a_full_disk_of_a_containerd_node_is_named(pipeline: Pipeline) -> None:
    container = Node(disk="24m")
    container.start()
    shell = ContainerShell(pipeline.bench.engine, container.name)
    try:
        store = ContainerdStore("node", shell)
        pipeline.route = ContainerdRoute(pipeline.bench.engine, pipeline.bench.digests, (store,))
        first = await pipeline.trip()
        dockerfile = (pipeline.service.build.context / "Dockerfile").read_text()
        pipeline.write("Dockerfile", dockerfile + BIG)
        taken = await pipeline.fingerprint("Dockerfile")
        with pytest.raises(LoadError) as caught:
            await pipeline.trip("Dockerfile")
        assert caught.value.reason == "DiskFull"
        assert await store.digest(pipeline.service.ref(taken)) is None
        assert await store.digest(first.image.ref) == first.image.id
    finally:
        await shell.aclose()
        container.stop()


async def test_a_delta_that_does_not_fit_is_an_error_and_no_full_build(
    pipeline: Pipeline, small: Dockerd
) -> None:
    engine = Engine.at(small.endpoint(), role="node's engine")
    try:
        pipeline.route = own_engine(pipeline, engine)
        first = await pipeline.trip()
        with (pipeline.service.build.context / "src/large").open("wb") as large:
            for _ in range(30):
                large.write(os.urandom(1 << 20))
        with pytest.raises(LoadError) as caught:
            await pipeline.trip("src/large")
        assert caught.value.reason == "DiskFull"
        assert await held(engine, first.image.ref) == first.image.id
        (pipeline.service.build.context / "src/large").unlink()
        pipeline.write("src/main.py", "small again")
        loaded = await pipeline.trip("src/large", "src/main.py")
        assert loaded.image.how == "delta"
        assert await held(engine, loaded.image.ref) == loaded.image.id
    finally:
        await engine.aclose()


async def test_s3_a_fault_never_leaves_a_tag_on_other_content(pipeline: Pipeline) -> None:
    """The parent's record on disk is damaged: no delta is made from it."""
    await pipeline.trip()
    for file in (pipeline.state / "parents").glob("of-*/*.json"):
        file.write_bytes(file.read_bytes()[:-40])
    pipeline.start()
    await pipeline.trip()
    pipeline.write("src/main.py", "two")
    loaded = await pipeline.trip("src/main.py")
    assert await shown(pipeline.bench, loaded.image, "cat /app/src/main.py") == "two"
