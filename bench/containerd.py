"""What images cost on their way into a node's containerd: whole, on a base that is there, and as a delta.

    python bench/containerd.py [--rounds 3] [--edits 20] [--base IMAGE]   (--rounds 0: edits alone)
                               [--in-memory]   the node's images lie in memory: without this machine's disk

Starts a containerd of its own in a container, as kind and Minikube have it. In each round, one after the
other on an empty node, so that noise hits all alike:

    save       docker save IMAGE >/dev/null: what the builder's engine alone needs; the ratios are to this
    import     ctr images import of a ready archive that lies on the node: what containerd alone needs, to
               write the blobs and to unpack them. Nothing that goes through containerd's import is below it
    pipe       docker save IMAGE | ctr images import -: the same by hand
    devloop    the full image as devloop sends it, verified
    second     another image on the same base, built in full, as devloop sends it
    on-base    the same without a build, as a delta on its base: what a Dockerfile without RUN gets

and after the rounds the edits: one file of the context; its fingerprint is not counted.

    delta      building the delta / loading and verifying it / both
    by hand    docker exec -i NODE ctr images import - of a delta as small, after each edit: neither built nor
               verified
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.containerd import ContainerdRoute, ContainerdStore
from devloop.adapters.nodes.shells.container_shell import ContainerShell
from devloop.model import Archive, LoadedImage
from tests.adapters.conftest import Bench
from tests.support.file_to_node import Pipeline
from tests.support.node_container import CTR, Node
from tests.support.sample_project import BASE

DOCKERFILE = 'FROM {base}\nWORKDIR /app\nCOPY src src\nCMD ["sh"]\n'
READY = "/var/lib/containerd/ready.tar"
MILLISECONDS = 1000


@dataclass
class Seen:
    """Seconds by what was measured, and what devloop says that it sent."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    second: list[LoadedImage] = field(default_factory=list)
    on_base: list[LoadedImage] = field(default_factory=list)

    def time(self, name: str, what: Callable[[], object]) -> None:
        begun = time.perf_counter()
        what()
        self.add(name, time.perf_counter() - begun)

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


def shell(line: str) -> None:
    subprocess.run(line, shell=True, check=True, capture_output=True)


def empty(node: Node) -> None:
    """No image, blob or snapshot is left on the node, and no collection is still under way."""
    node.clear()
    node.sh(f"{' '.join(CTR)} content ls -q | xargs -r {' '.join(CTR)} content rm >/dev/null 2>&1; sync")
    end = time.monotonic() + 60
    while len(node.sh(f"{' '.join(CTR)} snapshots ls").splitlines()) > 1:
        if time.monotonic() > end:
            raise TimeoutError("the node still has snapshots after 60 s")
        time.sleep(0.05)  # containerd goes on removing after it has answered


async def pipeline(bench: Bench, route: ContainerdRoute, base: str, name: str) -> Pipeline:
    """A service of 20 files on the base, and everything from its tree to the node."""
    service = bench.service(DOCKERFILE.format(base=base))
    made = Pipeline(bench, service, bench.folder / f"state-{name}", route)
    made.state.mkdir()
    for number in range(20):
        made.write(f"src/m{number}.py", f"print({name!r}, {number}, {time.time()})\n")
    made.start()
    return made


async def full(bench: Bench, node: Node, route: ContainerdRoute, base: str, rounds: int) -> tuple[Seen, int]:
    """What whole images cost, and the size of the image in bytes."""
    seen = Seen()
    ctr = f"docker exec -i {node.name} {' '.join(CTR)}"
    first = await pipeline(bench, route, base, "first")
    taken = await first.fingerprint()
    image = await first.builder._full.build(first.service, taken)
    shell(f"docker save {image.ref} | docker exec -i {node.name} sh -c 'cat >{READY}'")
    for number in range(rounds):
        seen.time("save", lambda: shell(f"docker save {image.ref} >/dev/null"))
        empty(node)
        seen.time("import", lambda: shell(f"{ctr} images import {READY}"))
        empty(node)
        seen.time("pipe", lambda: shell(f"docker save {image.ref} | {ctr} images import -"))
        empty(node)
        begun = time.perf_counter()
        await first.loader._inner.load(image)
        seen.add("devloop", time.perf_counter() - begun)
        other = await pipeline(bench, route, base, f"second-{number}")
        taken = await other.fingerprint()
        second = await other.builder._full.build(other.service, taken)
        begun = time.perf_counter()
        seen.second.append(await other.loader._inner.load(second))
        seen.add("second", time.perf_counter() - begun)
        other.write("src/m0.py", f"print({time.time()})\n")
        plain = await other.builder.build(other.service, await other.fingerprint("src/m0.py"))
        assert plain.how == "delta", plain
        begun = time.perf_counter()
        seen.on_base.append(await other.loader._inner.load(plain))
        seen.add("on-base", time.perf_counter() - begun)
        await other.fingerprinter.close()
    await first.fingerprinter.close()
    return seen, image.size


def by_hand(seen: Seen, node: Node, delta: Archive) -> None:
    """Import a sibling of the delta, whose layer the node has not seen either."""
    layer = delta.layer.replace(b"print(", b"PRINT(")
    new, old = oci.sha256(layer), delta.diff_ids[-1]
    config = delta.config.replace(old.encode(), new.encode())
    sibling = bytes(oci.delta(Archive(config, layer, (*delta.diff_ids[:-1], new)), f"by-hand:{new[-8:]}"))
    command = ["docker", "exec", "-i", node.name, *CTR, "images", "import", "-"]
    seen.time("by hand", lambda: subprocess.run(command, input=sibling, check=True, capture_output=True))


async def deltas(bench: Bench, node: Node, route: ContainerdRoute, base: str, edits: int) -> Seen:
    """What an edit costs, with everything warm as under `devloop watch`."""
    seen = Seen()
    made = await pipeline(bench, route, base, "delta")
    await made.trip()
    os.sync()  # the disk still writes what the whole images left
    for number in range(edits):
        made.write("src/m0.py", f"print({number}, {time.time()})\n")
        taken = await made.fingerprint("src/m0.py")
        assert await made.loader.find(made.service, taken) is None  # counts as fingerprint in a trip
        begun = time.perf_counter()
        image = await made.builder.build(made.service, taken)
        built = time.perf_counter()
        loaded = await made.load(image)
        ended = time.perf_counter()
        assert (loaded.image.how, loaded.how) == ("delta", "containerd"), loaded
        seen.add("build", built - begun)
        seen.add("load", ended - built)
        seen.add("delta", ended - begun)
        while made.builder.keeper._to_learn:
            await made.builder.keeper.learn(await made.builder.keeper.to_learn(), made.loader._inner.load)
        await anyio.sleep(1.0)
        assert image.archive is not None
        by_hand(seen, node, image.archive)
        await anyio.sleep(1.0)  # as between saves: the shells on the node are restarted meanwhile
    await made.fingerprinter.close()
    return seen


def own_layers(ref: str) -> int:
    """Bytes that `docker history` shows above the base."""
    output = subprocess.run(
        ["docker", "history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", ref],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    mine = [line.split(" ", 1) for line in output.splitlines() if "WORKDIR" in line or "COPY" in line]
    return sum(int(size) for size, _ in mine)


def show(seen: Seen, edits: Seen, size: int) -> None:
    if seen.seconds:
        show_full(seen, size)
    print(f"\n{'':10}{'median ms':>10}{'worst ms':>10}   of {len(edits.seconds['delta'])} edits")
    for name in ("build", "load", "delta", "by hand"):
        worst = max(edits.seconds[name]) * MILLISECONDS
        print(f"{name:10}{edits.median(name) * MILLISECONDS:10.1f}{worst:10.1f}")


def show_full(seen: Seen, size: int) -> None:
    save = seen.median("save")
    print(f"image of {size / 1e6:.0f} MB; medians of {len(seen.seconds['save'])} rounds\n")
    print(f"{'':10}{'seconds':>9}{'x save':>8}")
    for name in ("save", "import", "pipe", "devloop", "second", "on-base"):
        print(f"{name:10}{seen.median(name):9.2f}{seen.median(name) / save:8.2f}")
    floor = [a + b for a, b in zip(seen.seconds["save"], seen.seconds["import"], strict=True)]
    print(f"{'save+import':11}{statistics.median(floor):8.2f}{statistics.median(floor) / save:8.2f}")
    sent = max(loaded.sent for loaded in seen.second)
    own = own_layers(seen.second[-1].image.ref)
    thin = max(loaded.sent for loaded in seen.on_base)
    print(f"\nsecond image: {sent:,} bytes sent, on its base {thin:,}; its own layers hold {own:,}")


async def run(base: str, rounds: int, edits: int, in_memory: bool) -> None:
    node = Node(disk="4g" if in_memory else "")
    node.start()
    engine = Engine.at(current(os.environ), role="builder's engine")
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(engine, Digests(engine), Path(folder))
            shell_there = ContainerShell(engine, node.name)
            route = ContainerdRoute(engine, bench.digests, (ContainerdStore(node.name, shell_there),))
            async with anyio.create_task_group() as group:
                group.start_soon(shell_there.keep_warm)
                try:
                    seen, size = await full(bench, node, route, base, rounds)
                    show(seen, await deltas(bench, node, route, base, edits), size)
                finally:
                    for image in await engine.images():
                        for ref in image.refs:
                            if ref.rpartition(":")[0] in bench.made:
                                await engine.remove(ref)
                    group.cancel_scope.cancel()
    finally:
        await engine.aclose()
        node.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--base", default=BASE, help="the image below the service's")
    parser.add_argument("--in-memory", action="store_true", help="the node's images lie in memory")
    given = parser.parse_args()
    anyio.run(run, given.base, given.rounds, given.edits, given.in_memory)
