"""What a fingerprint costs: cold, warm, and after one change, beside reading everything again.

    python bench/fingerprint.py [--files 10000] [--kilobytes 10] [--edits 30]

The files lie behind a .dockerignore with `!` rules. Absolute times move with the machine; the ratio to
the naive scan, measured in the same run, is what counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import anyio

from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Base, BuildSpec, Change, Service

EVERYTHING = Change(frozenset(), 0, 0)
IGNORE = "*\n!src/**\n**/*.pyc\n!src/keep/*.pyc\n**/node_modules\n"


class NoBases:
    async def resolve(self, service: Service, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        return ()


async def platform() -> str:
    return "linux/amd64"


def plant(context: Path, files: int, size: int) -> Service:
    for number in range(files):
        path = context / "src" / f"p{number % 100}" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    (context / ".dockerignore").write_text(IGNORE)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /app\n")
    time.sleep(0.1)  # the stat cache trusts no file that is younger than a tick of the clock (S7)
    return Service("bench", "bench", BuildSpec(context, context / "Dockerfile"), ())


def naive(context: Path) -> float:
    """Read and hash everything again, as without a cache."""
    begun = time.perf_counter()
    digest = hashlib.sha256()
    for directory, _, names in os.walk(context):
        for name in sorted(names):
            with open(os.path.join(directory, name), "rb") as file:  # noqa: PTH118, PTH123
                digest.update(hashlib.sha256(file.read()).digest())
    return time.perf_counter() - begun


async def measure(files: int, size: int, edits: int, home: Path) -> None:
    service = plant(home / "context", files, size)
    rows: list[tuple[str, float, str]] = []

    async def take(label: str, prints: TreeFingerprinter, cache: StatCache, change: Change) -> float:
        reads, begun = cache.reads, time.perf_counter()
        await prints.take(service, change)
        took = time.perf_counter() - begun
        if label:
            rows.append((label, took, f"{cache.reads - reads} files read"))
        return took

    cache = StatCache(home / "stats.db")
    prints = TreeFingerprinter(NoBases(), cache, platform)
    await take("cold", prints, cache, EVERYTHING)
    await prints.close()
    begun = time.perf_counter()
    cache = StatCache(home / "stats.db")
    rows.append(("loading the stat cache", time.perf_counter() - begun, ""))
    prints = TreeFingerprinter(NoBases(), cache, platform)
    await take("warm start", prints, cache, EVERYTHING)
    times, full = [], []
    for number in range(edits):
        path = service.build.context / "src" / f"p{number % 100}" / f"m{number}.py"
        path.write_bytes(os.urandom(size))
        times.append(await take("", prints, cache, Change(frozenset({path}), 0, 0)))
        full.append(naive(service.build.context))
    rows.append(("one change, median", statistics.median(times), f"worst {max(times) * 1000:.1f} ms"))
    rows.append(("reading everything, median", statistics.median(full), ""))
    for label, seconds, note in rows:
        print(f"{label:28} {seconds * 1000:10.2f} ms   {note}")
    print(f"ratio                        {statistics.median(full) / statistics.median(times):10.0f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kilobytes", type=int, default=10)
    parser.add_argument("--edits", type=int, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        anyio.run(measure, given.files, given.kilobytes * 1024, given.edits, Path(home))


if __name__ == "__main__":
    main()
