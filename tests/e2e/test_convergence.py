"""Nothing is lost: whatever is done to files, engine, API server and devloop itself, at the end the ready
pods of both services run exactly what is on disk.

    python -m tests.e2e.test_convergence --edits 200 [--seed N] [--update in-place|sync] [--kills 20]

is the long run (`--update`: how images get into the pods; `--kills`: kill -9 of devloop so often); the tests
below run a short one of a fixed seed. Engine and sandbox are the test's own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import new_project
from tests.support.dockerd import Dockerd
from tests.support.random_edits import Developer, differences
from tests.support.sample_project import BASE, Project, Sandbox, Watch, until

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(420)]

LONGEST_GAP = 3.0  # seconds between two steps
SETTLE = 180.0  # seconds after the last step until the cluster must run the tree
FAULTS = ("engine", "api server", "devloop")


@contextmanager
def own_cluster(folder: Path) -> Iterator[tuple[Sandbox, Dockerd]]:
    """A sandbox on an engine that may be restarted, with the base image in it."""
    folder.joinpath("engine").mkdir()
    with Dockerd(folder / "engine", gateway="10.213.78.1/24") as engine:
        variables = {"DOCKER_HOST": f"unix://{engine.socket}"}
        save = subprocess.Popen(("docker", "save", BASE), stdout=subprocess.PIPE)
        environ = {**os.environ, **variables}
        subprocess.run(
            ("docker", "load", "-q"), stdin=save.stdout, check=True, env=environ, capture_output=True
        )
        assert save.wait(60) == 0
        sandbox = Sandbox(f"conv-{os.getpid()}", folder / "state", variables=variables)
        sandbox.state.mkdir()
        sandbox.up()
        try:
            yield sandbox, engine
        finally:
            sandbox.down()


class Scene:
    """One project under a `devloop watch` that can be killed, on a cluster whose parts can be."""

    def __init__(self, project: Project, engine: Dockerd, say: Callable[[str], None]) -> None:
        self.project, self._engine, self._say = project, engine, say
        self.watch = self._start()
        self._running: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def strike(self, fault: str) -> None:
        """In the background: the developer does not wait for it."""
        action = {"engine": self._engine.restart, "api server": self._restart_api, "devloop": self._kill}[
            fault
        ]
        self._say(f"--- {fault} goes down")

        def work() -> None:
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - raised by `settled`
                self._failed.append(error)
            self._say(f"--- {fault} is back")

        thread = threading.Thread(target=work)
        thread.start()
        self._running.append(thread)

    def settled(self) -> None:
        """When every fault is over. Raises what one of them failed with."""
        for thread in self._running:
            thread.join(90)
        if self._failed:
            raise self._failed[0]

    def _start(self) -> Watch:
        process = subprocess.Popen(
            self.project.command("watch"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.project.root, env=self.project.sandbox.environ,
        )  # fmt: skip
        return Watch(process, self.project.metrics_port)

    def _kill(self) -> None:
        self.watch.process.kill()
        self.watch.process.wait(10)
        self.watch = self._start()

    def _restart_api(self) -> None:
        sandbox = self.project.sandbox
        sandbox.kill()

        def up() -> bool:
            """A sandbox does not start while its engine, the other fault, is away."""
            try:
                sandbox.up()
            except AssertionError:
                return False
            return True

        until("the sandbox starts", up, 90)


def converge(
    folder: Path, edits: int, seed: int, say: Callable[[str], None], update: str = "roll", kills: int = 1
) -> float:
    """Do it all; seconds from the last step until the cluster ran the tree. Raises AssertionError."""
    chance = random.Random(seed)
    say(f"seed {seed}, {edits} edits")
    with own_cluster(folder) as (sandbox, engine):
        project = new_project(sandbox, folder / "todo")
        if update == "sync":
            project.sync_backend()
        else:
            text = project.config.read_text()
            project.config.write_text(text.replace("    deploy: {", f"    update: {update}\n    deploy: {{"))
        developer = Developer(project, chance)
        scene = Scene(project, engine, say)
        try:
            scene.watch.wait("both live", scene.watch.live, 120)
            # One fault in each third, in any order.
            moments = {(i * edits + chance.randrange(edits)) // 3: fault
                       for i, fault in enumerate(chance.sample(FAULTS, 3))}  # fmt: skip
            free = [number for number in range(edits) if number not in moments]
            moments |= dict.fromkeys(chance.sample(free, kills - 1), "devloop")
            for number in range(edits):
                if number in moments:
                    scene.strike(moments[number])
                say(f"{number:4} {developer.step()}")
                time.sleep(chance.uniform(0, LONGEST_GAP))
            developer.finish()
            ended = time.monotonic()
            scene.settled()
            _until_the_same(project, developer, scene)
            return time.monotonic() - ended
        finally:
            with suppress(subprocess.TimeoutExpired):
                scene.watch.stop()


def _until_the_same(project: Project, developer: Developer, scene: Scene) -> None:
    seen: list[str] = []

    def same() -> bool:
        seen[:] = differences(project, developer)
        return not seen

    try:
        until("the cluster runs the tree", same, SETTLE)
        scene.watch.wait("devloop says so", scene.watch.live)
    except AssertionError as error:
        lines = "".join(scene.watch.lines[-60:])
        raise AssertionError(f"{error}\n" + "\n".join(seen) + f"\n--- devloop:\n{lines}") from error


@pytest.mark.parametrize(("update", "kills"), [("roll", 1), ("in-place", 4), ("sync", 4)])
def test_random_edits_with_engine_api_server_and_devloop_going_down(
    tmp_path: Path, update: str, kills: int
) -> None:
    seed = int(os.environ.get("DEVLOOP_TEST_SEED", "7"))
    seconds = converge(tmp_path, 25, seed, lambda line: print(line, flush=True), update, kills)
    print(f"the same after {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--update", choices=("roll", "in-place", "sync"), default="roll")
    parser.add_argument("--kills", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="devloop-conv-", ignore_cleanup_errors=True) as folder:
        seconds = converge(
            Path(folder), given.edits, given.seed,
            lambda line: print(f"{time.monotonic() - begun:7.1f} {line}", flush=True),
            given.update, given.kills,
        )  # fmt: skip
    print(f"seed {given.seed}: converged {seconds:.1f} s after the last of {given.edits} edits")


if __name__ == "__main__":
    main()
