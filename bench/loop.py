"""How long from a save until the new process serves, and how much of that is devloop's share.

    python bench/loop.py [--edits 10] [SCENARIO...]

Runs on a sandbox of its own. In each round, one after the other, so that noise hits all alike:

    floor      PATCH of an image that the node has already -> the new process listens in a new pod
    SCENARIO   write of a source file -> the new process listens in a new pod, under `devloop watch`

Prints per scenario the median, and devloop's share = median(SCENARIO) - median(floor).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.project import BASE, DEVLOOP, Sandbox, Watch, free_port

SERVER = """
import socket, sys
from version import VERSION
with socket.create_server(("", 8000)) as server:
    while True:
        peer, _ = server.accept()
        with peer:
            peer.recv(1024)
            body = VERSION.encode()
            peer.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app
        image: {image}
        imagePullPolicy: Never
        readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
"""
COPY_LAST = (
    f'ARG BASE={BASE}\nFROM ${{BASE}}\nWORKDIR /app\nCMD ["python3", "-u", "server.py"]\nCOPY . /app\n'
)
RUN_LAST = COPY_LAST + "RUN python3 -m compileall -q server.py version.py\n"


@dataclass(frozen=True)
class Scenario:
    """A build context: how many files besides the program, of how many bytes, below which Dockerfile."""

    files: int
    size: int
    dockerfile: str


SCENARIOS = {
    "small": Scenario(3, 1_000, COPY_LAST),
    "large": Scenario(5_000, 20_000, COPY_LAST),
    "run-after-copy": Scenario(5_000, 2_000, RUN_LAST),
}


# Seconds before each measurement: the old pod of the one before ends, and the engine is busy with that.
REST = 4.0
STAGES = ("detect", "fingerprint", "build", "load", "patch")


class Pods:
    """Pod addresses by label as the API's watch tells them, and the moment a version is served."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        import base64

        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server, self._token = cluster["server"], user["token"]
        self._tls = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        self._addresses: dict[str, dict[str, str]] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def patch_image(self, deployment: str, image: str) -> None:
        """The smallest PATCH that rolls: what the cluster's own floor is measured from."""
        body = json.dumps(
            [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
        )
        path = f"/apis/apps/v1/namespaces/default/deployments/{deployment}"
        with self._open(path, body.encode(), "PATCH") as answer:
            answer.read()

    def serving(self, app: str, version: str, seconds: float = 120) -> float:
        """time.monotonic() of the first answer of `version` from a pod of `app`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for address in reversed(list(self._addresses.get(app, {}).values())):
                try:
                    with urllib.request.urlopen(f"http://{address}:8000", timeout=1) as answer:
                        if answer.read().decode() == version:
                            return time.monotonic()
                except OSError:
                    pass
            time.sleep(0.004)
        raise TimeoutError(f"{app} does not serve {version}")

    def _open(self, path: str, body: bytes | None = None, method: str = "GET"):  # type: ignore[no-untyped-def]
        request = urllib.request.Request(self._server + path, body, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        if body:
            request.add_header("Content-Type", "application/json-patch+json")
        return urllib.request.urlopen(request, context=self._tls)

    def _watch(self) -> None:
        with self._open("/api/v1/namespaces/default/pods?watch=true") as stream:
            for line in stream:
                event = json.loads(line)
                pod = event["object"]
                app, uid = pod["metadata"].get("labels", {}).get("app"), pod["metadata"]["uid"]
                addresses = self._addresses.setdefault(app, {})
                if event["type"] == "DELETED" or pod["metadata"].get("deletionTimestamp"):
                    addresses.pop(uid, None)
                elif pod.get("status", {}).get("podIP"):
                    addresses[uid] = pod["status"]["podIP"]


def write_context(folder: Path, scenario: Scenario) -> None:
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(SERVER)
    (folder / "version.py").write_text('VERSION = "start"\n')
    (folder / "Dockerfile").write_text(scenario.dockerfile)
    for number in range(scenario.files):
        file = folder / "data" / f"{number // 100:03}" / f"{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(scenario.size))


def docker(*words: str) -> str:
    buildkit = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    done = subprocess.run(
        (buildkit, *words),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    return done.stdout


class Floor:
    """A Deployment beside devloop's, with two images that the node has: the cluster's own time."""

    name = "floor"

    def __init__(self, folder: Path, pods: Pods, sandbox: Sandbox, edits: int) -> None:
        write_context(folder, SCENARIOS["small"])
        self._pods, self.images = pods, []
        for number in range(edits + 1):
            (folder / "version.py").write_text(f'VERSION = "floor {number}"\n')
            image = f"bench-floor:{number}"
            docker("build", "-q", "-t", image, str(folder))
            self.images.append(image)
        apply(sandbox, self.name, self.images[0])
        pods.serving(self.name, "floor 0")

    def measure(self, number: int) -> float:
        begun = time.monotonic()
        self._pods.patch_image(self.name, self.images[number])
        return self._pods.serving(self.name, f"floor {number}") - begun


def apply(sandbox: Sandbox, name: str, image: str) -> None:
    file = sandbox.state / f"{name}.yaml"
    file.write_text(DEPLOYMENT.format(name=name, image=image))
    sandbox.kubectl("apply", "-f", str(file))


@contextmanager
def watching(name: str, scenario: Scenario, sandbox: Sandbox, pods: Pods) -> Iterator[tuple[Path, Watch]]:
    """`devloop watch` over one service of this shape, live."""
    root, port = sandbox.state / name, free_port()
    write_context(root / "src", scenario)
    (root / "k8s.yaml").write_text(DEPLOYMENT.format(name=name, image=f"bench-{name}:0"))
    (root / "config.yaml").write_text(f"""\
version: 1
cluster: {{context: {sandbox.context}}}
services: {{{name}: {{image: bench-{name}, build: {{context: src}}, deploy: {{deployment: {name}}}}}}}
manifests: [k8s.yaml]
metrics: {{listen: "127.0.0.1:{port}"}}
""")
    process = subprocess.Popen(
        (*DEVLOOP, "watch", "--no-logs", "--kubeconfig", str(sandbox.kubeconfig)),
        cwd=root, env=sandbox.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    watch = Watch(process, port)
    try:
        pods.serving(name, "start")
        watch.wait("live", lambda: watch.trips(name))
        yield root / "src", watch
    finally:
        watch.stop()


def edit(context: Path, version: str) -> float:
    """Save as an editor does, and when."""
    begun = time.monotonic()
    (context / "version.py").write_text(f'VERSION = "{version}"\n')
    return begun


def naive(context: Path, name: str, number: int, pods: Pods, sandbox: Sandbox) -> float:
    """docker build, docker save | docker load, kubectl set image: what people do by hand."""
    begun = edit(context, f"naive {number}")
    image = f"bench-{name}:naive-{number}"
    docker("build", "-q", "-t", image, str(context))
    save = subprocess.Popen(("docker", "save", image), stdout=subprocess.PIPE)
    subprocess.run(("docker", "load", "-q"), stdin=save.stdout, check=True, capture_output=True)
    save.wait()
    sandbox.kubectl("set", "image", "deployment/naive", f"app={image}")
    return pods.serving("naive", f"naive {number}") - begun


def summary(
    floors: list[float], trips: list[float], spans: list[dict[str, float | None]]
) -> dict[str, float]:
    """Medians in seconds: floor, save_to_serving, share (their difference), and each stage of devloop's."""
    floor, save = statistics.median(floors), statistics.median(trips)
    stages = {stage: statistics.median(span.get(stage) or 0.0 for span in spans) for stage in STAGES}
    return {"floor": floor, "save_to_serving": save, "share": save - floor, **stages}


def line(name: str, found: dict[str, float]) -> str:
    stages = " ".join(f"{stage} {found[stage] * 1000:.0f}" for stage in STAGES)
    return (
        f"{name:15} floor {found['floor']:6.3f} s   save -> serving {found['save_to_serving']:6.3f} s"
        f"   devloop's share {found['share'] * 1000:5.0f} ms   (ms: {stages})"
    )


def run(edits: int, names: list[str], say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    state = Path(tempfile.mkdtemp(prefix="devloop-bench-"))
    sandbox = Sandbox(f"bench-{os.getpid()}", state)
    sandbox.up()
    try:
        pods = Pods(sandbox.kubeconfig)
        floor = Floor(state / "floor", pods, sandbox, edits * (len(names) + 1))
        report: dict[str, dict[str, float]] = {}
        rounds = iter(range(1, len(floor.images)))
        for name in names:
            floors, trips = [], []
            with watching(name, SCENARIOS[name], sandbox, pods) as (context, watch):
                for number in range(edits):
                    time.sleep(REST)
                    floors.append(floor.measure(next(rounds)))
                    time.sleep(REST)
                    begun = edit(context, f"edit {number}")
                    trips.append(pods.serving(name, f"edit {number}") - begun)
                    watch.wait("trip over", lambda: len(watch.trips(name)) > number + 1)  # noqa: B023
                spans = [trip["seconds"] for trip in watch.trips(name)[-edits:]]
            report[name] = summary(floors, trips, spans)
            say(line(name, report[name]))
        context = state / "naive"
        write_context(context, SCENARIOS["small"])
        docker("build", "-q", "-t", "bench-naive:0", str(context))
        apply(sandbox, "naive", "bench-naive:0")
        pods.serving("naive", "start")
        by_hand = [naive(context, "naive", number, pods, sandbox) for number in range(min(edits, 5))]
        report["naive"] = {"save_to_serving": statistics.median(by_hand)}
        say(f"{'naive':15} docker build, save | load, kubectl set image: {statistics.median(by_hand):6.3f} s")
        return report
    finally:
        sandbox.down()
        for image in subprocess.run(
            ("docker", "images", "-q", "--filter", "reference=bench-*"),
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split():
            subprocess.run(("docker", "rmi", "-f", image), capture_output=True, check=False)
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    report = run(
        given.edits,
        given.scenarios or list(SCENARIOS),
        lambda line: print(line, file=sys.stderr if given.json else sys.stdout, flush=True),
    )
    if given.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
