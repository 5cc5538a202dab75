"""A coding agent at work: the SDK's own client, the processes of `mcp` and `watch`, a real cluster."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import TextContent

from tests.e2e.test_save_to_serving import digest_in_container
from tests.support.sample_project import Project

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.anyio, pytest.mark.timeout(300)]


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The object that the tool answers."""
    result = await client.call_tool(tool, arguments)
    (text,) = result.content
    assert isinstance(text, TextContent)
    assert not result.is_error, text.text
    assert json.loads(text.text) == result.structured_content
    return dict(result.structured_content)


async def waited(client: Client) -> dict[str, Any]:
    """What became of the backend."""
    found: dict[str, Any] = (await called(client, "wait", services=["backend"], timeout=120))["services"][
        "backend"
    ]
    return found


def runs(project: Project) -> str:
    return digest_in_container(project, "src/greeting.py")


def on_disk(project: Project) -> str:
    return hashlib.sha256(project.greeting.read_bytes()).hexdigest()


async def test_an_agent_edits_waits_reads_the_failure_fixes_and_waits_until_it_is_live(
    project: Project,
) -> None:
    project.once()
    command, *words = project.command("mcp")
    started = StdioServerParameters(
        command=command, args=words, cwd=project.root, env=project.sandbox.environ
    )
    with project.watch() as watch:
        watch.wait("both live", watch.live)
        async with Client(stdio_client(started)) as client:
            first = await waited(client)
            assert first["state"] == "live"

            project.greet("by an agent")
            edited = await waited(client)
            assert (edited["state"], edited["paths"]) == ("live", [str(project.greeting)])
            assert runs(project) == on_disk(project)

            project.greeting.write_text("GREETING = broken(\n")
            failed = await waited(client)
            assert (failed["state"], failed["stage"]) == ("failed", "rollout")
            assert "SyntaxError" in failed["cause"]
            assert "greeting.py" in failed["cause"]
            assert any("greeting.py" in line for line in failed["log"])

            project.greet("mended")
            mended = await waited(client)
            assert mended["state"] == "live", watch.text()
            assert runs(project) == on_disk(project)

            status = (await called(client, "status"))["services"]["backend"]
            assert (status["state"], status["running"], status["stage"]) == (
                "live",
                [mended["image"]],
                "live",
            )
            logged = await called(
                client, "logs", services=["backend"], grep="Uvicorn running|startup complete"
            )
            assert logged["lines"]
            assert {line["service"] for line in logged["lines"]} == {"backend"}
            trips = (await called(client, "history", services=["backend"], last=3))["trips"]
            assert [trip["outcome"] for trip in trips] == ["live", "failed", "live"]
            groups = (await called(client, "explain", services=["backend"]))["services"]["backend"]["groups"]
            assert "src/greeting.py" in next(one for one in groups if one["how"] == "delta")["paths"]

            pods = {pod["metadata"]["name"] for pod in backend_pods(project)}
            assert (await called(client, "restart", services=["backend"]))["services"]["backend"]["done"]
            assert (await waited(client))["state"] == "live"
            assert not pods & {pod["metadata"]["name"] for pod in backend_pods(project) if not ends(pod)}

            back = await called(client, "rollback", service="backend")
            assert back["image"] == edited["image"]
            held = await waited(client)
            assert held["state"] == "held"
            project.greet("after the hold")
            assert (await waited(client))["state"] == "live"
            assert runs(project) == on_disk(project)

            rebuilt = await called(client, "rebuild", services=["backend"])
            assert rebuilt["services"]["backend"] == {"done": True, "message": "rebuilding", "hint": None}
            assert (await waited(client))["state"] == "live"


def backend_pods(project: Project) -> list[dict[str, Any]]:
    return project.sandbox.pods(project.namespace, "app.kubernetes.io/name=backend")


def ends(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]
