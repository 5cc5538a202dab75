"""The measured part of scripts/demo.

usage: demo_edits.py wait   DEVLOOP_URL PARENTS_FOLDER PID
       demo_edits.py edits  DEVLOOP_URL KUBECONFIG FOLDER [BASE]

`wait` returns when both services are live and the next edit can be a delta. `edits` makes five edits, each
under `devloop watch` and by hand (`docker build`, `docker save | docker load`, a new image in the
Deployment), and prints the seconds from the save until the new text is served.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EDITS = 5
PATIENCE_S = 120.0
POLL_S = 0.02
GREETING = re.compile(r'GREETING = ".*"')
BY_HAND = "todo-by-hand"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods?labelSelector=app.kubernetes.io%2Fname%3Dby-hand"
TERMINAL = sys.stderr.isatty()
CLEAR = "\r\x1b[K" if TERMINAL else ""


def say(line: str = "") -> None:
    sys.stderr.write(f"{CLEAR}{line}\n")
    sys.stderr.flush()


@contextmanager
def progress(what: str) -> Iterator[None]:
    """On a terminal a line with the elapsed time, until the work is done."""
    over, began = threading.Event(), time.monotonic()

    def show() -> None:
        while not over.wait(0.25):
            sys.stderr.write(f"{CLEAR}  {what} {time.monotonic() - began:.0f} s")
            sys.stderr.flush()

    shower = threading.Thread(target=show, daemon=True)
    if TERMINAL:
        shower.start()
    try:
        yield
    finally:
        over.set()
        if TERMINAL:
            shower.join()
            sys.stderr.write(CLEAR)
            sys.stderr.flush()


def rounded(seconds: float) -> str:
    """As a person would say it: "0.31 s", "4.2 s"."""
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def fetch(url: str) -> Any:
    """The JSON of a page, or None while nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError):
        return None


def wait(what: str, done: Callable[[], Any], began: float | None = None) -> float:
    """Seconds from `began` (now, if None) until `done()` is true."""
    begin = time.monotonic() if began is None else began
    while not done():
        if time.monotonic() - begin > PATIENCE_S:
            sys.exit(f"error: {what}: not within {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)
    return time.monotonic() - begin


class Cluster:
    """The few calls of the Kubernetes API that take an image by hand into a Deployment."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        authority = b64decode(cluster["certificate-authority-data"]).decode()
        self._trust = ssl.create_default_context(cadata=authority)
        self._token = config["users"][0]["user"]["token"]

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
            return json.loads(answer.read())

    def apply(self, item: Any) -> None:
        place = DEPLOYMENTS if item["kind"] == "Deployment" else SERVICES
        path = f"{place}/{item['metadata']['name']}?fieldManager=demo&force=true"
        self.call("PATCH", path, item, "application/apply-patch+yaml")

    def address(self, service: str) -> str:
        spec = self.call("GET", f"{SERVICES}/{service}")["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/api/version"


@dataclass
class Hand:
    """The sample rolled without devloop: its own copy of the sources, Deployment and Service."""

    cluster: Cluster
    folder: Path
    base: str
    address: str = ""

    def start(self, manifest: Path, text: str) -> float:
        """The first image and its Deployment; the time counts for nothing."""
        began = save(self.folder, text)
        self.build(0)
        for item in yaml.safe_load_all(manifest.read_text()):
            if item["kind"] in ("Deployment", "Service"):
                self.cluster.apply(renamed(item))
        self.address = self.cluster.address(BY_HAND)
        return wait("the first version by hand", lambda: self.serves(text), began)

    def edit(self, number: int, text: str) -> dict[str, float]:
        """Seconds of each step, and of all of them from the save on."""
        began = save(self.folder, text)
        self.build(number)
        built = time.monotonic()
        self.load(number)
        loaded = time.monotonic()
        self.roll(number)
        total = wait("the edit by hand", lambda: self.serves(text), began)
        build, load = built - began, loaded - built
        return {"build": build, "load": load, "roll": total - build - load, "total": total}

    def build(self, number: int) -> None:
        args = ("--build-arg", f"BASE={self.base}") if self.base else ()
        command = ("docker", "build", "-q", "-t", f"{BY_HAND}:{number}", *args, str(self.folder))
        try:
            run(*command, DOCKER_BUILDKIT="1")
        except subprocess.CalledProcessError:  # a docker command without BuildKit's plugin
            run(*command)

    def load(self, number: int) -> None:
        """As an image gets to a node with an image store of its own; here into the same engine."""
        with subprocess.Popen(("docker", "save", f"{BY_HAND}:{number}"), stdout=subprocess.PIPE) as sent:
            subprocess.run(("docker", "load", "-q"), stdin=sent.stdout, check=True, stdout=subprocess.DEVNULL)

    def roll(self, number: int) -> None:
        """What `kubectl set image` sends."""
        containers = [{"name": "backend", "image": f"{BY_HAND}:{number}"}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        self.cluster.call(
            "PATCH", f"{DEPLOYMENTS}/{BY_HAND}", patch, "application/strategic-merge-patch+json"
        )

    def serves(self, text: str) -> bool:
        return bool((fetch(self.address) or {}).get("greeting") == text)

    def end(self) -> None:
        """Its objects and images go."""
        for place in (DEPLOYMENTS, SERVICES):
            try:
                self.cluster.call("DELETE", f"{place}/{BY_HAND}?propagationPolicy=Foreground")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
        wait("the end of the Deployment by hand", lambda: not self.cluster.call("GET", PODS)["items"])
        images = run("docker", "images", "-q", BY_HAND).split()
        if images:
            run("docker", "rmi", "-f", *sorted(set(images)))


def run(*command: str, **environ: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environ})
    return done.stdout


def renamed(item: Any) -> Any:
    """The sample's Deployment or Service under another name, beside the one that devloop rolls."""
    label = '"app.kubernetes.io/name": "{}"'
    text = json.dumps(item).replace(label.format("backend"), label.format("by-hand"))
    copy = json.loads(text)
    copy["metadata"]["name"] = BY_HAND
    if copy["kind"] == "Deployment":
        copy["spec"]["template"]["spec"]["containers"][0]["image"] = f"{BY_HAND}:0"
    return copy


def save(folder: Path, text: str) -> float:
    """Save as an editor does, and when (time.monotonic)."""
    file = folder / "src" / "greeting.py"
    content = GREETING.sub(f'GREETING = "{text}"', file.read_text())
    began = time.monotonic()
    file.write_text(content)
    return began


@dataclass(frozen=True)
class Devloop:
    """The service `backend` under a running `devloop watch`."""

    url: str
    cluster: Cluster
    folder: Path

    def edit(self, text: str) -> tuple[float, dict[str, Any]]:
        """Seconds from the save until the text is served, and the trip's record."""
        address = self.cluster.address("todo-backend")
        trips = last_trip(self.url)["trip"]
        began = save(self.folder, text)
        serving = wait("the edit", lambda: (fetch(address) or {}).get("greeting") == text, began)
        wait("the end of the rollout", lambda: last_trip(self.url)["trip"] > trips, began)
        return serving, last_trip(self.url)


def last_trip(url: str) -> dict[str, Any]:
    services = (fetch(f"{url}/api/status") or {}).get("services") or {}
    trips: list[dict[str, Any]] = services.get("backend", {}).get("trips") or [{"trip": 0}]
    return trips[-1]


def ready(url: str, parents: Path, pid: int) -> bool:
    """Both services are live, and the layers of the backend's image are written down."""
    if not Path(f"/proc/{pid}").exists():
        sys.exit("error: devloop watch has ended")
    services = (fetch(f"{url}/api/status") or {}).get("services") or {}
    if failed := [name for name, one in services.items() if one["state"] == "failed"]:
        sys.exit(f"error: {', '.join(failed)} failed")
    live = len(services) == 2 and all(one["live"] for one in services.values())
    return live and any(parents.glob("of-backend/*.json"))


def edits(devloop: Devloop, hand: Hand, manifest: Path) -> None:
    stamp = time.strftime("%H:%M:%S")
    with progress("by hand: the first image and its Deployment"):
        hand.start(manifest, f"By hand, {stamp}")
    by_devloop: list[float] = []
    by_hand: list[dict[str, float]] = []
    say("  edit    devloop             by hand    build   load    roll")
    for number in range(1, EDITS + 1):
        text = f"Edit {number}, {stamp}"
        with progress(f"{number:<7} devloop ..."):
            serving, trip = devloop.edit(text)
        with progress(f"{number:<7} {rounded(serving):<7} by hand ..."):
            found = hand.edit(number, text)
        by_devloop.append(serving)
        by_hand.append(found)
        how = {"delta": "delta", "continued": "partial build"}.get(trip.get("built", ""), "full build")
        say(row(str(number), serving, how, found))
    medians = {key: statistics.median(one[key] for one in by_hand) for key in by_hand[0]}
    say(row("median", statistics.median(by_devloop), "", medians))
    say()
    explain(trip, medians, statistics.median(by_devloop))


def row(name: str, serving: float, how: str, hand: dict[str, float]) -> str:
    parts = "".join(f"{rounded(hand[key]):<8}" for key in ("build", "load", "roll"))
    return f"  {name:<7} {rounded(serving):<7} {how:<11} {rounded(hand['total']):<10} {parts}".rstrip()


def explain(trip: dict[str, Any], hand: dict[str, float], serving: float) -> None:
    """What the table's numbers are made of."""
    seconds = {stage: value or 0.0 for stage, value in trip["seconds"].items()}
    before = rounded(sum(seconds[stage] for stage in ("detect", "fingerprint", "build", "load", "patch")))
    alone = rounded(hand["build"] + hand["roll"])
    say(f"  devloop was {hand['total'] / serving:.1f} times as fast.")
    say(f"  - devloop's own part of the last edit is {before}: until the Deployment names the new image.")
    say(f"    {rounded(seconds['load'])} of that is the engine, which takes in one small layer.")
    started, ready = trip["phases"].get("started"), trip["phases"].get("serving")
    if started is not None and ready is not None:
        say(f"  - The rest is the rollout, in both columns: {rounded(started)} until the container runs,")
        say(f"    and {rounded(ready - started)} until the process in it is ready: Python imports FastAPI.")
    say("  - The load by hand is what Minikube and kind need, which have an image store of their own. This")
    say(f"    sandbox runs pods on the engine that builds: without the load it is {alone} by hand.")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        say(f"  - This machine is busy (a load of {load:.0f} on {cores} cores): it would be faster alone.")


def main(words: list[str]) -> None:
    if words[0] == "wait":
        url, parents, pid = words[1:]
        wait("the first version of both services", lambda: ready(url, Path(parents), int(pid)))
        return
    url, kubeconfig, folder, *base = words[1:]
    cluster, place = Cluster(Path(kubeconfig)), Path(folder)
    hand = Hand(cluster, place / "by-hand", base[0] if base else "")
    try:
        edits(Devloop(url, cluster, place / "backend"), hand, place / "k8s" / "backend.yaml")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)}: {error.stderr.strip()}")
    finally:
        with progress("remove what was made by hand"):
            hand.end()


if __name__ == "__main__":
    main(sys.argv[1:])
