"""How the cost of one edit grows: with the change, the context, the image, and the chain of deltas.

    python bench/growth.py [--edits 5] [--svg FILE] [AXIS...]

Below the cluster, on this machine's engine: one file is written, and the time from there to the verified
image is taken, apart for fingerprint, delta build and load. Beside each edit, in the same round, the engine's
own time for the smallest archive that it can be given (`engine`). One axis moves, the others rest at a change
of 1 KB, 10 files, 20 MB and a chain of 1.

    change     1 KB to 100 MB in one file
    context    10 to 50,000 files of 1 KB
    image      20 MB to 2 GB in the base
    chain      1 to 60 deltas, folding off

Prints a Markdown table, medians in milliseconds; --svg draws it.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.chart import Line, Panel, draw
from bench.parts import ThinLoad
from devloop.adapters.delta import keeper as deltas
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.endpoint import current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.routes import SharedRoute
from devloop.adapters.nodes.stores import EngineStore
from tests.adapters.conftest import Bench
from tests.support.file_to_node import Pipeline

KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
AXES = {
    "change": (KB, 10 * KB, 100 * KB, MB, 10 * MB, 100 * MB),
    "context": (10, 100, 1_000, 10_000, 50_000),
    "image": (20 * MB, 200 * MB, 2 * GB),
    "chain": (1, 10, 20, 40, 60),
}
UNITS = {"change": "bytes", "context": "files", "image": "bytes", "chain": "deltas"}
STEPS = ("fingerprint", "build", "load", "trip", "engine")


@dataclass(frozen=True, slots=True)
class Point:
    """One place on one axis: medians in milliseconds by step."""

    axis: str
    at: int
    steps: dict[str, float]


@contextmanager
def base_of(size: int) -> Iterator[str]:
    """An image of one file of random bytes; gone at the end."""
    name = f"devloop-dockertest-growth-{os.getpid()}:{size}"
    load = subprocess.Popen(("docker", "import", "-", name), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert load.stdin is not None
    with tarfile.open(fileobj=load.stdin, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for number in range(max(1, size // (20 * MB))):
            content = os.urandom(min(size, 20 * MB))
            entry = tarfile.TarInfo(f"data/{number}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    load.stdin.close()
    if load.wait():
        raise SystemExit("docker import failed")
    try:
        yield name
    finally:
        subprocess.run(("docker", "image", "rm", "-f", name), capture_output=True, check=False)


@asynccontextmanager
async def pipeline(bench: Bench, base: str, files: int) -> AsyncIterator[Pipeline]:
    """A service of that many files on the base, built in full once."""
    service = bench.service(f'FROM {base}\nWORKDIR /app\nCOPY src src\nCMD ["sh"]\n')
    route = SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),))
    made = Pipeline(bench, service, bench.folder / f"state-{service.name}", route)
    made.state.mkdir()
    for number in range(files):
        made.write(f"src/{number // 500:03}/{number:05}.py", f"{number:<999}\n")
    made.write("src/main.py", "start")
    made.start()
    await made.trip()
    yield made
    await made.fingerprinter.close()


async def edit(made: Pipeline, size: int) -> dict[str, float]:
    """Milliseconds by step of one edit whose file has `size` bytes."""
    text = os.urandom(size // 2).hex()
    made.write("src/main.py", text)
    begun = time.perf_counter()
    taken = await made.fingerprint("src/main.py")
    known = time.perf_counter()
    assert await made.loader.find(made.service, taken) is None
    image = await made.builder.build(made.service, taken)
    built = time.perf_counter()
    loaded = await made.load(image)
    ended = time.perf_counter()
    assert loaded.image.how == "delta", made.reasons()
    steps = {
        "fingerprint": known - begun,
        "build": built - known,
        "load": ended - built,
        "trip": ended - begun,
    }
    return {name: seconds * 1000 for name, seconds in steps.items()}


async def measure(made: Pipeline, base: str, size: int, edits: int) -> dict[str, float]:
    thin = ThinLoad(base)
    rows = []
    for number in range(edits):
        engine = await anyio.to_thread.run_sync(thin.measure, number)
        rows.append({**await edit(made, size), "engine": engine * 1000})
    return {step: statistics.median(row[step] for row in rows) for step in STEPS}


async def along(axis: str, bench: Bench, edits: int) -> AsyncIterator[Point]:
    """Every point of the axis."""
    if axis == "chain":
        with base_of(AXES["image"][0]) as base:
            async with pipeline(bench, base, AXES["context"][0]) as made:
                length = 0
                for wanted in AXES[axis]:
                    while length < wanted - edits:
                        await edit(made, KB)
                        length += 1
                    yield Point(axis, wanted, await measure(made, base, KB, edits))
                    length += edits
        return
    for at in AXES[axis]:
        rest = {
            "change": AXES["change"][0],
            "context": AXES["context"][0],
            "image": AXES["image"][0],
            axis: at,
        }
        with base_of(rest["image"]) as base:
            async with pipeline(bench, base, rest["context"]) as made:
                yield Point(axis, at, await measure(made, base, rest["change"], edits))


def shown(axis: str, at: int) -> str:
    if UNITS[axis] != "bytes":
        return f"{at:,} {UNITS[axis]}"
    return next(f"{at // unit:,} {name}" for unit, name in ((GB, "GB"), (MB, "MB"), (KB, "KB")) if at >= unit)


async def run(axes: list[str], edits: int, svg: Path | None) -> None:
    deltas.FOLD_AFTER, deltas.FOLD_SHARE = 1_000_000, 1_000_000.0
    engine = Engine.at(current(os.environ), role="builder's engine")
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(engine, Digests(engine), Path(folder))
        try:
            print(f"| axis | at | {' | '.join(STEPS)} |\n|---|---|{'---|' * len(STEPS)}", flush=True)
            for axis in axes:
                async for point in along(axis, bench, edits):
                    points.append(point)
                    cells = " | ".join(f"{point.steps[step]:.1f}" for step in STEPS)
                    print(f"| {axis} | {shown(axis, point.at)} | {cells} |", flush=True)
        finally:
            for image in await engine.images():
                for ref in image.refs:
                    if ref.rpartition(":")[0] in bench.made:
                        await engine.remove(ref)
            await engine.aclose()
    if svg is not None:
        svg.write_text(draw([panel(axis, points) for axis in axes], "ms of one edit, medians"))


def panel(axis: str, points: list[Point]) -> Panel:
    mine = [point for point in points if point.axis == axis]
    lines = [
        Line(name, tuple((point.at, sum(point.steps[step] for step in steps)) for point in mine))
        for name, steps in (
            ("edit to verified image", ("trip",)),
            ("the engine alone", ("engine",)),
            ("devloop: fingerprint + build", ("fingerprint", "build")),
        )
    ]
    labels = tuple((at, shown(axis, at).partition(f" {UNITS[axis]}")[0]) for at in AXES[axis])
    return Panel(f"{axis} ({UNITS[axis]})", labels, tuple(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("axes", nargs="*", choices=[*AXES, []], help=", ".join(AXES))
    parser.add_argument("--edits", type=int, default=5, help="edits per point")
    parser.add_argument("--svg", type=Path, help="file to draw the curves into")
    given = parser.parse_args()
    anyio.run(run, given.axes or list(AXES), given.edits, given.svg)
