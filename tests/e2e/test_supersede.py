"""A newer save, or Ctrl-C, ends what runs, on the real parts: a build on the engine, a rollout, a hanging
API server; and one service's trouble delays no other. Times that matter to people are printed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.faulty_proxy import Proxy, make_cert, open_proxy, through, upstream_of
from tests.support.sample_project import Project, until

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]

SLEEP = f"299.{os.getpid()}"  # seconds; a number that no other process on the machine sleeps


def sleeping() -> bool:
    """Whether some container of some build sleeps that long."""
    return any(process.info["cmdline"] == ["sleep", SLEEP] for process in psutil.process_iter(["cmdline"]))


def sleep_in_build(project: Project, service: str = "backend") -> None:
    """The edit whose build never ends."""
    dockerfile = project.root / service / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + f"RUN sleep {SLEEP}\n")


def mend(project: Project, service: str = "backend") -> None:
    dockerfile = project.root / service / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace(f"RUN sleep {SLEEP}\n", ""))


def test_s10_a_newer_save_ends_the_running_build_on_the_engine(project: Project) -> None:
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        sleep_in_build(project)
        watch.wait("the build sleeps", sleeping)
        begun = time.monotonic()
        mend(project)
        watch.wait("it is gone from the engine", lambda: not sleeping(), 30)
        print(f"gone {time.monotonic() - begun:.2f} s after the save")
        watch.wait("live", lambda: watch.live("backend"))
        superseded = [t for t in watch.trips("backend") if t["outcome"] == "superseded"]
        build = superseded[-1]["spans"][-1]
        assert (build["stage"], build["outcome"]) == ("build", "cancelled")


def test_a_newer_save_during_a_rollout_that_hangs_is_taken_at_once(project: Project) -> None:
    main = project.root / "backend" / "src" / "main.py"
    good = main.read_text()
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        main.write_text(good + "\nimport time\ntime.sleep(3600)\n")
        watch.wait("it rolls out", lambda: watch.status()["services"]["backend"]["stage"] == "rollout")
        main.write_text(good)
        project.greet("after the hang")
        watch.wait(
            "the newer content", lambda: project.served_greeting_inside("todo-backend") == "after the hang"
        )
        watch.wait("live", lambda: watch.live("backend"))
        cancelled = [s for t in watch.trips("backend") for s in t["spans"] if s["outcome"] == "cancelled"]
        assert "rollout" in [span["stage"] for span in cancelled]


def test_hazard_b_an_edit_and_its_revert_during_the_rollout_end_with_the_first_content(
    project: Project,
) -> None:
    project.greet("first")
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        project.greet("second")
        watch.wait("it rolls out", lambda: watch.status()["services"]["backend"]["stage"] == "rollout")
        project.greet("first")
        watch.wait(
            "superseded", lambda: [t["outcome"] for t in watch.trips("backend")][-2:-1] == ["superseded"]
        )
        watch.wait("the first", lambda: project.served_greeting_inside("todo-backend") == "first")
        watch.wait("live", lambda: watch.live("backend"))


class Faults:
    """tests/support/faulty_proxy.py on a thread of its own, in front of the sandbox's API server."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._upstream, self._folder = kubeconfig, folder
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.proxy: Proxy | None = None
        self.kubeconfig = folder / "through-proxy"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def call(self, name: str) -> None:
        """`freeze`, `thaw` or `cut`, on the proxy's own loop."""
        assert self._loop is not None
        done = threading.Event()

        def act() -> None:
            getattr(self.proxy, name)()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        server, tls = upstream_of(self._upstream)
        async with open_proxy(server, upstream_tls=tls, cert=make_cert(self._folder)) as self.proxy:
            through(self._upstream, self.proxy, self.kubeconfig)
            self._ready.set()
            await self._over.wait()

    @contextmanager
    def running(self) -> Iterator[Faults]:
        self._thread.start()
        assert self._ready.wait(20)
        try:
            yield self
        finally:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(20)


def test_a_hanging_api_server_holds_no_newer_save_back_for_long(project: Project, tmp_path: Path) -> None:
    """S16: a PATCH without answer is given up after five seconds; saves meanwhile are not lost."""
    with Faults(project.sandbox.kubeconfig, tmp_path).running() as faults:
        project.kubeconfig = faults.kubeconfig
        with project.watch("backend") as watch:
            watch.wait("live", lambda: watch.live("backend"))
            faults.call("freeze")
            project.greet("into the silence")
            watch.wait("it is stuck", lambda: watch.status()["services"]["backend"]["stage"] == "patch")
            project.greet("newer")
            faults.call("thaw")
            watch.wait("the newer", lambda: project.served_greeting_inside("todo-backend") == "newer")
            watch.wait("live", lambda: watch.live("backend"))
            faults.call("freeze")
            begun = time.monotonic()
            watch.process.send_signal(signal.SIGINT)
            assert watch.process.wait(20) == 130
            print(f"Ctrl-C under a silent API server: {time.monotonic() - begun:.2f} s")


def interrupt(process: subprocess.Popen[str]) -> float:
    """Ctrl-C; seconds until the process is gone. Nothing of its children stays."""
    children = psutil.Process(process.pid).children(recursive=True)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    seconds = time.monotonic() - begun
    until("no child is left", lambda: not any(c.is_running() for c in children), 10)
    return seconds


def test_hazard_a_ctrl_c_ends_a_resting_watch_and_one_that_builds(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("live", watch.live)
        resting = interrupt(watch.process)
    assert "Traceback" not in watch.text()
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        sleep_in_build(project)
        watch.wait("the build sleeps", sleeping)
        building = interrupt(watch.process)
    assert "Traceback" not in watch.text()
    until("the build is gone from the engine", lambda: not sleeping(), 30)
    print(f"Ctrl-C: {resting:.2f} s resting, {building:.2f} s in mid-build")


def test_ctrl_c_ends_once_in_mid_build(project: Project) -> None:
    sleep_in_build(project)
    process = subprocess.Popen(
        project.command("once", "backend", "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=project.root, env=project.sandbox.environ,
    )  # fmt: skip
    until("the build sleeps", sleeping)
    seconds = interrupt(process)
    out, err = process.communicate()
    assert "Traceback" not in out + err
    until("the build is gone from the engine", lambda: not sleeping(), 30)
    print(f"Ctrl-C in mid-build of once: {seconds:.2f} s")


def test_one_services_trouble_delays_no_other(project: Project) -> None:
    page = project.root / "frontend" / "src" / "page.js"
    text = page.read_text()
    headline = re.search(r'HEADLINE = "(\w+)"', text)
    assert headline

    def edit_frontend(number: int) -> float:
        page.write_text(text.replace(headline[0], f'HEADLINE = "Headline {number}"'))
        begun = time.monotonic()
        watch.wait(f"headline {number}", lambda: f"<h1>Headline {number}</h1>" in (project.http("/") or ""))
        return time.monotonic() - begun

    with project.watch() as watch:
        watch.wait("both live", watch.live)
        alone = edit_frontend(1)
        project.greeting.write_text("GREETING = (\n")  # a crash loop
        watch.wait("the backend fails", lambda: watch.state("backend") == "failed")
        crashing = edit_frontend(2)
        dockerfile = project.root / "backend" / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text() + "RUN false\n")
        watch.wait(
            "its build fails", lambda: "RUN false" in watch.text() and watch.state("backend") == "failed"
        )
        failing = edit_frontend(3)
        assert watch.state("backend") == "failed"
        watch.wait("the frontend is live", lambda: watch.live("frontend"))
        print(f"frontend edit -> served: alone {alone:.2f} s, beside a crash loop {crashing:.2f} s, "
              f"beside a failing build {failing:.2f} s")  # fmt: skip
        dockerfile.write_text(dockerfile.read_text().replace("RUN false\n", ""))
        project.greet("recovered")
        watch.wait("recovered", lambda: project.served_greeting() == "recovered" and watch.live())


def test_a_build_that_hangs_delays_no_other_for_long(project: Project) -> None:
    """On two cores one build runs at a time; the next waits five seconds for its turn at most."""
    with project.watch() as watch:
        watch.wait("both live", watch.live)
        sleep_in_build(project)
        watch.wait("the build sleeps", sleeping)
        (project.root / "frontend" / "public" / "beside.txt").write_text("beside\n")
        watch.wait("served", lambda: project.http("/beside.txt") == "beside\n")


def test_plain_and_json_output_carry_no_escape_codes(project: Project) -> None:
    environ = {**project.sandbox.environ}
    environ.pop("NO_COLOR")
    done = subprocess.run(
        project.command("once", "backend", "--log-format", "json"),
        capture_output=True, text=True, check=False, cwd=project.root, env=environ, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert "trip_ended" in [event.get("event") for event in events]
    again = subprocess.run(
        project.command("once", "backend"),
        capture_output=True, text=True, check=False, cwd=project.root, env=environ, timeout=120,
    )  # fmt: skip
    assert "\x1b" not in done.stdout + done.stderr + again.stdout + again.stderr


def test_no_color_leaves_a_terminal_without_colours(project: Project) -> None:
    """Bold and the moving of the living line stay: NO_COLOR is about colours."""
    colour = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")
    for variables, coloured in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        ours, theirs = pty.openpty()
        environ = {**project.sandbox.environ, "TERM": "xterm-256color", **variables}
        process = subprocess.Popen(
            project.command("once", "backend"), stdin=theirs, stdout=theirs, stderr=theirs,
            cwd=project.root, env=environ,
        )  # fmt: skip
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 65536):
                shown += piece
        os.close(ours)
        assert process.wait(60) == 0, shown.decode(errors="replace")
        assert bool(colour.search(shown.decode(errors="replace"))) == coloured, variables
