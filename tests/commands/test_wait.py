"""`devloop wait`: what is printed of a watch's answer, the exit codes, and what is judged without a watch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from anyio.from_thread import start_blocking_portal

from devloop.commands import wait_once
from devloop.commands.frame import Project
from devloop.commands.wait import wait
from devloop.control import place
from devloop.control.answers import answer_of, undecided
from devloop.control.protocol import Json, Send
from devloop.control.server import ControlServer
from devloop.errors import InternalError, PlatformError
from devloop.rollout.service_status import Standing
from tests.commands.test_control import project
from tests.control.test_socket import listens

__all__ = ["project"]

LIVE = {"state": "live", "image": "web:dl-1", "paths": ["/p/a.py"], "count": 1, "seconds": 1.234}
FAILED = {
    "state": "failed", "stage": "build", "cause": "SyntaxError: invalid syntax (a.py, line 1)",
    "log": ["  File a.py", "SyntaxError"], "hint": "mend it", "seconds": 0.5,
}  # fmt: skip
OPEN = {"now": "working"}


@contextmanager
def watch(project: Project, decisions: dict[str, Json]) -> Iterator[list[Json]]:
    """A running watch that decides like that; what it is asked."""
    requests: list[Json] = []

    async def hello(_: Json, send: Send) -> Json:
        return {"pid": 7, "context": "test", "namespace": "default", "services": list(decisions)}

    async def answer(request: Json, send: Send) -> Json:
        requests.append(request)
        found = {name: {**undecided(name, "live"), **decisions[name]} for name in request["services"]}
        for decision in found.values():
            await send(decision)
        return answer_of(found, request["for"], {})

    path = place.own_socket(project.config.path)
    with start_blocking_portal() as portal:
        handlers = {"hello": hello, "wait": answer}
        serving = portal.start_task_soon(ControlServer(handlers, InternalError).run, path)
        while not (path.exists() and listens(path)):
            assert not serving.done()
        yield requests
        serving.cancel()


def waited(project: Project, *names: str, goal: str = "live", output: str = "") -> int:
    return wait(project, names, goal=goal, seconds=7.5, output=output)


@pytest.mark.parametrize(
    ("decisions", "goal", "code"),
    [
        ({"web": LIVE, "db": LIVE}, "live", 0),
        ({"web": LIVE, "db": FAILED}, "live", 1),
        ({"web": LIVE, "db": FAILED}, "settled", 0),
        ({"web": OPEN, "db": LIVE}, "live", 4),
        ({"web": OPEN, "db": FAILED}, "live", 1),
        ({"web": FAILED}, "failed", 0),
        ({"web": LIVE}, "failed", 1),
    ],
)
def test_s39_the_exit_code_says_what_was_reached(
    project: Project, decisions: dict[str, Json], goal: str, code: int
) -> None:
    with watch(project, decisions) as requests:
        assert waited(project, goal=goal) == code
    (request,) = requests
    assert (request["for"], request["timeout"], request["services"]) == (goal, 7.5, list(decisions))


def test_s39_people_read_a_line_per_service_and_why_one_failed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with watch(project, {"web": LIVE, "db": FAILED}):
        waited(project)
    assert capsys.readouterr().out.splitlines() == [
        "web: live in 1.23 s  web:dl-1  /p/a.py",
        "db: failed in build: SyntaxError: invalid syntax (a.py, line 1)",
        "db |   File a.py",
        "db | SyntaxError",
        "db -> mend it",
    ]


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_s39_programs_read_one_object(
    project: Project, capsys: pytest.CaptureFixture[str], output: str, read: Any
) -> None:
    with watch(project, {"web": FAILED}):
        assert waited(project, "web", output=output) == 1
    answer = read(capsys.readouterr().out)
    assert answer.keys() == {"for", "reached", "timed_out", "services", "problems"}
    assert answer["services"]["web"]["cause"] == FAILED["cause"]


def standing(monkeypatch: pytest.MonkeyPatch, **found: Standing) -> None:
    monkeypatch.setattr(wait_once, "in_session", lambda *_: found)


@pytest.mark.parametrize(
    ("state", "goal", "code"),
    [
        ("live", "live", 0),
        ("stuck", "live", 1),
        ("stuck", "failed", 0),
        ("held", "live", 1),
        ("held", "settled", 0),
    ],
)
def test_s39_without_a_watch_it_is_judged_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, state: str, goal: str, code: int
) -> None:
    standing(monkeypatch, web=Standing(state, message="CrashLoopBackOff: it ends"))
    assert waited(project, "web", goal=goal) == code


@pytest.mark.parametrize("state", ["rolling", "stale", "missing", "unknown"])
def test_s39_without_a_watch_what_is_open_is_an_error_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    standing(monkeypatch, db=Standing("live"), web=Standing(state, message="other content"))
    with pytest.raises(PlatformError, match=f"no devloop watch is running, and web is {state}") as caught:
        waited(project)
    assert caught.value.exit_code == 3
