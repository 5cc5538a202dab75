"""`rebuild`, `restart`, `pause`, `resume`: what is printed of a watch's answers, and the exit codes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from devloop.commands import control, resume
from devloop.commands.frame import Project
from devloop.config.load import load
from devloop.control import place
from devloop.control.protocol import Json, Send
from devloop.control.server import ControlServer
from devloop.errors import ConfigError, InternalError, PlatformError
from tests.control.test_socket import listens

DONE = {"done": True, "message": "paused", "hint": None}
REFUSED = {"done": False, "message": "is held", "hint": "devloop resume web"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "config.yaml"
    services = {name: {"image": name, "build": {"context": "."}} for name in ("web", "db")}
    file.write_text(yaml.safe_dump({"version": 1, "cluster": {"context": "test"}, "services": services}))
    with tempfile.TemporaryDirectory(prefix="dl-") as folder:
        monkeypatch.setattr("devloop.control.place.private_folder.private_folder", lambda: Path(folder))
        yield Project(load(file), lambda config: config, None)


@contextmanager
def watch(project: Project, results: dict[str, Any]) -> Iterator[list[Json]]:
    """A running watch that works for the services of `results` and gives those to whatever is asked."""
    requests: list[Json] = []

    async def hello(_: Json, send: Send) -> Json:
        return {"pid": 7, "context": "test", "namespace": "default", "services": list(results)}

    async def act(request: Json, send: Send) -> Json:
        requests.append(request)
        return {"services": {name: results[name] for name in request["services"]}}

    handlers = {"hello": hello, **dict.fromkeys(("rebuild", "restart", "trigger", "pause", "resume"), act)}
    path = place.own_socket(project.config.path)
    with start_blocking_portal() as portal:
        serving = portal.start_task_soon(ControlServer(handlers, InternalError).run, path)
        while not (path.exists() and listens(path)):
            assert not serving.done()
        yield requests
        serving.cancel()


@pytest.mark.parametrize("do", ["rebuild", "restart", "trigger", "pause"])
def test_every_service_of_the_watch_is_asked_for_where_none_is_named(
    project: Project, capsys: pytest.CaptureFixture[str], do: str
) -> None:
    with watch(project, {"web": DONE, "db": DONE}) as requests:
        assert control.act(project, do, (), output="") == 0
    assert [(request["do"], request["services"]) for request in requests] == [(do, ["web", "db"])]
    assert capsys.readouterr().out == "web: paused\ndb: paused\n"


def test_what_is_refused_says_why_and_is_exit_code_1(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with watch(project, {"web": REFUSED, "db": DONE}):
        assert control.act(project, "restart", ("web", "db"), output="") == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("db: paused\n", "web: is held\n  -> devloop resume web\n")


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_one_object_is_printed_where_that_is_asked_for(
    project: Project, capsys: pytest.CaptureFixture[str], output: str, read: Any
) -> None:
    with watch(project, {"web": REFUSED}):
        assert control.act(project, "restart", ("web",), output=output) == 1
    assert read(capsys.readouterr().out) == {"services": {"web": REFUSED}}


@pytest.mark.parametrize("do", ["rebuild", "restart", "trigger", "pause"])
def test_without_a_running_watch_it_is_exit_code_3_with_another_way(project: Project, do: str) -> None:
    with pytest.raises(PlatformError, match="no devloop watch is running") as caught:
        control.act(project, do, (), output="")
    assert caught.value.exit_code == 3
    assert caught.value.hint == control.WITHOUT_WATCH[do]


def test_a_resume_goes_through_the_watch_for_its_services_and_to_the_cluster_for_others(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lifted: list[tuple[str, ...]] = []

    def in_session(_: Project, names: list[str], work: object) -> Json:
        lifted.append(tuple(names))
        return {name: {"done": True, "message": "was not held", "hint": None} for name in names}

    monkeypatch.setattr(resume, "in_session", in_session)
    with watch(project, {"web": {**DONE, "message": "resumed"}}) as requests:
        assert resume.resume(project, (), output="") == 0
        assert (requests[0]["services"], lifted) == (["web"], [("db",)])
        assert resume.resume(project, ("web",), output="") == 0
        assert lifted == [("db",)]
    assert resume.resume(project, ("web",), output="") == 0
    assert lifted[1:] == [("web",)]
    assert capsys.readouterr().out.splitlines()[:2] == ["web: resumed", "db: was not held"]
    with pytest.raises(ConfigError, match="no service nobody"):
        resume.resume(project, ("nobody",), output="")
