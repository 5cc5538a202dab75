"""From a save to the new process and to live, by how the image gets into the pods (docs/update.md).

    python bench/update.py [--edits 10] [--replicas 1] [--rest 3] [--kubeconfig FILE [--load COMMAND]]

Five services of one project under one `devloop watch`, on a sandbox of its own or on the cluster of FILE
(see bench/loop.py). In each round one edit of each, three seconds apart (`--rest 0`: back to back), so that
noise hits all alike:

    roll            the pods are replaced
    in place        the container is restarted in its pod; the process ends at SIGTERM
    in place, deaf  the same with a process that does not handle SIGTERM, and a grace period of 30 s
    sync            the file is written into the container; the process begins anew when it sees that
    sync, signal    the same; it begins anew at SIGHUP
    by hand         the floor of `sync`: such a file written into the container of that row by one call of the
                    engine at DOCKER_HOST, where that has the container

Prints the medians of: save -> written into every container and read back, save -> the new version is served
by a pod, save -> devloop says live, and how long no pod answered meanwhile (asked 100 times a second); and
the ratios to the roll of the same round.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.parts import COPY_LAST, DEPLOYMENT, SERVER, Cluster, Given, OwnSandbox, Pods, edit, remove_images
from tests.support.sample_project import DEVLOOP, Watch, free_port

REST = 3.0  # seconds between two edits
FIRST = 600.0  # seconds that first builds and rollouts may take
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))"


@dataclass(frozen=True)
class Row:
    name: str
    service: str
    update: str
    handler: str
    grace: int

    @property
    def mode(self) -> str:
        """The word of `update` in the trip."""
        return "sync" if self.name.startswith("sync") else self.update


BEGIN_ANEW = """
import os, threading, time
def begin_anew(*_):
    os.execv(sys.executable, [sys.executable, "-u", *sys.argv])
"""
SIGNALLED = f"{HANDLER}{BEGIN_ANEW}signal.signal(signal.SIGHUP, begin_anew)"
WATCHING = f"""{HANDLER}{BEGIN_ANEW}
def follow(seen=os.stat("version.py").st_mtime_ns):
    while True:
        time.sleep(0.005)
        try:
            if os.stat("version.py").st_mtime_ns != seen:
                begin_anew()
        except FileNotFoundError:  # it is being written
            pass
threading.Thread(target=follow, daemon=True).start()"""
ROWS = (
    Row("roll", "roll", "roll", HANDLER, 30),
    Row("in place", "place", "in-place", HANDLER, 30),
    Row("in place, deaf", "deaf", "in-place", "", 30),
    Row("sync", "sync", "{mode: sync, reload: none}", WATCHING, 30),
    Row("sync, signal", "signal", "{mode: sync, reload: {signal: HUP}}", SIGNALLED, 30),
)
HAND = "by hand"
TRIES = 8  # edits until a service is updated as it asks: the layers of its image are read behind the first


@dataclass
class Figures:
    written: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)


class Asking:
    """Asks every pod of an app a hundred times a second; `silent`: seconds in which none answered."""

    def __init__(self, pods: Pods, app: str) -> None:
        self._pods, self._app, self._over = pods, app, threading.Event()
        self.silent = 0.0
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def end(self) -> float:
        self._over.set()
        self._thread.join(5)
        return self.silent

    def _ask(self) -> None:
        last = time.monotonic()
        while not self._over.is_set():
            answered = any(self._answers(address) for address in self._pods.addresses(self._app))
            now = time.monotonic()
            if not answered:
                self.silent += now - last
            last = now
            time.sleep(0.01)

    def _answers(self, address: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}:8000", timeout=0.2) as answer:
                return bool(answer.read())
        except OSError:
            return False


def write_project(root: Path, cluster: Cluster, replicas: int, port: int) -> None:
    services, manifests = [], []
    for row in ROWS:
        context = root / row.service
        context.mkdir(parents=True)
        (context / "server.py").write_text(SERVER.format(handler=row.handler))
        (context / "version.py").write_text('VERSION = "start"\n')
        (context / "Dockerfile").write_text(COPY_LAST)
        services.append(
            f"  {row.service}: {{image: bench-update-{row.service}, build: {{context: {row.service}}},"
            f" deploy: {{deployment: {row.service}}}, update: {row.update}}}\n"
        )
        text = DEPLOYMENT.format(name=row.service, image=f"bench-update-{row.service}:0")
        text = text.replace("PeriodSeconds: 0", f"PeriodSeconds: {row.grace}")
        manifests.append(text.replace("replicas: 1", f"replicas: {replicas}"))
    (root / "k8s.yaml").write_text("---".join(manifests))
    (root / "config.yaml").write_text(
        f"version: 1\ncluster: {{context: {cluster.context}, namespace: {cluster.namespace},"
        f" allow_remote: true}}\nservices:\n{''.join(services)}manifests: [k8s.yaml]\n"
        f'metrics: {{listen: "127.0.0.1:{port}"}}\n'
    )


@contextmanager
def watching(root: Path, cluster: Cluster, port: int) -> Iterator[Watch]:
    process = subprocess.Popen(
        (*DEVLOOP, "watch", "--no-logs", "--kubeconfig", str(cluster.kubeconfig)),
        cwd=root, env=cluster.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    watch = Watch(process, port)
    try:
        watch.wait("all live", lambda: watch.live(*(row.service for row in ROWS)), FIRST)
        yield watch
    finally:
        watch.stop()


def measure(row: Row, root: Path, version: str, pods: Pods, watch: Watch, figures: Figures) -> None:
    trips = len(watch.trips(row.service))
    asking = Asking(pods, row.service)
    began = edit(root / row.service, version)
    served = pods.serving(row.service, version)
    watch.wait("trip over", lambda: len(watch.trips(row.service)) > trips)
    silent = asking.end()
    trip = watch.trips(row.service)[-1]
    if trip["outcome"] != "live" or trip["update"] != row.mode:
        raise OtherwiseError(f"{row.name}: {trip['outcome']}, {trip['update']}\n{watch.text()[-2000:]}")
    figures.served.append(served - began)
    figures.live.append(trip["seconds"]["trip"])
    figures.silent.append(silent)
    if row.mode == "sync":
        figures.written.append(sum(trip["seconds"][stage] for stage in ("detect", "fingerprint", "sync")))


class OtherwiseError(RuntimeError):
    """An edit was not updated as its row says."""


def prepare(row: Row, root: Path, pods: Pods, watch: Watch) -> None:
    """Edits until one is updated as the row says: the first makes the Deployment devloop's own."""
    for number in range(TRIES):
        try:
            measure(row, root, f"first {number}", pods, watch, Figures())
        except OtherwiseError:
            if number == TRIES - 1:
                raise
            time.sleep(REST)
        else:
            return


class Hand:
    """Writes into the containers of the row `sync` by the engine's own API."""

    def __init__(self) -> None:
        self._socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        listing = ("docker", "ps", "-q", "--no-trunc", "--filter", "name=^k8s_app_sync-")
        self.containers = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()

    def measure(self, version: str, pods: Pods, figures: Figures) -> None:
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as tar:
            text = f'VERSION = "{version}"\n'.encode()
            member = tarfile.TarInfo("app/version.py")
            member.size, member.mtime = len(text), int(time.time())
            tar.addfile(member, io.BytesIO(text))
        asking = Asking(pods, "sync")
        began = time.monotonic()
        for container in self.containers:
            self._put(container, body.getvalue())
        figures.written.append(time.monotonic() - began)
        figures.served.append(pods.serving("sync", version) - began)
        figures.silent.append(asking.end())

    def _put(self, container: str, body: bytes) -> None:
        connection = http.client.HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self._socket)
        connection.request("PUT", f"/containers/{container}/archive?path=/", body)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise RuntimeError(f"PUT into {container}: {answer.read().decode()}")
        connection.close()


def report(found: dict[str, Figures]) -> None:
    base = found[ROWS[0].name]
    print(f"{'':16}{'written':>9}{'served':>9}{'live':>9}{'silent':>9}   of the roll: served, live")
    for name, one in found.items():
        shown = [
            f"{statistics.median(values):7.3f} s" if values else f"{'-':>9}"
            for values in (one.written, one.served, one.live, one.silent)
        ]
        ratios = [
            f"x {statistics.median(a / b for a, b in zip(mine, theirs, strict=True)):.2f}" if mine else "-"
            for mine, theirs in ((one.served, base.served), (one.live, base.live))
        ]
        print(f"{name:16}{''.join(shown)}   {', '.join(ratios)}")


def run(edits: int, replicas: int, rest: float, given: Path | None, load: str) -> None:
    state = Path(tempfile.mkdtemp(prefix="devloop-update-"))
    cluster: Cluster = Given(given, load, state) if given else OwnSandbox(f"update-{os.getpid()}", state)
    cluster.up()
    try:
        pods, port = Pods(cluster.kubeconfig, cluster.namespace), free_port()
        write_project(state / "project", cluster, replicas, port)
        found = {name: Figures() for name in (*(row.name for row in ROWS), HAND)}
        with watching(state / "project", cluster, port) as watch:
            for row in ROWS:
                prepare(row, state / "project", pods, watch)
            hand = Hand()
            for number in range(edits):
                for row in ROWS:
                    time.sleep(rest)
                    measure(row, state / "project", f"edit {number}", pods, watch, found[row.name])
                if hand.containers:
                    time.sleep(max(rest, 1.0))  # another second than the edit's: see docs/update.md
                    hand.measure(f"hand {number}", pods, found[HAND])
        report(found)
    finally:
        cluster.down()
        remove_images("bench-update-*")
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--rest", type=float, default=REST, metavar="SECONDS", help="between two edits")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="a cluster in place of a sandbox")
    parser.add_argument("--load", default="", metavar="COMMAND", help="shell: brings {image} to its nodes")
    given = parser.parse_args()
    run(given.edits, given.replicas, given.rest, given.kubeconfig, given.load)


if __name__ == "__main__":
    main()
