"""`devloop mcp`: tools of the Model Context Protocol for a coding agent, over the control socket of a running
watch (docs/mcp.md). Each does what the command of its name does, and answers with one object.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import anyio.to_thread
from pydantic import BaseModel, Field

from devloop import __version__
from devloop.commands import control, wait
from devloop.commands.frame import Project, run
from devloop.commands.mcp_answers import Explained, Held, Line, Logs, Results, Status, Trips, Waited
from devloop.errors import ConfigError, DevloopError
from devloop.fault_reports import error_of

if TYPE_CHECKING:
    from devloop.wiring import Session

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise ConfigError(
        f"devloop mcp needs the Python package mcp, 2.3 or newer, which is not installed: {error}",
        reason="MissingDependency",
        hint="pip install 'devloop[mcp]'",
    ) from error

INSTRUCTIONS = """\
devloop brings what is saved in this project to a local Kubernetes cluster: a running `devloop watch` builds \
the image that changed, loads it, updates the workload and follows the rollout. Do not build images or run \
kubectl apply for that. After you have edited files, call `wait` once: it answers for the files as they are \
at that moment, never for older ones. Where a service failed, `cause`, `log` and `hint` of it say why: \
mend the file and call `wait` again. Where no devloop watch is running, start `devloop watch` in the \
background, or ask the user to.
"""
LISTED = 20  # paths per group that `explain` names
READ = 2000  # lines of each container that `logs` looks at
Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Load = Callable[[], Project]

Services = Annotated[tuple[str, ...], Field(description="Names of services of config.yaml; none: all.")]
Service = Annotated[str, Field(description="The name of a service of config.yaml.")]


class Tools:
    """What the agent may call; the docstrings are what it reads about each. Each raises DevloopError."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def wait(
        self,
        services: Services = (),
        goal: Annotated[
            Literal["live", "settled", "failed"],
            Field(description="what `reached` means; settled: whatever was decided"),
        ] = "live",
        timeout: Annotated[float, Field(description="seconds", ge=0, le=3600)] = 45,
    ) -> Waited:
        """Wait until it is decided what the cluster makes of the files as they are now. Call it once after
        each edit, or set of edits: all files are looked at anew, so there is no need to pause before.

        Per service: state `live` means that all its pods are ready and run exactly these files (url: where).
        `failed`: stage (build, load, rollout ...), cause (one line, with file and line where known), log (the
        last lines of the build or container) and hint say why; the pods before go on serving. Mend the file
        and call it again. `held` (by rollback) and `paused` (by a person): files are not followed; tell the
        user. `pending` (trigger: manual): what was saved waits for `devloop trigger SERVICE`. `contested`:
        somebody else changes the workload. `undecided` with timed_out: call it again.
        """
        project = await self._project()
        answer = await wait.ask(project, services, goal, timeout, lambda _: None)
        if answer is None:
            from devloop.commands import wait_once
            from devloop.commands.session import with_session

            found = await with_session(project, services, wait_once.look)
            answer = wait_once.decided(project, services, goal, found)
        return Waited.model_validate(answer)

    async def status(self, services: Services = ()) -> Status:
        """How each service stands in the cluster now, read without waiting, with or without a running watch.
        For an overview; after an edit call `wait` instead, which cannot answer for older files.

        Per service: state (live; rolling; stuck: its pods do not get ready, see cause; stale: the cluster
        runs other content than the files; held; missing: not deployed; built-only; unknown: see message),
        ready of replicas, pods, image (of the files), running (in the cluster), url, message, hint, and
        stage: what a running devloop watch does with it, null without one.
        """
        from devloop.commands import status
        from devloop.commands.session import with_session
        from devloop.sinks.standing import as_object

        project = await self._project()
        found = await with_session(project, services, status.look)
        report = await anyio.to_thread.run_sync(status.reported, project, services, found)
        shown = as_object(report.standings, report.stages)
        return Status(**shown, problems=dict(report.problems), watch_elsewhere=report.elsewhere)

    async def logs(
        self,
        services: Services = (),
        last: Annotated[int, Field(description="how many lines, of all together", ge=1, le=READ)] = 100,
        since: Annotated[float, Field(description="seconds: only what was logged since; 0: all", ge=0)] = 0,
        grep: Annotated[str, Field(description="only lines with this regular expression")] = "",
    ) -> Logs:
        """The newest lines that the pods log, of all containers in the order of time; what config.yaml mutes
        (logs.mute: probes, access lines) is left out. To see what a live service does: requests that fail,
        exceptions. The log of a build or container that failed is in the answer of `wait` already."""
        from devloop.commands import logs
        from devloop.commands.output import secrets_of
        from devloop.commands.session import with_session
        from devloop.events import Event, PodLog

        project = await self._project()
        hide, is_wanted = (
            secrets_of(project.config, services),
            logs.wanted_by(logs.pattern_of(grep), project.config),
        )
        found: deque[Line] = deque(maxlen=last)

        def keep(event: Event) -> None:
            if isinstance(event, PodLog) and is_wanted(event.line):
                line = hide(event.line)
                found.append(Line(service=event.service, pod=event.pod, container=event.container, line=line))

        async def read(session: Session) -> int:
            async with AsyncExitStack() as stack:
                feeds = await logs.feeds_of(session, stack)
                return len(await logs.read(session, feeds, keep, since or None, READ))

        containers = await with_session(project, services, read)
        return Logs(lines=list(found), containers=containers)

    async def history(
        self,
        services: Services = (),
        last: Annotated[int, Field(description="how many, at most", ge=1, le=1000)] = 10,
    ) -> Trips:
        """The last trips from a save to the cluster, the newest last: when, outcome, seconds per stage,
        files, why it began, image, and the error of one that failed. To find out when something broke."""
        from devloop.commands import history

        project = await self._project()
        trips = await anyio.to_thread.run_sync(history.read, project, services, last)
        return Trips(trips=trips)

    async def explain(self, services: Services = ()) -> Explained:
        """Which files make an edit fast (`how`: delta), which one a build of the RUN instructions alone (run)
        or a full build (full), with the line of the Dockerfile that stops a delta and what helps. Call it
        when edits take long. Of a group of files the first 20 are named; `count` is how many they are."""
        from devloop.commands import explain
        from devloop.commands.output import concealed, secrets_of
        from devloop.commands.session import with_session

        project = await self._project()
        answers = await with_session(project, services, explain.answers_of)
        found = {service.name: explain.as_object(service, groups) for service, groups in answers}
        for one in found.values():
            one["groups"] = [_shortened(group) for group in one["groups"]]
        hidden = concealed({"services": found}, secrets_of(project.config, services))
        return Explained.model_validate(hidden)

    async def rebuild(self, services: Services = ()) -> Results:
        """Have the running watch build images anew and in full, though no file has changed. For what no file
        shows, such as a newer base image or package. Returns when that has begun: then call `wait`."""
        return await self._have_done("rebuild", services)

    async def restart(self, services: Services = ()) -> Results:
        """Have the running watch replace the pods, with the image that they have: for a process that is in a
        bad state. No edit needs it. Returns when that has begun: then call `wait`."""
        return await self._have_done("restart", services)

    async def rollback(self, service: Service) -> Held:
        """Put the service back to the image that was live before, and hold it there until its files change or
        somebody runs `devloop resume`. Files are not touched. Only if the user wants the earlier version to
        run; after a failed edit the earlier pods serve anyway. Waits until the image runs."""
        from devloop.commands import rollback
        from devloop.commands.session import with_session

        notes: list[str] = []
        project = await self._project()
        image = await with_session(project, (service,), partial(rollback.hold_earlier, notes.append))
        return Held(image=image, notes=notes)

    async def _have_done(self, do: str, services: tuple[str, ...]) -> Results:
        return Results(services=await control.have_done(await self._project(), do, services))

    async def _project(self) -> Project:
        """As config.yaml is now."""
        return await anyio.to_thread.run_sync(self._load)


def server_of(tools: Tools) -> MCPServer[Any]:
    """The server with each of the tools."""
    server: MCPServer[Any] = MCPServer("devloop", version=__version__, instructions=INSTRUCTIONS)
    reading = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    writing = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
    _add(server, reading, tools.wait, tools.status, tools.logs, tools.history, tools.explain)
    _add(server, writing, tools.rebuild, tools.restart, tools.rollback)
    return server


def mcp(load: Load) -> None:
    """Serve on standard input and output until the client closes them. `load` reads config.yaml."""
    run(server_of(Tools(load)).run_stdio_async)


def _add(server: MCPServer[Any], hints: ToolAnnotations, *tools: Callable[..., Awaitable[BaseModel]]) -> None:
    for tool in tools:
        description = inspect.cleandoc(tool.__doc__ or "")
        server.add_tool(_with_errors(tool), tool.__name__, description=description, annotations=hints)


def _with_errors(tool: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """What it raises as an error that the agent reads; what nobody expected is in a report."""

    @wraps(tool)
    async def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        try:
            return await tool(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the border: one call ends no other
            raise ToolError(_text(error_of(f"the tool {tool.__name__}", error))) from None

    return call


def _text(error: DevloopError) -> str:
    hint = (f"-> {error.hint}",) if error.hint else ()
    return "\n".join((error.message, *error.evidence, *hint))


def _shortened(group: dict[str, Any]) -> dict[str, Any]:
    """With how many paths it has, and the first of them."""
    return {**group, "paths": group["paths"][:LISTED], "count": len(group["paths"])}
