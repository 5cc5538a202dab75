"""How long from a save until the new process serves, and how much of that is devloop's share.

    python bench/loop.py [--edits 10] [--kubeconfig FILE [--load COMMAND]] [SCENARIO...]

Runs on a sandbox of its own, or on the cluster that FILE's current context names, if its pods can be reached
from here: in a namespace of its own, with images bench-*. Where its nodes do not share the engine, COMMAND
brings them an {image}, and what it brought stays there.

In each round, one after the other, so that noise hits all alike:

    floor      PATCH of an image that the node has already -> the new process listens in a new pod
    engine     POST /images/load of one changed file on a known image, without devloop: the engine's own time
    SCENARIO   write of a source file -> the new process listens in a new pod, under `devloop watch`
    by build   the same edit, `DOCKER_BUILDKIT=1 docker build`, PATCH -> the new process listens

Prints per scenario the medians, and devloop's share = median(SCENARIO) - median(floor). At the end the same
by hand: docker build, docker save | docker load, kubectl set image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.parts import (
    DEPLOYMENT,
    SCENARIOS,
    Cluster,
    Given,
    OwnSandbox,
    Pods,
    Scenario,
    ThinLoad,
    apply,
    docker,
    edit,
    remove_images,
    write_context,
)
from tests.support.sample_project import DEVLOOP, Watch, free_port

# Seconds before each measurement: the old pod of the one before ends, and the engine is busy with that.
REST = 4.0
FIRST = 600.0  # seconds that a first build and rollout may take
STAGES = ("detect", "fingerprint", "build", "load", "patch")


class Floor:
    """A Deployment beside devloop's, with two images that the node has: the cluster's own time."""

    name = "floor"

    def __init__(self, folder: Path, pods: Pods, cluster: Cluster, edits: int) -> None:
        write_context(folder, SCENARIOS["small"])
        self._pods, self.images = pods, []
        for number in range(edits + 1):
            (folder / "version.py").write_text(f'VERSION = "floor {number}"\n')
            image = f"bench-floor:{number}"
            docker("build", "-q", "-t", image, str(folder))
            cluster.take(image)
            self.images.append(image)
        apply(cluster, self.name, self.images[0])
        pods.serving(self.name, "floor 0")

    def measure(self, number: int) -> float:
        begun = time.monotonic()
        self._pods.patch_image(self.name, self.images[number])
        return self._pods.serving(self.name, f"floor {number}") - begun


class ByBuild:
    """What a script does for the same edit: a full build with BuildKit, then the smallest PATCH."""

    def __init__(self, name: str, folder: Path, scenario: Scenario, pods: Pods, cluster: Cluster) -> None:
        self._name, self._context, self._pods, self._cluster = f"built-{name}", folder, pods, cluster
        write_context(folder, scenario)
        apply(cluster, self._name, self._build("first"))
        pods.serving(self._name, "start", FIRST)

    def measure(self, number: int) -> float:
        begun = edit(self._context, f"built {number}")
        self._pods.patch_image(self._name, self._build(str(number)))
        return self._pods.serving(self._name, f"built {number}") - begun

    def _build(self, tag: str) -> str:
        image = f"bench-{self._name}:{tag}"
        docker("build", "-q", "-t", image, str(self._context))
        self._cluster.take(image)
        return image


@contextmanager
def watching(name: str, scenario: Scenario, cluster: Cluster, pods: Pods) -> Iterator[tuple[Path, Watch]]:
    """`devloop watch` over one service of this shape, live."""
    root, port = cluster.state / name, free_port()
    write_context(root / "src", scenario)
    (root / "k8s.yaml").write_text(DEPLOYMENT.format(name=name, image=f"bench-{name}:0"))
    (root / "config.yaml").write_text(f"""\
version: 1
cluster: {{context: {cluster.context}, namespace: {cluster.namespace}, allow_remote: true}}
services: {{{name}: {{image: bench-{name}, build: {{context: src}}, deploy: {{deployment: {name}}}}}}}
manifests: [k8s.yaml]
metrics: {{listen: "127.0.0.1:{port}"}}
""")
    process = subprocess.Popen(
        (*DEVLOOP, "watch", "--no-logs", "--kubeconfig", str(cluster.kubeconfig)),
        cwd=root, env=cluster.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    watch = Watch(process, port)
    try:
        watch.wait("live", lambda: watch.trips(name), FIRST)
        pods.serving(name, "start", FIRST)
        yield root / "src", watch
    finally:
        watch.stop()


def naive(context: Path, name: str, number: int, pods: Pods, cluster: Cluster) -> float:
    """docker build, docker save | docker load, kubectl set image: what people do by hand."""
    begun = edit(context, f"naive {number}")
    image = f"bench-{name}:naive-{number}"
    docker("build", "-q", "-t", image, str(context))
    save = subprocess.Popen(("docker", "save", image), stdout=subprocess.PIPE)
    subprocess.run(("docker", "load", "-q"), stdin=save.stdout, check=True, capture_output=True)
    save.wait()
    cluster.take(image)
    cluster.kubectl("set", "image", "deployment/naive", f"app={image}")
    return pods.serving("naive", f"naive {number}") - begun


def rounds(
    name: str, edits: int, floor: Floor, thin: ThinLoad, pods: Pods, cluster: Cluster, first: int
) -> dict[str, float]:
    """Medians in seconds: floor, engine, save_to_serving, by_build, share, and each stage of devloop's."""
    rows: dict[str, list[float]] = {"floor": [], "engine": [], "save_to_serving": [], "by_build": []}
    scenario = SCENARIOS[name]
    with watching(name, scenario, cluster, pods) as (context, watch):
        by_build = ByBuild(name, cluster.state / f"built-{name}", scenario, pods, cluster)
        for number in range(edits):
            time.sleep(REST)
            rows["engine"].append(thin.measure(number))
            rows["floor"].append(floor.measure(first + number))
            time.sleep(REST)
            begun = edit(context, f"edit {number}")
            rows["save_to_serving"].append(pods.serving(name, f"edit {number}") - begun)
            watch.wait("trip over", lambda: len(watch.trips(name)) > number + 1)  # noqa: B023
            time.sleep(REST)
            rows["by_build"].append(by_build.measure(number))
        spans = [trip["seconds"] for trip in watch.trips(name)[-edits:]]
    found = {row: statistics.median(values) for row, values in rows.items()}
    stages = {stage: statistics.median(span.get(stage) or 0.0 for span in spans) for stage in STAGES}
    return {**found, "share": found["save_to_serving"] - found["floor"], **stages}


def line(name: str, found: dict[str, float]) -> str:
    stages = " ".join(f"{stage} {found[stage] * 1000:.0f}" for stage in STAGES)
    return (
        f"{name:15} floor {found['floor']:6.3f} s   save -> serving {found['save_to_serving']:6.3f} s"
        f"   by build {found['by_build']:6.3f} s"
        f"   devloop's share {found['share'] * 1000:5.0f} ms, of which the engine alone"
        f" {found['engine'] * 1000:.0f}   (ms: {stages})"
    )


def run(
    edits: int, names: list[str], given: Path | None, load: str, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    state = Path(tempfile.mkdtemp(prefix="devloop-bench-"))
    cluster = Given(given, load, state) if given else OwnSandbox(f"bench-{os.getpid()}", state)
    cluster.up()
    try:
        pods = Pods(cluster.kubeconfig, cluster.namespace)
        floor = Floor(state / "floor", pods, cluster, edits * len(names))
        thin = ThinLoad(floor.images[0])
        report: dict[str, dict[str, float]] = {}
        for count, name in enumerate(names):
            report[name] = rounds(name, edits, floor, thin, pods, cluster, 1 + count * edits)
            say(line(name, report[name]))
        context = state / "naive"
        write_context(context, SCENARIOS["small"])
        docker("build", "-q", "-t", "bench-naive:0", str(context))
        cluster.take("bench-naive:0")
        apply(cluster, "naive", "bench-naive:0")
        pods.serving("naive", "start")
        by_hand = [naive(context, "naive", number, pods, cluster) for number in range(min(edits, 5))]
        report["naive"] = {"save_to_serving": statistics.median(by_hand)}
        say(f"{'naive':15} docker build, save | load, kubectl set image: {statistics.median(by_hand):6.3f} s")
        return report
    finally:
        cluster.down()
        remove_images("bench-*")
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="a cluster in place of a sandbox")
    parser.add_argument("--load", default="", metavar="COMMAND", help="shell: brings {image} to its nodes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    report = run(
        given.edits,
        given.scenarios or list(SCENARIOS),
        given.kubeconfig,
        given.load,
        lambda line: print(line, file=sys.stderr if given.json else sys.stdout, flush=True),
    )
    if given.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
