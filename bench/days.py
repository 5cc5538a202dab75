"""The days of bench/bad_days.py: what is broken, what devloop has to say of it, and how it is mended."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.sample_project import DEVLOOP, Sandbox, Watch, until

SERVICES = ("a", "b", "side")
DOCKERFILE = """\
ARG BASE
FROM $BASE
COPY . /app/
CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1; done"]
"""
BASE = os.environ.get("DEVLOOP_TINY_BASE", "devloop-tiny:1")
REST = 2.0  # seconds in which something must not happen, or that a state lasts
SETTLE = 60.0  # seconds that devloop may take to say what is broken, and to converge after it was mended


WORKLOAD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
"""


def workload(name: str, prefix: str, containers: tuple[str, ...]) -> str:
    lines = "".join(f"      - {{name: {one}, image: {prefix}-{one}}}\n" for one in containers)
    return WORKLOAD.replace("NAME", name) + lines


@dataclass
class World:
    """The project on disk, the cluster, and the running `devloop watch`."""

    root: Path
    sandbox: Sandbox
    namespace: str
    port: int
    watch: Watch | None = None
    scratch: Path = field(default_factory=Path)

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    def write(self) -> None:
        """The project as it is when nothing is broken. `a` and `side` are containers of one workload."""
        for name in SERVICES:
            (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / name / "Dockerfile").write_text(DOCKERFILE)
            (self.root / name / "main.txt").write_text("first\n")
        (self.root / "k8s").mkdir(exist_ok=True)
        for name, containers in (("a", ("a", "side")), ("b", ("b",))):
            (self.root / "k8s" / f"{name}.yaml").write_text(workload(name, self.namespace, containers))
        self.config.write_text(self.plain_config())

    def plain_config(self, services: tuple[str, ...] = SERVICES) -> str:
        target = {"a": "a", "b": "b", "side": "a"}
        lines = "".join(
            f"  {name}:\n    image: {self.namespace}-{name}\n"
            f'    build: {{context: {name}, args: {{BASE: "{BASE}"}}}}\n'
            f"    deploy: {{deployment: {target[name]}, container: {name}}}\n"
            for name in services
        )
        return (
            f"version: 1\ncluster: {{context: {self.sandbox.context}, namespace: {self.namespace}}}\n"
            f'services:\n{lines}manifests: ["k8s/*.yaml"]\n'
            f'metrics: {{listen: "127.0.0.1:{self.port}"}}\n'
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A devloop command of the project; AssertionError if it printed a traceback."""
        done = subprocess.run(
            (*DEVLOOP, *words, "--kubeconfig", str(self.sandbox.kubeconfig)),
            capture_output=True, text=True, check=False, timeout=120, cwd=self.root, env=self.sandbox.environ,
        )  # fmt: skip
        assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
        return done

    # --- looking ------------------------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        assert self.watch is not None
        return {name: str(one["state"]) for name, one in self.watch.status().get("services", {}).items()}

    def live_gauges(self) -> dict[str, float]:
        assert self.watch is not None
        found = {}
        for line, value in self.watch.metrics().items():
            if match := re.fullmatch(r'devloop_live\{service="([^"]+)"\}', line):
                found[match[1]] = value
        return found

    def in_pods(self, service: str) -> str | None:
        """main.txt as the only running pod of the service's workload holds it."""
        deployment = "a" if service == "side" else service
        words = (
            "exec",
            "-n",
            self.namespace,
            f"deploy/{deployment}",
            "-c",
            service,
            "--",
            "cat",
            "/app/main.txt",
        )
        return self.sandbox.kubectl(*words, check=False) or None

    def converged(self) -> bool:
        """Everything is reported live, and the containers hold what is on disk."""
        states = self.states()
        if any(states.get(name) != "live" for name in SERVICES):
            return False
        return all(self.in_pods(name) == (self.root / name / "main.txt").read_text() for name in SERVICES)

    def save(self, service: str, text: str | None = None) -> None:
        (self.root / service / "main.txt").write_text(text or f"{random.random()}\n")

    @contextlib.contextmanager
    def noticed(self, what: str = "") -> Iterator[None]:
        """After the block: until devloop prints a line about it, any line where `what` is ""."""
        assert self.watch is not None
        watch, before = self.watch, len(self.watch.lines)
        yield
        watch.wait(
            f"{what or 'it'} is noticed", lambda: any(re.search(what, one) for one in watch.lines[before:])
        )

    def says_failed(self, service: str) -> None:
        """devloop says in every place that the service is not live."""
        assert self.watch is not None
        self.watch.wait(
            f"{service} is not live", lambda: self.states().get(service) not in ("live", "", None), SETTLE
        )
        time.sleep(REST)  # nothing may call it live again while it is broken
        assert self.states()[service] != "live", f"/api/status calls {service} live"
        assert self.live_gauges()[service] == 0, f"devloop_live of {service} is 1"

    def still_live(self, *services: str) -> None:
        states = self.states()
        assert all(states.get(name) == "live" for name in services), states


Day = Callable[[World], None]
DAYS: dict[str, Day] = {}


def day(name: str) -> Callable[[Day], Day]:
    def note(function: Day) -> Day:
        DAYS[name] = function
        return function

    return note


@contextlib.contextmanager
def kept(*files: Path):  # type: ignore[no-untyped-def]
    """These files as they were, whatever the block made of them."""
    before = {file: file.read_bytes() for file in files}
    try:
        yield
    finally:
        for file, content in before.items():
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            elif file.is_symlink() or file.exists():
                file.unlink()
            file.write_bytes(content)


# --- section 1: a "live" that is not true, a service that goes deaf ---------------------------------


@day("1 Dockerfile removed")
def _(world: World) -> None:
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").unlink()
        world.says_failed("b")
        world.still_live("a", "side")


@day("1 context renamed")
def _(world: World) -> None:
    (world.root / "b").rename(world.root / "b2")
    world.says_failed("b")
    (world.root / "b2").rename(world.root / "b")


@day("1 FROM of a missing image")
def _(world: World) -> None:
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").write_text("FROM 127.0.0.1:1/none:1\nCOPY . /app/\n")
        world.says_failed("b")


@day("1 broken .dockerignore")
def _(world: World) -> None:
    ignore = world.root / "b" / ".dockerignore"
    ignore.write_text("[\n")
    world.says_failed("b")
    ignore.unlink()


@day("2 config.yaml edited under a running service")
def _(world: World) -> None:
    with kept(world.config):
        text = world.config.read_text()
        world.config.write_text(
            text.replace("context: b,", "context: b, target: '',").replace("target: '',", "")
        )
        world.config.write_text(text.replace(f'{{BASE: "{BASE}"}}', f'{{BASE: "{BASE}", MORE: "1"}}', 3))
        world.save("b")
        assert world.watch is not None
        world.watch.wait("converged with the new config", world.converged, SETTLE)


@day("3 cluster section changed")
def _(world: World) -> None:
    with kept(world.config):
        other = world.config.read_text().replace(f"namespace: {world.namespace}", "namespace: default")
        with world.noticed("cluster: has changed"):
            world.config.write_text(other)
        world.save("b")
        time.sleep(REST)  # nothing may be made there
        found = world.sandbox.kubectl("get", "deployments", "-n", "default", "-o", "name", check=False)
        assert not found.strip(), f"something was made in the other namespace: {found}"


@day("4 swap file of an editor comes and goes")
def _(world: World) -> None:
    swap = world.root / "b" / ".main.txt.swp"
    swap.write_bytes(b"x" * 4096)
    world.save("b")
    time.sleep(REST)  # the editor stays open meanwhile
    swap.unlink()
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").write_text(DOCKERFILE + "ENV MORE=1\n")
        assert world.watch is not None
        world.watch.wait("converged", world.converged, SETTLE)


@day("4 write through another hard link")
def _(world: World) -> None:
    other = world.root / "other-name"
    os.link(world.root / "b" / "main.txt", other)
    other.write_text("through the other name\n")
    time.sleep(REST)  # no event comes of it: the next look finds a tree that moved
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").write_text(DOCKERFILE + "ENV MORE=2\n")
        assert world.watch is not None
        world.watch.wait("converged", world.converged, SETTLE)
    other.unlink()


@day("5 a build that hangs, and the fix")
def _(world: World) -> None:
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").write_text(DOCKERFILE + "RUN sleep 1000\n")
        time.sleep(13.0)  # a trip must pass from 10 s on (S21), unless it shows no progress
        (world.root / "b" / "Dockerfile").write_text(DOCKERFILE + "ENV FIXED=1\n")
        assert world.watch is not None
        world.watch.wait("the fix is built", world.converged, SETTLE)


@day("6 Dockerfile is a link to a shared file")
def _(world: World) -> None:
    dockerfile, shared = world.root / "b" / "Dockerfile", world.root / "shared.Dockerfile"
    with kept(dockerfile):
        shared.write_text(DOCKERFILE)
        dockerfile.unlink()
        dockerfile.symlink_to("../shared.Dockerfile")
        watch = world.watch
        assert watch is not None
        watch.wait("converged with the link", world.converged, SETTLE)
        before = watch.trips("b")  # the last 50 only
        shared.write_text(DOCKERFILE + f"ENV SHARED={time.time()}\n")
        watch.wait("the shared file's edit", lambda: watch.trips("b") != before, SETTLE)
        watch.wait("converged", world.converged, SETTLE)
    shared.unlink()


@day("7 the missing base comes by itself")
def _(world: World) -> None:
    base = f"{world.namespace}-base:1"
    with kept(world.root / "b" / "Dockerfile"):
        (world.root / "b" / "Dockerfile").write_text(DOCKERFILE.replace("FROM $BASE", f"FROM {base}"))
        world.says_failed("b")
        world.sandbox.docker("tag", BASE, base)
        assert world.watch is not None
        world.watch.wait("built without another save", world.converged, SETTLE)
    world.watch.wait("converged", world.converged, SETTLE)
    world.sandbox.docker("rmi", base, check=False)


@day("8 two services on one workload")
def _(world: World) -> None:
    world.save("a")
    world.save("side")


@day("10 service taken out of config.yaml and put back")
def _(world: World) -> None:
    with kept(world.config):
        world.config.write_text(world.plain_config(("a", "side")))
        assert world.watch is not None
        world.watch.wait("b is gone from metrics", lambda: "b" not in world.live_gauges(), 10)
        assert "b" not in world.states()


@day("11 an object that the cluster refuses")
def _(world: World) -> None:
    odd = world.root / "k8s" / "odd.yaml"
    with world.noticed("example.org"):
        odd.write_text("apiVersion: example.org/v1\nkind: Unheard\nmetadata: {name: odd}\n")
    world.save("b")
    assert world.watch is not None
    world.watch.wait(
        "the others go on", lambda: world.in_pods("b") == (world.root / "b" / "main.txt").read_text(), SETTLE
    )
    odd.unlink()


@day("12 rollback and resume")
def _(world: World) -> None:
    world.save("b")
    assert world.watch is not None
    world.watch.wait("live", world.converged, SETTLE)
    world.command("rollback", "b")
    world.watch.wait("held", lambda: world.states().get("b") == "held", SETTLE)
    world.command("resume", "b")


# --- section 4: what ends or jams the daemon --------------------------------------------------------

MANIFESTS = {
    "an unquoted date": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {day: 2024-05-01}\n",
    "items: 5": "apiVersion: v1\nkind: List\nitems: 5\n",
    "a broken mapping": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c\n",
    "metadata: null": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n",
    "a tag of Python": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: !!python/name:os.system c}\n",
    "deep nesting": "[" * 5000,
    "a NUL": "apiVersion: v1\nkind: ConfigMap\x00\n",
    "an alias of itself": "a: &a [*a]\nkind: ConfigMap\n",
}


def _manifest_day(text: str) -> Day:
    def run(world: World) -> None:
        file = world.root / "k8s" / "half-written.yaml"
        with world.noticed():
            file.write_text(text)
        with world.noticed("^b "):
            world.save("b")
        file.unlink()

    return run


for name, text in MANIFESTS.items():
    day(f"24 manifest with {name}")(_manifest_day(text))

CONFIGS = {
    "manifests: k8s/**.yaml": lambda text: text.replace("k8s/*.yaml", "k8s/**.yaml"),
    "a build argument named A=B": lambda text: text.replace("args: {", 'args: {"A=B": x, ', 1),
    "a build argument with NUL": lambda text: text.replace("args: {", 'args: {A: "x\\0", ', 1),
    "half a line": lambda text: text[: len(text) // 2],
    "nothing at all": lambda text: "",
    "a list": lambda text: "- 1\n",
    "deep nesting": lambda text: "[" * 5000,
}


def _config_day(change: Callable[[str], str]) -> Day:
    def run(world: World) -> None:
        with kept(world.config), world.noticed("config.yaml"):
            world.config.write_text(change(world.config.read_text()))

    return run


for name, change in CONFIGS.items():
    day(f"24 config.yaml with {name}")(_config_day(change))


def _replaced_day(path: str, make: Callable[[Path], None], present: bool) -> Day:
    def run(world: World) -> None:
        file = world.root / path
        with kept(file) if present else contextlib.nullcontext():
            with world.noticed():
                if present:
                    file.unlink()
                make(file)
            if not present:
                file.rmdir() if file.is_dir() else file.unlink()

    return run


for path, present in (
    ("b/Dockerfile", True),
    ("b/.dockerignore", False),
    ("config.yaml", True),
    ("k8s/b.yaml", True),
):
    day(f"24 {path} is a FIFO")(_replaced_day(path, lambda file: os.mkfifo(file), present))
    if not path.startswith("k8s/"):
        day(f"24 {path} is a folder")(_replaced_day(path, lambda file: file.mkdir(), present))


@day("24 k8s/b.yaml is a folder")
def _(world: World) -> None:
    """A glob passes over folders: nothing is printed, and nobody is less live."""
    file = world.root / "k8s" / "b.yaml"
    with kept(file):
        file.unlink()
        file.mkdir()
        time.sleep(REST)  # nobody may be called anything else meanwhile
        world.still_live("a", "b")


@day("24 file from the year 12000")
def _(world: World) -> None:
    world.save("b")
    with contextlib.suppress(OSError, OverflowError):
        os.utime(world.root / "b" / "main.txt", (317_000_000_000, 317_000_000_000))
    assert world.watch is not None
    world.watch.wait("converged", world.converged, SETTLE)
    world.save("b")


@day("24 odd names and links in a circle")
def _(world: World) -> None:
    folder = os.fsencode(world.root / "b")
    odd = [folder + b"/b\xffd.txt", folder + b"/line\nbreak", folder + b"/" + b"n" * 250]
    for path in odd:
        Path(os.fsdecode(path)).write_text("x")
    (world.root / "b" / "circle").symlink_to("circle")
    assert world.watch is not None
    world.watch.wait("converged", world.converged, SETTLE)
    for path in odd:
        Path(os.fsdecode(path)).unlink()
    (world.root / "b" / "circle").unlink()


@day("24 API server killed")
def _(world: World) -> None:
    world.sandbox.kill()
    world.save("b")
    time.sleep(REST)  # the outage lasts
    world.sandbox.up()


@day("24 deployment deleted by somebody")
def _(world: World) -> None:
    with world.noticed("deployment/b was deleted"):
        world.sandbox.kubectl("delete", "deployment", "b", "-n", world.namespace)
    world.save("b")


@day("24 image removed from the node")
def _(world: World) -> None:
    world.sandbox.kubectl("scale", "deploy/b", "--replicas=0", "-n", world.namespace)
    until(
        "no pod",
        lambda: (
            not world.sandbox.kubectl(
                "get", "pods", "-l", "app=b", "-n", world.namespace, "-o", "name"
            ).strip()
        ),
        30,
    )
    for ref in world.sandbox.docker(
        "images", "--format", "{{.Repository}}:{{.Tag}}", f"{world.namespace}-b"
    ).split():
        world.sandbox.docker("rmi", "-f", ref, check=False)
    world.sandbox.kubectl("scale", "deploy/b", "--replicas=1", "-n", world.namespace)
