"""How other commands find the running watches: where these announced themselves, or as config.yaml says."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from devloop.clock import Clock
from devloop.commands import once, running_watch
from devloop.commands.running_watch import Report, ask, find_watch
from devloop.commands.watch_addresses import Address, addresses, announced
from devloop.config.load import Config, load, state_dir
from devloop.errors import PlatformError
from devloop.rollout.service_status import Standing
from tests.support.fakes import SERVICE, FakeWorld

URL = "http://127.0.0.1:9107"
CONFIGURED = (Address(0, "http://127.0.0.1:9100"),)
OURS = os.getpid()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "config.yaml"
    file.write_text("version: 1\nservices: {app: {image: app, build: {context: app}}}\n")
    return load(file)


@pytest.fixture
def other(config: Config) -> Iterator[Callable[[str | None], int]]:
    """Announce another process that lives; its id."""
    processes: list[subprocess.Popen[bytes]] = []

    def announce(url: str | None) -> int:
        processes.append(subprocess.Popen(["sleep", "600"]))
        file(config, processes[-1].pid).write_text(json.dumps({"url": url}))
        return processes[-1].pid

    yield announce
    for process in processes:
        process.kill()
        process.wait()


def file(config: Config, pid: int | str) -> Path:
    folder = state_dir(config.path) / "watches"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{pid}.json"


@contextmanager
def serving(answer: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        yield from _served(server)


@contextmanager
def speaking(text: bytes) -> Iterator[str]:
    """Something on a port that does not speak HTTP."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(text)

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        yield from _served(server)


def _served(server: TCPServer) -> Iterator[str]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def state(config: Config, **services: str) -> bytes:
    cards = {name: {"state": state} for name, state in services.items()}
    return json.dumps({"config": str(config.path), "services": cards}).encode()


# --- announcements --------------------------------------------------------------------------------


def test_a_watch_is_found_where_it_announced_itself(config: Config) -> None:
    assert addresses(config) == CONFIGURED
    with announced(config, URL):
        assert addresses(config) == (Address(OURS, URL),)
    assert addresses(config) == CONFIGURED


@pytest.mark.parametrize("content", ["", "{}", "[1]", "null"])
def test_what_is_no_announcement_is_passed_over(config: Config, content: str) -> None:
    file(config, OURS).write_text(content)
    assert addresses(config) == CONFIGURED


@pytest.mark.parametrize("pid", ["4194305", "0x1", "²", "-1", "99999999999999999999"])
def test_what_a_killed_watch_left_is_not_believed(config: Config, pid: str) -> None:
    file(config, pid).write_text(json.dumps({"url": URL}))
    assert addresses(config) == CONFIGURED


def test_what_cannot_be_read_is_passed_over(config: Config) -> None:
    file(config, OURS).mkdir()
    assert addresses(config) == CONFIGURED


def test_s26_a_second_watch_that_is_refused_takes_nothing_of_the_first_away(
    config: Config, other: Callable[[str | None], int]
) -> None:
    first = other(URL)
    with announced(config, "http://127.0.0.1:9108"):
        assert addresses(config)[0] == Address(first, URL)
    assert addresses(config) == (Address(first, URL),)


# --- asking ---------------------------------------------------------------------------------------


def test_two_watches_for_different_services_are_both_asked(
    config: Config, other: Callable[[str | None], int]
) -> None:
    with serving(state(config, app="live")) as one, serving(state(config, app="x", job="live")) as two:
        other(one)
        other(two)
        assert ask(config)["services"] == {"app": {"state": "live"}, "job": {"state": "live"}}


def test_a_watch_that_does_not_serve_its_state_is_named_as_that(
    config: Config, other: Callable[[str | None], int]
) -> None:
    other(None)
    assert find_watch(config) is None
    with pytest.raises(PlatformError, match=r"metrics\.enabled is false"):
        ask(config)


@pytest.mark.parametrize("answer", [b"[]", b"<html>", b'"text"', b"\xff", b"[" * 100_000])
def test_another_server_on_the_port_is_no_watch(
    config: Config, other: Callable[[str | None], int], answer: bytes
) -> None:
    with serving(answer) as url:
        other(url)
        with pytest.raises(PlatformError, match="does not answer"):
            ask(config)


@pytest.mark.parametrize(
    "field",
    [
        {"services": None},
        {"services": ["x"]},
        {"services": {"app": None}},
        {"services": {"app": {"trips": {}}}},
        {"services": {"app": {"trips": [None]}}},
        {"services": {}, "context": None},
        {"services": {}, "namespace": 5},
        {"services": {}, "problems": ["manifests"]},
    ],
)
def test_an_answer_of_another_shape_is_none_of_a_watch(
    config: Config, other: Callable[[str | None], int], field: dict[str, object]
) -> None:
    with serving(json.dumps({"config": str(config.path), **field}).encode()) as url:
        other(url)
        assert find_watch(config) is None
        with pytest.raises(PlatformError, match=r"does not answer .*not the answer of a devloop"):
            ask(config)


def test_what_does_not_speak_http_is_no_watch(config: Config, other: Callable[[str | None], int]) -> None:
    with speaking(b"SSH-2.0-x\r\n\r\n") as url:
        other(url)
        with pytest.raises(PlatformError, match="does not answer"):
            ask(config)


# --- what a watch made of the tree ----------------------------------------------------------------

LIVE, FAILED = {"outcome": "live"}, {"outcome": "failed"}
STALE = {"web": "stale: the cluster runs other content than the tree"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("report", "waited", "lacking", "failed"),
    [
        (Report({"web": LIVE}), 0.0, {}, False),
        (Report({"web": LIVE}), 1.0, STALE, None),
        (Report({"web": LIVE}), 21.0, STALE, True),
        (Report({"web": FAILED}), 1.0, {}, None),  # a manifest that mends it may just have been saved
        (Report({"web": FAILED}), 4.0, {}, True),
        (Report({"web": LIVE}, {"manifests": "no"}), 1.0, {}, None),
        (Report({"web": LIVE}, {"manifests": "no"}), 4.0, {}, True),
    ],
)
async def test_s26_a_watch_has_time_to_react_to_manifests_and_no_failure_is_passed_over(
    report: Report, waited: float, lacking: Mapping[str, str], failed: bool | None
) -> None:
    async def behind() -> Mapping[str, str]:
        return lacking

    found = await running_watch._judged(report, waited, behind)
    assert (found.failed if found else None) is failed


@pytest.mark.anyio
async def test_s26_a_watch_that_never_learns_the_content_is_not_waited_for_without_end(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is gone: a trip every five seconds, which fails before it has a fingerprint."""
    looks, ticks = count(), count()
    clock: Any = SimpleNamespace(now=Clock().now, ticks=lambda: float(next(ticks)))
    world: Any = SimpleNamespace(fingerprinter=FakeWorld("v1"), clock=clock)
    failed = {"outcome": "failed", "fingerprint": None}

    def answer(_: Config) -> dict[str, object]:
        stage = "fingerprint" if next(looks) % 5 == 0 else None
        return {"services": {SERVICE.name: {"stage": stage, "trips": [failed]}}}

    async def behind() -> Mapping[str, str]:
        return {}

    monkeypatch.setattr(running_watch, "ask", answer)
    monkeypatch.setattr(running_watch, "POLL", 0)
    with anyio.fail_after(10):
        report = await running_watch.reported(config, [SERVICE], world, behind)
    assert report == Report({SERVICE.name: failed})
    assert report.failed


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        ("paused", "backend is paused in the running devloop watch", "devloop resume backend"),
        ("pending", "backend waits for its trigger in the running devloop watch", "devloop trigger backend"),
    ],
)
async def test_s26_a_watch_that_begins_no_trip_by_itself_is_not_waited_for(
    config: Config, monkeypatch: pytest.MonkeyPatch, state: str, message: str, hint: str
) -> None:
    world: Any = SimpleNamespace(fingerprinter=FakeWorld("v2"), clock=Clock())
    card = {"state": state, "stage": None, "trips": [{"outcome": "live", "fingerprint": "0" * 16}]}

    async def behind() -> Mapping[str, str]:
        return {}

    monkeypatch.setattr(running_watch, "ask", lambda _: {"services": {SERVICE.name: card}})
    with pytest.raises(PlatformError, match=message) as caught:
        await running_watch.reported(config, [SERVICE], world, behind)
    assert caught.value.hint == hint


@pytest.mark.anyio
async def test_s30_what_the_cluster_lacks_is_shown_without_the_values_of_secrets(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def standings(*_: object) -> Mapping[str, Standing]:
        return {"app": Standing("stuck", message="CrashLoopBackOff: cannot log in with hunter22")}

    async def is_applied() -> bool:
        return True

    manifests = SimpleNamespace(is_applied=is_applied)
    deployment = SimpleNamespace(installation=SimpleNamespace(manifests=manifests))
    session: Any = SimpleNamespace(services=(), world=None, deployment=deployment)
    hide: Any = lambda text: text.replace("hunter22", "[PASSWORD]")  # noqa: E731
    monkeypatch.setattr(once, "standings", standings)
    found = await once._behind(session, hide)
    assert found == {"app": "stuck: CrashLoopBackOff: cannot log in with [PASSWORD]"}
