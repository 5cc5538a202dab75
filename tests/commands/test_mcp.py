"""`devloop mcp`: the SDK's own client, the real process over stdio, the real handlers of a watch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent

from devloop.commands import logs, session
from devloop.commands.frame import Project, load_project
from devloop.commands.mcp import READ, Tools, server_of
from devloop.commands.mcp_answers import Decision, Waited
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.control import place
from devloop.control.actions import Actions
from devloop.control.answers import answer_of, undecided, wait_handler
from devloop.control.handlers import handlers_of
from devloop.control.waiting import Waiting
from devloop.errors import BuildError, PlatformError
from devloop.events import Emit, PodLog
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.model import Service
from devloop.rollout.service_status import Standing
from devloop.secrets.redaction import Secrets
from devloop.secrets.sources import Sources
from devloop.trip.worker_pool import WorkerPool
from tests.control.conftest import config, run
from tests.control.test_socket import nothing_held, serving
from tests.support.fakes import FakeWorld
from tests.support.pools import is_live, outcomes, until, working
from tests.support.sample_project import ROOT

__all__ = ["config", "run"]
pytestmark = pytest.mark.anyio

DEVLOOP = (sys.executable, "-m", "devloop.cli")
WRITING = {"rebuild", "restart", "rollback"}
TOOLS = {"wait", "status", "logs", "history", "explain", "rebuild", "restart", "rollback"}


@asynccontextmanager
async def agent(*words: str, cwd: Path, **variables: str) -> AsyncIterator[Client]:
    """A client of the SDK that has started `devloop mcp`."""
    environ = {**os.environ, **variables}
    started = StdioServerParameters(
        command=DEVLOOP[0], args=[*DEVLOOP[1:], "mcp", *words], cwd=cwd, env=environ
    )
    async with Client(stdio_client(started)) as client:
        yield client


@asynccontextmanager
async def in_memory(load: Callable[[], Project]) -> AsyncIterator[Client]:
    async with Client(server_of(Tools(load))) as client:
        yield client


@asynccontextmanager
async def watching(world: FakeWorld, config: Config, folder: Path) -> AsyncIterator[WorkerPool]:
    """A watch at work, with the handlers of the real one behind its socket."""

    async def nothing_beside(_: Service) -> bool:
        return False

    secrets = Secrets(Sources((), (), {}, frozenset(), folder))
    async with working(world) as pool:
        actions = Actions(pool, RebuildSalts(folder), nothing_held, world.clock)
        waiting = Waiting(pool, world, world.clock, lambda: None, nothing_beside)
        handlers = {
            **handlers_of(actions, lambda: ("test", "default"), secrets),
            "wait": wait_handler(waiting, lambda: actions.services, dict, secrets),
        }
        async with serving(place.own_socket(config.path), handlers):
            yield pool


def load(config: Config) -> Callable[[], Project]:
    return partial(load_project, config.path, None, None, None)


def answer(result: CallToolResult) -> dict[str, Any]:
    """The object of a call that succeeded: the same as text and as structured content."""
    (text,) = result.content
    assert isinstance(text, TextContent)
    assert not result.is_error, text.text
    assert json.loads(text.text) == result.structured_content
    return dict(result.structured_content)


def error(result: CallToolResult) -> str:
    (text,) = result.content
    assert isinstance(text, TextContent)
    assert result.is_error, text.text
    return text.text


# --- a session, over standard input and output ------------------------------------------------------------


async def test_an_agent_edits_waits_reads_the_failure_fixes_and_waits_until_it_is_live(
    config: Config, tmp_path: Path
) -> None:
    world = FakeWorld("v1")
    async with agent(cwd=config.root) as client, watching(world, config, tmp_path):
        assert answer(await client.call_tool("wait"))["services"]["backend"]["state"] == "live"

        world.tree = "broken"
        world.builds.script.append(
            BuildError("main.go:3: undefined: x", evidence=("go build", "exit 1"), hint="mend")
        )
        failed = answer(await client.call_tool("wait", {"services": ["backend"]}))
        assert (failed["reached"], failed["timed_out"]) == (False, False)
        why = failed["services"]["backend"]
        assert (why["state"], why["stage"], why["message"]) == ("failed", "build", "main.go:3: undefined: x")
        assert (why["log"], why["hint"]) == (["go build", "exit 1"], "mend")

        world.tree = "fixed"
        fixed = answer(await client.call_tool("wait", {"services": ["backend"]}))
        assert fixed["reached"]
        assert fixed["services"]["backend"]["image"] == world.patched[-1]
        assert outcomes(world) == ["Live", "Failed", "Live"]

        done = answer(await client.call_tool("restart", {"services": ["backend"]}))
        assert done == {"services": {"backend": {"done": True, "message": "restarting", "hint": None}}}
        assert answer(await client.call_tool("wait"))["reached"]
        assert len(world.restarted) == 1
        answer(await client.call_tool("rebuild"))
        assert answer(await client.call_tool("wait"))["reached"]
        assert "does not work for nobody" in error(
            await client.call_tool("rebuild", {"services": ["nobody"]})
        )


async def test_it_ends_when_the_agent_closes_it_though_a_wait_is_open(config: Config, tmp_path: Path) -> None:
    world = FakeWorld("v1")
    hello, *call = _opening("wait", {"timeout": 3000})
    async with await anyio.open_process([*DEVLOOP, "mcp"], cwd=config.root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(hello)
        await process.stdout.receive()
        async with watching(world, config, tmp_path):
            await until(lambda: is_live(world))
            world.builds.script.append(anyio.Event())
            world.tree = "v2"
            for message in call:
                await process.stdin.send(message)
            await until(lambda: world.builds.calls == 2)
            await process.stdin.aclose()
            assert await process.wait() == 0


def test_a_signal_ends_it(config: Config) -> None:
    process = subprocess.Popen(
        [*DEVLOOP, "mcp"], cwd=config.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_opening("wait", {})[0])
    process.stdin.flush()
    assert "devloop watch" in json.loads(process.stdout.readline())["result"]["instructions"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    process.communicate()


def _opening(tool: str, arguments: dict[str, Any]) -> list[bytes]:
    """The lines that a client sends up to a call of the tool."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}},
    ]
    return [json.dumps(message).encode() + b"\n" for message in messages]


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['mcp'] = None; from devloop.cli import main; main(['mcp'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("devloop: devloop mcp needs the Python package mcp, 2.3 or newer")
    assert "pip install 'devloop[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


# --- the tools, in the memory of this process --------------------------------------------------------------


async def test_each_tool_says_what_it_does_takes_and_gives(config: Config) -> None:
    async with in_memory(load(config)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == TOOLS
        for name, tool in tools.items():
            assert tool.description, name
            assert all("description" in one for one in tool.input_schema["properties"].values()), name
            assert tool.output_schema is not None, name
            assert tool.annotations is not None, name
            assert tool.annotations.read_only_hint is (name not in WRITING)
        assert "after\neach edit" in str(tools["wait"].description)


def test_the_schema_of_wait_has_what_the_answer_of_the_socket_has() -> None:
    decision = undecided("web", "working")
    assert Decision.model_fields.keys() == decision.keys()
    whole = answer_of({"web": decision}, "live", {})
    assert Waited.model_validate(whole).model_dump() == whole


def test_the_session_of_the_docs_has_an_answer_of_wait() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text()
    answers = [text for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "reached" in text]
    for shown in map(json.loads, answers):
        assert Waited.model_validate(shown).model_dump() == shown
    assert answers


@pytest.mark.parametrize(("state", "answered"), [("live", "live"), ("stuck", "failed"), ("held", "held")])
async def test_s39_without_a_watch_wait_judges_once(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch, state: str, answered: str
) -> None:
    standing(monkeypatch, backend=Standing(state, message="CrashLoopBackOff: it ends"))
    async with in_memory(load(config)) as client:
        found = answer(await client.call_tool("wait", {"services": ["backend"]}))
    assert found["services"]["backend"]["state"] == answered
    assert found["reached"] is (answered == "live")


async def test_s39_without_a_watch_what_is_open_is_an_error_at_once(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(monkeypatch, backend=Standing("stale", message="other content"))
    async with in_memory(load(config)) as client:
        text = error(await client.call_tool("wait"))
        assert "no devloop watch is running, and backend is stale: other content\n-> devloop watch" in text
        assert "no devloop watch is running\n-> " in error(await client.call_tool("restart"))


async def test_status_has_what_the_command_prints_and_the_secrets_in_it_are_hidden(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_TOKEN", "opensesame")
    standing(monkeypatch, backend=Standing("stuck", message="it printed opensesame", cause="opensesame"))
    async with in_memory(load(config)) as client:
        found = answer(await client.call_tool("status"))
    assert found["problems"] == {}
    assert found["services"]["backend"]["state"] == "stuck"
    assert "opensesame" not in json.dumps(found)
    assert "it printed" in found["services"]["backend"]["message"]


async def test_logs_are_filtered_and_hidden_and_the_newest_are_kept(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(
        _: object, feeds: object, emit: Emit, since: float | None, tail: int | None
    ) -> dict[str, str]:
        wanted.append((since, tail))
        for number in range(4):
            emit(PodLog("backend", "backend-1", "app", f"line {number}: opensesame"))
        emit(PodLog("backend", "backend-1", "app", '10.0.0.1 "GET /healthz HTTP/1.1" 200 "kube-probe/1.31"'))
        return {"backend-1": ""}

    async def with_session(_: Project, __: object, work: Callable[[object], Any]) -> Any:
        return await work(SimpleNamespace(services=()))

    wanted: list[tuple[float | None, int | None]] = []
    monkeypatch.setenv("APP_TOKEN", "opensesame")
    monkeypatch.setattr(session, "with_session", with_session)
    monkeypatch.setattr(logs, "read", read)
    config.path.write_text(config.path.read_text() + "logs: {mute: [probes]}\n")
    async with in_memory(load(config)) as client:
        newest = answer(await client.call_tool("logs", {"last": 2, "since": 30}))
        assert [line["line"].partition(":")[0] for line in newest["lines"]] == ["line 2", "line 3"]
        assert (newest["containers"], wanted) == (1, [(30.0, READ)])
        found = answer(await client.call_tool("logs", {"grep": "line [01]"}))["lines"]
        assert [line["line"].partition(":")[0] for line in found] == ["line 0", "line 1"]
        assert "opensesame" not in json.dumps([newest, found])
        assert "regular expression" in error(await client.call_tool("logs", {"grep": "("}))


async def test_history_reads_the_journal(config: Config, run: Path) -> None:
    lines = [
        {"event": "trip_ended", "service": name, "at": at, "outcome": "live", "seconds": {"trip": 1.5}}
        for at, name in enumerate(("backend", "other", "backend"))
    ]
    state = configs.state_dir(config.path)
    state.mkdir(parents=True)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (state / "journal.jsonl").write_text(text)
    async with in_memory(load(config)) as client:
        trips = answer(await client.call_tool("history", {"services": ["backend"], "last": 1}))["trips"]
        assert [(trip["service"], trip["ended_at"]) for trip in trips] == [("backend", 2.0)]
        assert "there are: backend, other" in error(await client.call_tool("history", {"services": ["db"]}))


async def test_config_yaml_is_read_at_each_call(tmp_path: Path, config: Config, run: Path) -> None:
    async with in_memory(load(config)) as client:
        good = config.path.read_text()
        config.path.write_text(good + "nothing: 1\n")
        assert "config.yaml:6:1" in error(await client.call_tool("history"))
        config.path.write_text(good + "  third: {image: third, build: {context: src}}\n")
        assert answer(await client.call_tool("history", {"services": ["third"]})) == {"trips": []}
        config.path.unlink()
        assert "config.yaml" in error(await client.call_tool("history"))


async def test_a_fault_is_in_a_report_and_ends_no_session(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("opensesame")

    monkeypatch.setenv("APP_TOKEN", "opensesame")
    monkeypatch.setattr(session, "with_session", broken)
    async with in_memory(load(config)) as client:
        text = error(await client.call_tool("status"))
        assert "internal-error-" in text
        assert "opensesame" not in text
        assert answer(await client.call_tool("history")) == {"trips": []}


async def test_an_expected_error_carries_its_hint_and_evidence(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ExceptionGroup(
            "x", [PlatformError("the API does not answer", evidence=("refused",), hint="start it")]
        )

    monkeypatch.setattr(session, "with_session", away)
    async with in_memory(load(config)) as client:
        assert "the API does not answer\nrefused\n-> start it" in error(await client.call_tool("status"))


def standing(monkeypatch: pytest.MonkeyPatch, **found: Standing) -> None:
    """What cluster and files say."""

    async def look(*_: object) -> dict[str, Standing]:
        return found

    monkeypatch.setattr(session, "with_session", look)
