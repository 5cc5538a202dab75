"""Which way edits go: how many of the single-file edits of the sample and the topologies are deltas.

    python bench/paths.py [--edits 10] [TOPOLOGY...]

Each topology in turn on one sandbox: `devloop once`, then `devloop watch` and edits of one source file of
each service, one after the other has gone live, counted by `devloop_builds_total{how}` from the moment on at
which the first image is known as a parent. Services whose file no delta can carry, as `devloop explain` says,
are listed and not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.project import Sandbox, Watch
from tests.topologies.deployments import ALL, Topology
from tests.topologies.test_rolling import EDITS, SECONDS, Rolling


def built(watch: Watch, service: str) -> Counter[str]:
    """How many images of the service were built so far, by how."""
    pattern = re.compile(r'devloop_builds_total\{how="(\w+)",service="(\w+)"\}')
    found = ((pattern.match(name), value) for name, value in watch.metrics().items())
    return Counter({match[1]: int(value) for match, value in found if match and match[2] == service})


def edited(project: Rolling, watch: Watch, service: str, file: Path, count: int) -> Counter[str]:
    """What came of that many edits, after the one that makes the first image known."""
    comment = "#" if file.suffix == ".py" else "//"
    text = file.read_text()
    before = Counter[str]()
    for number in range(count + 1):
        trips = len(watch.trips(service))
        file.write_text(f"{text}\n{comment} {number} {time.time_ns()}\n")
        watch.wait("live", lambda: len(watch.trips(service)) > trips and watch.live(service), SECONDS)  # noqa: B023
        if number == 0:
            time.sleep(8)  # the engine is read in the background
            before = built(watch, service)
    return built(watch, service) - before


def run(topology: Topology, edits: int, folder: Path, sandbox: Sandbox) -> Counter[str]:
    os.environ.update(topology.environ)
    project = Rolling(topology, folder / topology.name, sandbox).make()
    for words in topology.before:
        sandbox.kubectl(*words)
    counted = Counter[str]()
    try:
        project.once()
        files = {"backend": EDITS[topology.name].greeting, "frontend": EDITS[topology.name].frontend}
        with project.watch("--no-logs") as watch:
            watch.wait("the start", lambda: watch.live("backend", "frontend"), SECONDS)
            for service, path in files.items():
                told = project.devloop("explain", service).stdout
                stopped = any(Path(path).name in line for line in told.splitlines() if "full build  " in line)
                found = edited(project, watch, service, project.root / path, 2 if stopped else edits)
                print(f"{topology.name:24}{service:10}{path:28}{dict(found)}"
                      f"{'   not below a delta-able COPY' if stopped else ''}", flush=True)  # fmt: skip
                counted += Counter() if stopped else found
    finally:
        project.devloop("down", "--yes")
        project.remove_images()
        if topology.before:
            sandbox.kubectl("delete", "namespace", topology.namespace, "--timeout=60s", check=False)
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [topology.name for topology in ALL]
    parser.add_argument("topologies", nargs="*", choices=[*names, []], help=", ".join(names))
    parser.add_argument("--edits", type=int, default=10)
    given = parser.parse_args()
    total = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(f"paths-{os.getpid()}", Path(folder) / "state")
        sandbox.state.mkdir()
        sandbox.up()
        try:
            for topology in ALL:
                if topology.name in (given.topologies or names):
                    total += run(topology, given.edits, Path(folder), sandbox)
        finally:
            sandbox.down()
    print(f"{total['delta']} of {total.total()} edits were deltas: {total['delta'] / total.total():.0%}")


if __name__ == "__main__":
    main()
