"""How many of the single-file edits of the sample and the topologies are deltas.

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

from tests.support.sample_project import Sandbox, Watch
from tests.topologies.deployments import ALL, Topology
from tests.topologies.test_rolling import EDITS, SECONDS, Rolling

WARM_UP = 12  # edits within which the first delta has to come


def built(watch: Watch, service: str) -> Counter[str]:
    """How many images of the service were built so far, by how."""
    pattern = re.compile(r'devloop_builds_total\{how="(\w+)",service="(\w+)"\}')
    found = ((pattern.match(name), value) for name, value in watch.metrics().items())
    return Counter({match[1]: int(value) for match, value in found if match and match[2] == service})


def edited(
    project: Rolling, watch: Watch, service: str, file: Path, count: int, *, deltas: bool
) -> Counter[str]:
    """What came of that many edits; of a service that has deltas, after the first of them."""
    comment = "#" if file.suffix == ".py" else "//"
    text = file.read_text()

    def edit() -> None:
        trips = len(watch.trips(service))
        file.write_text(f"{text}\n{comment} {time.time_ns()}\n")
        watch.wait("live", lambda: len(watch.trips(service)) > trips and watch.live(service), SECONDS)

    for _ in range(WARM_UP if deltas else 0):
        if built(watch, service)["delta"]:
            break
        edit()  # the first image is read in the background, and no delta stands on it before
    before = built(watch, service)
    for _ in range(count):
        edit()
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
                output = project.devloop("explain", service).stdout
                stopped = any(
                    Path(path).name in line for line in output.splitlines() if "full build  " in line
                )
                found = edited(
                    project, watch, service, project.root / path, 2 if stopped else edits, deltas=not stopped
                )
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
