"""`devloop wait` right after each of many random edits: is its answer true, and how soon after the truth?

    python bench/waits.py [--edits 2000] [--seed 1] [--update roll|in-place]

A sandbox of its own with one service under `devloop watch`. An edit changes one file or two, takes an earlier
content back, breaks the program or its Dockerfile, touches a file, or writes through another name of it,
which makes no file event in the tree. Right after it the watch is asked over its control socket, as the
command does it, and where it says live, the files in the running container are compared with the tree by
sha256.

Prints how often it was live, failed and wrong, and the median time from the truth to the answer: the truth is
the moment when the API's own watch shows the rollout complete.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.parts import COPY_LAST, DEPLOYMENT, SERVER, OwnSandbox, Pods, remove_images
from devloop.config.load import load
from devloop.control.client import RunningWatch, watches_of
from tests.support.sample_project import DEVLOOP, Watch, free_port

NAME = "app"
FIRST = 600.0  # seconds that the first build and rollout may take
LONGEST = 120.0  # seconds of one wait
FILES = ("version.py", "other.py", "notes.txt")
KINDS = {"one": 60, "two": 10, "revert": 10, "crash": 6, "dockerfile": 3, "touch": 5, "unseen": 6}


@dataclass
class Tree:
    """The project's folder, and who edits it."""

    root: Path
    rng: random.Random
    earlier: list[dict[str, str]] = field(default_factory=list)
    good: bool = True  # whether what lies there can become live

    @property
    def context(self) -> Path:
        return self.root / NAME

    def make(self, sandbox: OwnSandbox, port: int, update: str) -> None:
        self.context.mkdir(parents=True)
        (self.root / "outside").mkdir()
        (self.context / "server.py").write_text(SERVER.format(handler=""))
        (self.context / "Dockerfile").write_text(COPY_LAST)
        self.write({name: self.text(name) for name in FILES})
        (self.root / "k8s.yaml").write_text(DEPLOYMENT.format(name=NAME, image="bench-waits:0"))
        (self.root / "config.yaml").write_text(
            f"version: 1\ncluster: {{context: {sandbox.context}}}\nservices:\n"
            f"  {NAME}: {{image: bench-waits, build: {{context: {NAME}}}, deploy: {{deployment: {NAME}}},"
            f' update: {update}}}\nmanifests: [k8s.yaml]\nmetrics: {{listen: "127.0.0.1:{port}"}}\n'
        )

    def text(self, name: str) -> str:
        value = "".join(self.rng.choices("abcdefgh", k=self.rng.choice((8, 8, 8, 200))))
        return f'VERSION = "{value}"\n' if name.endswith(".py") else f"{value}\n"

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.context / name).write_text(text)
        self.earlier.append({name: (self.context / name).read_text() for name in FILES})

    def edit(self) -> str:
        """One edit; its kind. After a fault the next one mends it."""
        kind = "mend" if not self.good else self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        self.good = kind not in ("crash", "dockerfile")
        match kind:
            case "one" | "two":
                names = self.rng.sample(FILES, 1 if kind == "one" else 2)
                self.write({name: self.text(name) for name in names})
            case "revert":
                self.write(self.rng.choice(self.earlier[-20:]))
            case "crash":
                (self.context / "version.py").write_text("VERSION = \n")
            case "dockerfile":
                (self.context / "Dockerfile").write_text(COPY_LAST + "COPY nothing /\n")
            case "touch":
                (self.context / "notes.txt").touch()
            case "unseen":
                other = self.root / "outside" / "notes"
                other.unlink(missing_ok=True)
                os.link(self.context / "notes.txt", other)
                other.write_text(self.text("notes.txt"))
            case "mend":
                (self.context / "Dockerfile").write_text(COPY_LAST)
                self.write({"version.py": self.text("version.py")})
            case _:
                raise AssertionError(kind)
        return kind

    def sums(self) -> dict[str, str]:
        return {name: hashlib.sha256((self.context / name).read_bytes()).hexdigest() for name in FILES}


class Truth:
    """When the API's watch showed each image rolled out: the Deployment's status complete for it."""

    def __init__(self, pods: Pods) -> None:
        self._pods, self._changed = pods, threading.Condition()
        self._complete: dict[str, float] = {}  # image -> time.monotonic() of the newest time
        self._last = ""
        threading.Thread(target=self._watch, daemon=True).start()

    def of(self, image: str) -> float | None:
        with self._changed:
            self._changed.wait_for(lambda: self._last == image, 2)
            return self._complete.get(image)

    def _watch(self) -> None:
        with self._pods._open("/apis/apps/v1/namespaces/default/deployments?watch=true") as stream:
            for line in stream:
                now, item = time.monotonic(), json.loads(line)["object"]
                complete = _is_complete(item)
                image = item["spec"]["template"]["spec"]["containers"][0]["image"]
                with self._changed:
                    if complete and self._last != image:
                        self._complete[image], self._last = now, image
                        self._changed.notify_all()
                    elif not complete:
                        self._last = ""


def _is_complete(item: dict[str, Any]) -> bool:
    status, wanted = item.get("status", {}), item["spec"].get("replicas", 1)
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
    return seen and counts == {wanted} and not item["spec"].get("paused")


@dataclass
class Found:
    states: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)
    answer: list[float] = field(default_factory=list)  # seconds from the truth to the answer
    waited: list[float] = field(default_factory=list)  # seconds from the edit to "live"


def sums_in_container(sandbox: OwnSandbox) -> list[dict[str, str]]:
    """Of each pod that is ready and stays."""
    found = []
    for pod in sandbox.pods("default", f"app={NAME}"):
        statuses = pod["status"].get("containerStatuses", ())
        if "deletionTimestamp" in pod["metadata"] or not all(one["ready"] for one in statuses):
            continue
        container = statuses[0]["containerID"].removeprefix("docker://")
        text = sandbox.docker("exec", container, "sha256sum", *(f"/app/{name}" for name in FILES))
        sums = (line.split() for line in text.splitlines())
        found.append({name.removeprefix("/app/"): digest for digest, name in sums})
    return found


async def ask(
    watch: RunningWatch, number: int, tree: Tree, sandbox: OwnSandbox, truth: Truth, to: Found
) -> None:
    kind = tree.edit()
    began, wanted = time.monotonic(), tree.sums()
    request: dict[str, Any] = {"services": [NAME], "timeout": LONGEST, "for": "live"}
    answer = await watch.ask("wait", **request)
    answered = time.monotonic()
    decision = answer["services"][NAME]
    to.states[f"{kind}: {decision['state']}"] += 1
    if decision["state"] != "live":
        if tree.good:
            to.lies.append(f"edit {number}, {kind}: {json.dumps(decision)[:2000]}")
        return
    running = sums_in_container(sandbox)
    if not tree.good or not running or any(one != wanted for one in running):
        to.lies.append(f"edit {number}, {kind}: live, wanted {wanted}, found {running}")
    at = truth.of(decision["image"])
    if at is not None and at > began:
        to.answer.append(answered - at)
        to.waited.append(answered - began)


@contextmanager
def watching(root: Path, sandbox: OwnSandbox, port: int) -> Iterator[Watch]:
    process = subprocess.Popen(
        (*DEVLOOP, "watch", "--no-logs", "--kubeconfig", str(sandbox.kubeconfig)),
        cwd=root, env=sandbox.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    watch = Watch(process, port)
    try:
        watch.wait("live", lambda: watch.live(NAME), FIRST)
        yield watch
    finally:
        watch.stop()


async def edits(count: int, seed: int, tree: Tree, sandbox: OwnSandbox, truth: Truth) -> Found:
    found = Found()
    (watch,) = await watches_of(load(tree.root / "config.yaml"), [NAME])
    for number in range(count):
        await ask(watch, number, tree, sandbox, truth, found)
        if number % 50 == 49:
            report(found, number + 1, seed)
    return found


def report(found: Found, count: int, seed: int) -> None:
    print(f"seed {seed}, {count} edits: {len(found.lies)} wrong")
    print("  " + ", ".join(f"{state} {number}" for state, number in sorted(found.states.items())))
    if found.answer:
        middle, waited = statistics.median(found.answer), statistics.median(found.waited)
        late = statistics.quantiles(found.answer, n=20)[-1] if len(found.answer) > 1 else middle
        print(f"  truth to answer: median {middle * 1000:.0f} ms, p95 {late * 1000:.0f} ms")
        print(f"  edit to the answer live: median {waited:.2f} s")
    for lie in found.lies[:3]:
        print(f"  {lie}")
    sys.stdout.flush()


def run(count: int, seed: int, update: str) -> int:
    state = Path(tempfile.mkdtemp(prefix="devloop-waits-"))
    sandbox = OwnSandbox(f"waits-{os.getpid()}", state)
    sandbox.up()
    try:
        tree, port = Tree(state / "project", random.Random(seed)), free_port()
        tree.make(sandbox, port, update)
        truth = Truth(Pods(sandbox.kubeconfig))
        with watching(tree.root, sandbox, port):
            found = anyio.run(edits, count, seed, tree, sandbox, truth)
        report(found, count, seed)
        return 1 if found.lies else 0
    finally:
        sandbox.down()
        remove_images("bench-waits")
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--update", choices=["roll", "in-place"], default="roll")
    given = parser.parse_args()
    sys.exit(run(given.edits, given.seed, given.update))


if __name__ == "__main__":
    main()
