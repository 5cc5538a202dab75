"""A forwarded port under load, through all that a day does to pods and to the API server."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import new_project
from tests.support.sample_project import Project, Sandbox, Watch, free_port, until

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(900)]

PERIOD = 0.2  # five requests a second, one connection each
SLACK = 0.5  # seconds beyond an outage that a connection may wait


@dataclass
class Request:
    began: float
    ended: float
    failure: str  # "" = it went well


@dataclass
class Requests:
    """Five a second to one URL, and what became of each."""

    url: str
    done: list[Request] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Requests]:
        pace = threading.Thread(target=self._pace, daemon=True)
        pace.start()
        try:
            yield self
        finally:
            self._stop.set()
            pace.join()
            for thread in self._threads:
                thread.join(30)

    def _pace(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += PERIOD
            thread = threading.Thread(target=self._ask, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(self.url, timeout=25) as answer:
                json.loads(answer.read())
            failure = ""
        except (OSError, HTTPException, ValueError) as error:
            failure = repr(error)
        self.done.append(Request(began, time.monotonic(), failure))


@dataclass
class Outage:
    """Between these moments a pod or the API server went, and what was in flight may have been cut off.
    `serves`: all the while something did, as in a rollout."""

    what: str
    began: float
    ended: float
    serves: bool = False


def forwarded(project: Project, port: int) -> None:
    text = project.config.read_text()
    project.config.write_text(
        text.replace("    deploy: {deployment: todo-backend}\n",
                     f"    deploy: {{deployment: todo-backend}}\n    forward: {{{port}: 8001}}\n")
    )  # fmt: skip


def greeting(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=20) as answer:
        return str(json.loads(answer.read())["greeting"])


def served(port: int) -> str:
    """As `greeting`, "" for what was cut off with its pod."""
    try:
        return greeting(port)
    except (OSError, HTTPException):
        return ""


@pytest.fixture
def sandbox_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Its API server is killed."""
    cluster = Sandbox(f"forward-{os.getpid()}", tmp_path_factory.mktemp("forward"))
    cluster.up()
    yield cluster
    cluster.down()


def test_a_forward_serves_and_is_shown(project: Project) -> None:
    port, other = free_port(), free_port()
    forwarded(project, port)
    with project.watch("backend") as watch:
        watch.wait("the backend is live", lambda: watch.live("backend"))
        assert f"backend | forward: http://localhost:{port} goes to port 8001\n" in watch.text()
        first = greeting(port)
        card = watch.status()["services"]["backend"]
        assert card["url"] == f"http://localhost:{port}"
        assert card["forwards"] == [{"url": f"http://localhost:{port}", "port": 8001}]
        standing = json.loads(project.devloop("status", "backend", "--json").stdout)["services"]["backend"]
        assert standing["forwards"] == [f"http://localhost:{port}"]
        assert project.once("backend")["backend"]["url"] == f"http://localhost:{port}"
        project.greet("again")
        watch.wait("the edit is served by the same port", lambda: greeting(port) == "again" != first)
        project.config.write_text(project.config.read_text().replace(f"{{{port}: ", f"{{{other}: "))
        watch.wait("the other port listens", lambda: f"http://localhost:{other} goes to" in watch.text())
        assert greeting(other) == "again"
        with pytest.raises(OSError, match="refused"):
            greeting(port)


@pytest.mark.parametrize(
    ("rollouts", "deletions", "timed"),
    [(3, 1, False), pytest.param(20, 2, True, marks=pytest.mark.exhaustive)],
)
def test_no_connection_fails_through_rollouts_deletions_and_a_restart_of_the_api(
    sandbox_of_its_own: Sandbox, tmp_path: Path, rollouts: int, deletions: int, timed: bool
) -> None:
    project, port = new_project(sandbox_of_its_own, tmp_path / "todo"), free_port()
    forwarded(project, port)
    outages: list[Outage] = []
    with project.watch("backend") as watch:
        watch.wait("the backend is live", lambda: watch.live("backend"))
        with Requests(f"http://127.0.0.1:{port}/api/version").running() as requests:
            outages += [_rolled(project, watch, port, f"edit {number}") for number in range(rollouts)]
            outages += [_without(project, watch) for _ in range(deletions)]
            outages.append(_restarted(project, watch, port))
            served = len(requests.done)
            watch.wait("requests after it", lambda: len(requests.done) > served + 5)
    lost = _lost(requests.done, outages)
    slowest = max(_beyond(one, outages) for one in requests.done)
    print(
        f"{len(requests.done)} requests, lost in flight {lost}, {slowest:.3f} s the longest beyond an outage"
    )
    assert all(count <= 5 for count in lost.values()), lost
    assert not timed or slowest <= SLACK


def _pods(project: Project) -> list[dict[str, Any]]:
    return project.sandbox.pods(project.namespace, "app.kubernetes.io/name=backend")


def _rolled(project: Project, watch: Watch, port: int, text: str) -> Outage:
    began = time.monotonic()
    project.greet(text)
    watch.wait("the edit is served", lambda: served(port) == text)
    watch.wait("the old pod is gone", lambda: len(_pods(project)) == 1)
    watch.wait("devloop says that it is live", lambda: watch.live("backend"))
    return Outage("rollout", began, time.monotonic(), serves=True)


def _without(project: Project, watch: Watch) -> Outage:
    """The only pod is deleted: nothing serves until the next one is ready."""
    (old,) = _pods(project)
    meta, began = old["metadata"], time.monotonic()
    path = f"/api/v1/namespaces/{project.namespace}/pods/{meta['name']}"
    project.sandbox.ask("DELETE", path, {"gracePeriodSeconds": 1})
    until(
        "another pod is ready",
        lambda: {pod["metadata"]["uid"] for pod in _pods(project) if _is_ready(pod)} - {meta["uid"]},
    )
    outage = Outage("deletion", began, time.monotonic())
    watch.wait("the old pod is gone", lambda: len(_pods(project)) == 1)
    watch.wait("devloop says that it is live", lambda: watch.live("backend"))
    return outage


def _restarted(project: Project, watch: Watch, port: int) -> Outage:
    pid = project.sandbox.pid()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    project.sandbox.up()
    outage = Outage("restart", began, time.monotonic())
    watch.wait("connections are served", lambda: served(port))
    return outage


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _lost(requests: list[Request], outages: list[Outage]) -> dict[str, int]:
    """How many were in flight when a pod or the API server went; any other that failed fails the test."""
    lost: dict[str, int] = {}
    for one in requests:
        if not one.failure:
            continue
        met = [n for n, o in enumerate(outages) if one.began <= o.ended and one.ended >= o.began]
        assert met, f"failed outside of every outage: {one}"
        outage = outages[met[0]]
        assert outage.serves or one.began <= outage.began + PERIOD, f"{one} began in the {outage}"
        name = f"{outage.what} {met[0]}"
        lost[name] = lost.get(name, 0) + 1
    return lost


def _beyond(request: Request, outages: list[Outage]) -> float:
    """Seconds that a request took beyond the part of outages that it fell into."""
    waits = (max(0.0, o.ended - max(o.began, request.began)) for o in outages if not o.serves)
    return request.ended - request.began - sum(waits)
