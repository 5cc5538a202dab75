"""What an edit costs where another stage builds what the image takes: from the save to the verified image.

    python bench/stages.py [--edits 8] [--shared] [TOPOLOGY...]

The frontends of the sample and of the topologies that are built in a stage, each with a containerd of its own
in a container as node, as kind and Minikube have it; with --shared the node is the builder's engine. In each
round, one after the other, each with an edit of its own of one source file:

    devloop    fingerprint, build and load, as under `devloop watch`
    in full    the same by a full build, of which the layers are sent that the node lacks
    by hand    docker build, and docker save IMAGE | ctr images import - (with --shared: docker build alone)

Prints the medians in seconds, how devloop built, and the bytes that it sent beside those of the full build.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore
from devloop.adapters.nodes.routes import Route, SharedRoute
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.adapters.nodes.stores import EngineStore
from devloop.model import BuildSpec, LoadedImage, Service
from tests.adapters.conftest import Bench
from tests.support.file_to_node import Pipeline
from tests.support.node_container import CTR, Node
from tests.topologies.deployments import ALL, Topology, base
from tests.topologies.test_rolling import EDITS

REST = 1.0  # seconds between two edits


def service_of(topology: Topology, folder: Path) -> tuple[Service, Path]:
    """The frontend in a copy of its folder, and the source file to edit."""
    spec = topology.services["frontend"]["build"]
    context, dockerfile = folder / spec["context"], topology.dockerfile("frontend", folder)
    skip = shutil.ignore_patterns("node_modules", ".next")
    shutil.copytree(topology.folder / spec["context"], context, ignore=skip)
    dockerfile.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(topology.dockerfile("frontend"), dockerfile)
    args = {
        **spec.get("args", {}),
        **{key: base(option) for key, option in topology.bases["frontend"].items()},
    }
    build = BuildSpec(context, dockerfile, args=args)
    edited = next(context.rglob(Path(EDITS[topology.name].frontend).name))
    return Service("frontend", f"bench-stages-{os.getpid()}-{topology.name}", build, ()), edited


@asynccontextmanager
async def node_of(bench: Bench, *, shared: bool) -> AsyncIterator[tuple[Route, str]]:
    """The route to a node, and what loads an image into it by hand ("{ref}")."""
    if shared:
        yield SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),)), ""
        return
    node = Node()
    node.start()
    try:
        there = ContainerShell(bench.engine, node.name)
        async with anyio.create_task_group() as group:
            group.start_soon(there.keep_warm)
            yield (
                ContainerdRoute(bench.engine, bench.digests, (ContainerdStore(node.name, there),)),
                f"docker save {{ref}} | docker exec -i {node.name} {' '.join(CTR)} images import -",
            )
            group.cancel_scope.cancel()
    finally:
        node.stop()


def edit(file: Path) -> None:
    text = file.read_text().split("\n// edited")[0]
    file.write_text(f"{text}\n// edited {time.time_ns()}\n")


async def by_devloop(made: Pipeline, path: str) -> LoadedImage:
    taken = await made.fingerprint(path)
    found = await made.loader.find(made.service, taken)
    return await made.load(found or await made.builder.build(made.service, taken))


async def in_full(made: Pipeline, path: str) -> LoadedImage:
    taken = await made.fingerprint(path)
    return await made.loader._inner.load(await made.builder._full.build(made.service, taken))


def by_hand(service: Service, load: str, number: int) -> None:
    ref = f"{service.image}:by-hand-{number}"
    args = [word for key, value in service.build.args.items() for word in ("--build-arg", f"{key}={value}")]
    command = ["docker", "build", "-q", "-t", ref, *args, "-f", str(service.build.dockerfile)]
    command.append(str(service.build.context))
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    if load:
        subprocess.run(load.format(ref=ref), shell=True, check=True, capture_output=True)


async def measure(bench: Bench, topology: Topology, edits: int, *, shared: bool) -> None:
    service, file = service_of(topology, bench.folder / topology.name)
    bench.made.add(service.image)
    seconds: dict[str, list[float]] = {"devloop": [], "in full": [], "by hand": []}
    sent: list[int] = []
    whole: list[int] = []
    how = Counter[str]()
    async with node_of(bench, shared=shared) as (route, load):
        made = Pipeline(bench, service, bench.folder / f"state-{topology.name}", route)
        made.state.mkdir()
        made.start()
        await made.trip()
        path = str(file.relative_to(service.build.context))
        by_hand(service, load, 0)
        for number in range(1, edits + 1):
            edit(file)
            begun = time.perf_counter()
            loaded = await by_devloop(made, path)
            seconds["devloop"].append(time.perf_counter() - begun)
            how[loaded.image.how] += 1
            sent.append(loaded.sent)
            while made.builder.keeper._to_learn:
                await made.builder.keeper.learn(await made.builder.keeper.to_learn(), made.loader._inner.load)
            await anyio.sleep(REST)
            edit(file)
            begun = time.perf_counter()
            whole.append((await in_full(made, path)).sent)
            seconds["in full"].append(time.perf_counter() - begun)
            await anyio.sleep(REST)
            edit(file)
            begun = time.perf_counter()
            by_hand(service, load, number)
            seconds["by hand"].append(time.perf_counter() - begun)
            await anyio.sleep(REST)
        await made.fingerprinter.close()
    devloop, full, hand = (statistics.median(seconds[name]) for name in ("devloop", "in full", "by hand"))
    print(
        f"{topology.name:24}{devloop:9.2f}{full:9.2f}{hand:9.2f}{devloop / full:9.2f}  {dict(how)}, "
        f"sent {statistics.median(sent):,.0f} bytes, in full {statistics.median(whole):,.0f}",
        flush=True,
    )


async def run(names: list[str], edits: int, *, shared: bool) -> None:
    engine = Engine.at(current(os.environ), role="builder's engine")
    print(f"{'':24}{'devloop':>9}{'in full':>9}{'by hand':>9}{'/ full':>9}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(engine, Digests(engine), Path(folder))
            try:
                for topology in ALL:
                    if topology.name in names:
                        await measure(bench, topology, edits, shared=shared)
            finally:
                for image in await engine.images():
                    for ref in image.refs:
                        if ref.rpartition(":")[0] in bench.made:
                            await engine.remove(ref)
    finally:
        await engine.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_stages = [one.name for one in ALL if "BUILD_BASE" in one.bases["frontend"]]
    parser.add_argument("topologies", nargs="*", choices=[*of_stages, []], help=", ".join(of_stages))
    parser.add_argument("--edits", type=int, default=8)
    parser.add_argument("--shared", action="store_true", help="the node is the builder's engine")
    given = parser.parse_args()
    anyio.run(lambda: run(given.topologies or of_stages, given.edits, shared=given.shared))
