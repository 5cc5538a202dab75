"""A user that never waits, for hours, while everything around `devloop watch` breaks at random.

    python bench/soak.py --hours 2 --seed 7
    python bench/soak.py --hours 0.17              # ten minutes; the seed is printed

An engine and a sandbox of its own, three services in two workloads. Saves, bursts, reverts, files made and
removed, and now and then a fault: engine, API server or devloop killed with SIGKILL, the images of a service
removed from the node, the disk of temporary files and state full. Meanwhile no tag may be seen with two
contents, and no pod with content that was never on disk. At the end, within --settle seconds, what each
service serves over HTTP, and the sha256 of every file in its container, must be what is on disk; and nothing
may have grown: memory of a process at most 1.2 times that after its first two minutes, descriptors, threads,
children, temporary folders, state and images within bounds. Exit code 1 where one of these does not hold.

Needs root, dockerd, and the base of `scripts/base-image --tiny-only`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.bad_days import BOUNDS, resources  # noqa: E402
from bench.days import BASE, SERVICES, World  # noqa: E402
from tests.support.dockerd import Dockerd  # noqa: E402
from tests.support.sample_project import DEVLOOP, Sandbox, Watch, free_port, until  # noqa: E402

PORTS = {"a": 8001, "side": 8002, "b": 8003}
DOCKERFILE = """\
ARG BASE
FROM $BASE
COPY . /app/
CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; httpd -f -p PORT -h /app & wait"]
"""
DISK = "64m"  # of the tmpfs with devloop's state and temporary files
WARM = 120.0  # seconds after which a process has its size
MOST_MEMORY = 1.2  # times that
MOST_IMAGES = 200
LOOK = 20.0  # seconds between two looks into pods and resources
GAP = 3.0  # longest, between two saves
FAULT = 40.0  # mean seconds between two faults


@dataclass
class Soak:
    """The run: the world, its faults, and what was seen. `say` prints a line."""

    world: World
    engine: Dockerd
    dice: random.Random
    say: Callable[[str], None]
    saved: dict[str, set[str]] = field(default_factory=dict)  # by service: sha256 of all of its main.txt
    tags: dict[str, str] = field(default_factory=dict)  # reference -> sha256 of its main.txt
    sizes: dict[int, list[tuple[float, dict[str, int]]]] = field(default_factory=dict)  # by pid of devloop
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[threading.Thread] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- devloop --------------------------------------------------------------------------------

    def start(self) -> None:
        world = self.world
        words = ("watch", "-c", str(world.config), "--kubeconfig", str(world.sandbox.kubeconfig))
        process = subprocess.Popen(
            (*DEVLOOP, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=world.root, env={**world.sandbox.environ, "XDG_STATE_HOME": str(self.state)},
        )  # fmt: skip
        world.watch = Watch(process, world.port)

    @property
    def state(self) -> Path:
        """devloop's state directory: on the disk that is full at times."""
        return self.world.scratch / "state"

    def size(self, pid: int) -> dict[str, int]:
        files = (path for path in self.state.rglob("*") if path.is_file())
        return {
            **resources(pid, self.world),
            "state_kb": sum(path.stat().st_size for path in files) // 1024,
        }

    @property
    def watch(self) -> Watch:
        assert self.world.watch is not None
        return self.world.watch

    # --- the user -------------------------------------------------------------------------------

    def save(self) -> None:
        service = self.dice.choice(SERVICES)
        folder = self.world.root / service
        match self.dice.randrange(8):
            case 0:
                (folder / f"more-{self.dice.randrange(5)}.txt").write_text(str(self.dice.random()))
            case 1:
                for path in folder.glob("more-*.txt"):
                    path.unlink()
            case 2:
                for _ in range(5):
                    self.write(service, f"{self.dice.random()}\n")
            case 3:
                self.write(service, "first\n")
            case _:
                self.write(service, f"{self.dice.random()}\n")
        self.count("saves")

    def write(self, service: str, text: str) -> None:
        self.saved.setdefault(service, {sha("first\n")}).add(sha(text))
        self.world.save(service, text)

    # --- faults ---------------------------------------------------------------------------------

    def strike(self) -> None:
        """In the background, one of a kind at a time: the user does not wait for it."""
        self.faults = [thread for thread in self.faults if thread.is_alive()]
        name = self.dice.choice(("engine", "api", "image", "disk", "devloop"))
        if any(thread.name == name for thread in self.faults):
            return
        action = {
            "engine": self.kill_engine, "api": self.kill_api, "image": self.remove_images,
            "disk": self.fill_disk, "devloop": self.kill_devloop,
        }[name]  # fmt: skip
        pause = self.dice.uniform(0.5, 6.0)

        def work() -> None:
            try:
                action(pause)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                self.wrong.append(f"the fault {name} could not be mended: {error}")
            self.say(f"--- {name} is over")

        self.say(f"--- {name}")
        self.count(name)
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self.faults.append(thread)

    def kill_engine(self, pause: float) -> None:
        self.engine.kill()
        time.sleep(pause)  # the outage lasts
        until("the engine is back", self._engine_up, 120)

    def _engine_up(self) -> bool:
        try:
            self.engine.start()
        except AssertionError:
            self.engine.kill()  # on a busy machine its containerd takes too long, and it gives up
            return False
        return True

    def kill_api(self, pause: float) -> None:
        with suppress(AssertionError):  # it may be starting
            self.world.sandbox.kill()
        time.sleep(pause)  # the outage lasts
        until("the sandbox is back", self._up, 120)

    def _up(self) -> bool:
        try:
            self.world.sandbox.up()
        except (AssertionError, subprocess.TimeoutExpired):
            return False  # its engine is away too
        return True

    def remove_images(self, _: float) -> None:
        service = self.dice.choice(SERVICES)
        sandbox = self.world.sandbox
        listed = sandbox.docker(
            "images", "--format", "{{.Repository}}:{{.Tag}}", f"{self.world.namespace}-{service}", check=False
        )
        if listed.split():
            sandbox.docker("rmi", "-f", *listed.split(), check=False)
        name = "a" if service == "side" else service
        sandbox.kubectl(
            "delete", "pods", "-l", f"app={name}", "-n", self.world.namespace, "--wait=false", check=False
        )

    def fill_disk(self, pause: float) -> None:
        ballast = self.world.scratch / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(pause)  # the disk stays full meanwhile
        ballast.unlink(missing_ok=True)

    def kill_devloop(self, pause: float) -> None:
        self.watch.process.kill()
        self.watch.process.wait(10)
        self.judge_output()
        time.sleep(pause)  # nobody is there meanwhile
        self.start()

    # --- looking --------------------------------------------------------------------------------

    def look(self) -> None:
        """Each ready pod's content against its tag and what was ever saved; devloop's size."""
        for service, pod, ref in self.pods():
            found = self.inside(service, pod, "sha256sum", "/app/main.txt").partition(" ")[0]
            if len(found) != 64:
                continue  # the pod or the engine went away meanwhile
            self.count("looks into pods")
            if found not in self.saved.get(service, {sha("first\n")}):
                self.wrong.append(f"{service}: {ref} holds content that was never on disk")
            if self.tags.setdefault(ref, found) != found:
                self.wrong.append(f"{service}: {ref} holds two contents")
        process = self.watch.process
        if process.poll() is None:
            with suppress(OSError, IndexError):  # it is being killed: its memory is gone already
                row = time.monotonic(), self.size(process.pid)
                self.sizes.setdefault(process.pid, []).append(row)
        elif not any(thread.name == "devloop" and thread.is_alive() for thread in self.faults):
            self.wrong.append(f"devloop watch ended with {process.returncode}")
            self.judge_output()
            self.start()

    def judge_output(self) -> None:
        """Of a devloop that is over: no traceback may be in what it printed."""
        if "Traceback" in self.watch.text() or "internal error" in self.watch.text():
            self.wrong.append(f"a traceback or an internal error was printed:\n{self.watch.text()[-3000:]}")

    def pods(self) -> Iterator[tuple[str, dict[str, object], str]]:
        """(service, pod, reference) of each container of a ready pod."""
        for name in ("a", "b"):
            try:
                found = self.world.sandbox.pods(self.world.namespace, f"app={name}")
            except AssertionError:
                continue  # the API server is away
            for pod in found:
                conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
                if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                    for container in pod["spec"]["containers"]:
                        yield container["name"], pod, container["image"]

    def inside(self, service: str, pod: dict[str, object], *command: str) -> str:
        name = pod["metadata"]["name"]  # type: ignore[index]
        words = ("exec", "-n", self.world.namespace, str(name), "-c", service, "--", *command)
        return self.world.sandbox.kubectl(*words, check=False)

    def served(self) -> list[str]:
        """What differs from the disk: over HTTP, and file by file in the containers."""
        different = [f"{name} is {state}" for name, state in self.world.states().items() if state != "live"]
        seen: set[str] = set()
        for service, pod, _ in self.pods():
            seen.add(service)
            folder = self.world.root / service
            files = {path.name: sha(path.read_text()) for path in folder.iterdir()}
            listed = self.inside(service, pod, "sh", "-c", "cd /app && sha256sum $(ls -A)")
            inside = dict(line.split()[::-1] for line in listed.splitlines())
            if inside != files:
                different.append(f"{service}: {sorted(set(inside.items()) ^ set(files.items()))}")
            url = f"http://{pod['status']['podIP']}:{PORTS[service]}/main.txt"  # type: ignore[index]
            if fetched(url) != (folder / "main.txt").read_bytes():
                different.append(f"{service}: {url} serves something else")
        return different + [f"{name}: no ready pod" for name in set(SERVICES) - seen]

    def grown(self) -> list[str]:
        found = []
        for pid, rows in self.sizes.items():
            warm = [size for at, size in rows if at - rows[0][0] >= WARM]
            if len(warm) < 2:
                continue
            first, last = warm[0], warm[-1]
            ratio = last["rss_kb"] / first["rss_kb"]
            lived = rows[-1][0] - rows[0][0]
            changes = {what: f"{what} {first[what]} to {last[what]}" for what in BOUNDS}
            self.say(f"devloop {pid}, {lived:.0f} s: memory x {ratio:.2f}, {', '.join(changes.values())}")
            found += [
                f"grew too much: {changes[what]}"
                for what, most in BOUNDS.items()
                if last[what] - first[what] > most
            ]
            if ratio > MOST_MEMORY:
                found.append(f"memory grew {ratio:.2f} times in {lived:.0f} s")
        images = self.world.sandbox.docker("images", "-q", "--filter", "label=dev.devloop.project").split()
        self.say(f"{len(images)} images of devloop on the engine")
        return found + ([f"{len(images)} images"] if len(images) > MOST_IMAGES else [])


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return b""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)), check=True)
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=False)


@contextmanager
def world_of(home: Path) -> Iterator[tuple[World, Dockerd]]:
    """An engine with the base in it, a sandbox on it, the project; TMPDIR is the small disk."""
    (home / "engine").mkdir()
    with small_disk(home / "tmp") as scratch, Dockerd(home / "engine", gateway="10.213.79.1/24") as engine:
        variables = {"DOCKER_HOST": f"unix://{engine.socket}", "TMPDIR": str(scratch)}
        with subprocess.Popen(("docker", "save", BASE), stdout=subprocess.PIPE) as saving:
            environ = {**os.environ, **variables}
            subprocess.run(
                ("docker", "load", "-q"), stdin=saving.stdout, check=True, env=environ, capture_output=True
            )
        sandbox = Sandbox(f"soak-{os.getpid()}", home / "state", variables=variables)
        sandbox.state.mkdir()
        sandbox.up()
        world = World(home / "project", sandbox, f"soak-{os.getpid()}", free_port(), scratch=scratch)
        world.root.mkdir()
        world.write()
        for name, port in PORTS.items():
            (world.root / name / "Dockerfile").write_text(DOCKERFILE.replace("PORT", str(port)))
        sandbox.new_namespace(world.namespace)
        try:
            yield world, engine
        finally:
            sandbox.down()


def run(soak: Soak, seconds: float, settle: float) -> None:
    """The saves and faults; then everything has to come right."""
    soak.start()
    soak.watch.wait("the first versions are live", lambda: not soak.served(), settle)
    began = looked = time.monotonic()
    strikes = began + soak.dice.expovariate(1 / FAULT)
    while (now := time.monotonic()) < began + seconds:
        soak.save()
        if now > strikes:
            soak.strike()
            strikes = now + soak.dice.expovariate(1 / FAULT)
        if now > looked + LOOK:
            soak.look()
            looked = time.monotonic()
        time.sleep(soak.dice.uniform(0, GAP))
    for thread in soak.faults:
        thread.join(180)
    ended = time.monotonic()
    try:
        soak.watch.wait("served and inside is what is on disk", lambda: not soak.served(), settle)
        soak.say(f"converged {time.monotonic() - ended:.1f} s after the last save")
    except AssertionError as error:
        soak.wrong.append(f"it did not converge: {soak.served()}\n{str(error)[-4000:]}")
        log = soak.world.sandbox.kubeconfig.with_name("log").read_text()
        soak.wrong.append(f"what the sandbox wrote last:\n{log[-4000:]}")
    soak.look()
    soak.wrong += soak.grown()
    soak.watch.stop()
    soak.judge_output()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--settle", type=float, default=180.0, help="seconds until the end must be right")
    given = parser.parse_args()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {line}", flush=True)

    say(f"seed {given.seed}, {given.hours} hours")
    with (
        tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as made,
        world_of(Path(made)) as (world, engine),
    ):
        soak = Soak(world, engine, random.Random(given.seed), say)
        try:
            run(soak, 3600 * given.hours, given.settle)
        finally:
            with suppress(subprocess.TimeoutExpired):
                soak.watch.stop()
    say(", ".join(f"{count} {what}" for what, count in sorted(soak.counts.items())))
    for one in soak.wrong:
        print(f"\n{one}")
    print(f"\nseed {given.seed}: {len(soak.tags)} tags, {len(soak.wrong)} wrong")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
