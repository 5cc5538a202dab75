"""Everything that one container of a pod goes through on the engine: start, hooks, probes, kill."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from devloop_sandbox.node import images, probes
from devloop_sandbox.node.container import Mount, container_name, create_body, hostname
from devloop_sandbox.node.engine import Engine, EngineError, frames
from devloop_sandbox.node.environment import environment, service_links
from devloop_sandbox.node.infra import Holder, Network, Pool
from devloop_sandbox.node.namespaces import name_at_birth
from devloop_sandbox.node.oom import correct_oom
from devloop_sandbox.node.problem import Problem
from devloop_sandbox.node.status import Record
from devloop_sandbox.node.volumes import Volumes
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Store

MESSAGE_PATH = "/dev/termination-log"
MESSAGE_SIZE = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """What the node lends to each pod."""

    store: Store
    engine: Engine
    pool: Pool
    network: Network
    options: Options
    record: Recorder
    capacity: Obj


class Runner:
    """The containers of one pod. `changed` is called when readiness or a verdict has changed."""

    def __init__(self, parts: Parts, volumes: Volumes, changed: Callable[[], None]) -> None:
        self._parts = parts
        self._volumes = volumes
        self._changed = changed
        self._anchor = asyncio.get_running_loop().time()

    def tell(self, pod: Obj, record: Record, kind: str, reason: str, message: str) -> None:
        part = "initContainers" if record.init else "containers"
        self._parts.record(pod, kind, reason, message, f"spec.{part}{{{record.name}}}")

    async def start(self, pod: Obj, record: Record, holder: Holder, may_pull: bool) -> None:
        """Make the next attempt and start it; Problem says what its status should show."""
        engine, spec = self._parts.engine, record.spec

        def tell(kind: str, reason: str, message: str) -> None:
            self.tell(pod, record, kind, reason, message)

        image = await images.ensure(engine, spec, tell, may_pull)
        attempt = record.attempt + 1
        try:
            links = service_links(self._linked(pod))
            values = environment(pod, spec, self._parts.store.find, self._parts.capacity, links)
            target = spec.get("terminationMessagePath") or MESSAGE_PATH
            mounts = [
                *self._volumes.files(pod, self._parts.network.gateway),
                *self._volumes.mounts(pod, spec),
                Mount(self._volumes.log_file(spec, attempt), target),
            ]
            body = create_body(
                pod,
                spec,
                image=image,
                infra=holder.container,
                values=values,
                mounts=mounts,
                attempt=attempt,
                project=self._parts.options.project,
            )
        except Problem as problem:
            tell("Warning", "Failed", f"Error: {problem.message}")
            raise
        container = await self._create(container_name(pod, spec, attempt), body, tell)
        tell("Normal", "Created", f"Created container: {record.name}")
        error = await self._start(container, hostname(pod))
        dropped, record.previous = record.previous, record.current or record.previous
        await self.look(record, container)
        record.waiting = None
        if dropped is not None and dropped is not record.previous:
            await engine.remove(dropped["Id"])
        if error is not None:
            text = f'failed to start container "{record.name}": Error response from daemon: {error}'
            tell("Warning", "Failed", f"Error: {text}")
            raise Problem("RunContainerError", text)
        tell("Normal", "Started", f"Started container {record.name}")

    def _linked(self, pod: Obj) -> list[Obj]:
        """The API server's Service, and those of the namespace unless enableServiceLinks is off."""
        own = self._parts.store.find("services", "default", "kubernetes")
        services = [own] if own is not None else []
        if pod["spec"].get("enableServiceLinks", True):
            services += self._parts.store.list("services", pod["metadata"]["namespace"])
        return services

    async def look(self, record: Record, container: str) -> None:
        """Take what the engine says of it now as the record's current state."""
        try:
            record.current = await self._parts.engine.inspect(container)
        except EngineError as error:
            if error.status != 404 or record.current is None:
                raise
            record.current["State"] |= {"Running": False, "ExitCode": 137}  # removed by hand
        if record.exited:
            record.ready = record.started = False
            correct_oom(record.current)
            await self.last_words(record)

    async def _create(self, name: str, body: Obj, tell: images.Tell) -> str:
        try:
            try:
                return await self._parts.engine.create(name, body)
            except EngineError as error:
                if error.status != 409:
                    raise
                await self._parts.engine.remove(name)  # an attempt that was cut short left it
                return await self._parts.engine.create(name, body)
        except EngineError as error:
            if error.status == 0:
                raise
            text = f"Error response from daemon: {error.message}"
            tell("Warning", "Failed", f"Error: {text}")
            raise Problem("CreateContainerError", text) from error

    async def _start(self, container: str, name: str) -> str | None:
        naming = asyncio.create_task(name_at_birth(container, name))
        try:
            await self._parts.engine.start(container)
        except EngineError as error:
            if error.status == 0:
                raise
            return error.message
        finally:
            naming.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await naming
        return None

    async def post_start(self, pod: Obj, record: Record, address: str) -> None:
        handler = (record.spec.get("lifecycle") or {}).get("postStart")
        if not handler:
            return
        failure = await self._handle(handler, record, address, 300)
        if failure is not None:
            self.tell(pod, record, "Warning", "FailedPostStartHook", f"PostStartHook failed: {failure}")
            await self.kill(pod, record, address, "FailedPostStartHook", 0)
            raise Problem("PostStartHookError", f"PostStartHook failed: {failure}")

    async def kill(
        self, pod: Obj, record: Record, address: str, why: str, grace: int, *, hooks: bool = True
    ) -> None:
        """preStop (unless not `hooks`), SIGTERM, and after `grace` seconds in all SIGKILL."""
        if record.current is None or not record.running:
            return
        if why:
            self.tell(pod, record, "Normal", "Killing", why)
        began = asyncio.get_running_loop().time()
        handler = (record.spec.get("lifecycle") or {}).get("preStop")
        if handler and hooks and grace > 0:
            try:
                async with asyncio.timeout(grace):
                    failure = await self._handle(handler, record, address, grace)
            except TimeoutError:
                failure = "context deadline exceeded"
            if failure is not None:
                self.tell(pod, record, "Warning", "FailedPreStopHook", f"PreStopHook failed: {failure}")
        left = grace - (asyncio.get_running_loop().time() - began)
        # after a hook that used the whole grace the kubelet still gives two seconds
        await self._parts.engine.stop(record.current["Id"], max(round(left), 2 if grace else 0))

    async def last_words(self, record: Record) -> None:
        """Read the termination message of a container that has just died."""
        dead = record.current
        if dead is None or record.running or dead["Id"] in record.messages:
            return
        text = ""
        with suppress(OSError):
            text = self._volumes.log_file(record.spec, record.attempt).read_text(errors="replace")
        fallback = record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not text and fallback and dead["State"]["ExitCode"]:
            params = {"stdout": "1", "stderr": "1", "tail": "80"}
            async with self._parts.engine.open(
                "GET", f"/containers/{dead['Id']}/logs", params=params
            ) as answer:
                text = b"".join([data async for _, data in frames(answer.content)]).decode(errors="replace")
                text = text[-2048:]
        record.messages[dead["Id"]] = text[:MESSAGE_SIZE]

    async def watch(self, pod: Obj, record: Record, address: str, kill: Callable[[str, int], None]) -> None:
        """Run the probes of a running container until it ends; cancelled with its pod."""
        assert record.current is not None
        container = record.current["Id"]
        if "startupProbe" in record.spec and not record.started:
            while not await self._probe(pod, record, "startupProbe", address, container, kill):
                if not _alive(record, container):
                    return
        record.started = True
        record.ready = record.ready or "readinessProbe" not in record.spec
        self._changed()
        async with asyncio.TaskGroup() as group:
            for kind in ("readinessProbe", "livenessProbe"):
                if kind in record.spec:
                    group.create_task(self._probe(pod, record, kind, address, container, kill))

    async def _probe(
        self,
        pod: Obj,
        record: Record,
        kind: str,
        address: str,
        container: str,
        kill: Callable[[str, int], None],
    ) -> bool:
        """Probe until there is nothing left to find out; True = the startup probe has passed."""
        spec = record.spec[kind]
        streak = probes.Streak(spec.get("successThreshold") or 1, spec.get("failureThreshold") or 3)
        period, timeout = float(spec.get("periodSeconds") or 10), float(spec.get("timeoutSeconds") or 1)
        loop = asyncio.get_running_loop()
        assert record.current is not None
        age = datetime.now(UTC) - datetime.fromisoformat(record.current["State"]["StartedAt"][:19] + "+00:00")
        await asyncio.sleep(max(0.0, (spec.get("initialDelaySeconds") or 0) - age.total_seconds()))
        while _alive(record, container):
            failure = await self._handle(spec, record, address, timeout)
            if not _alive(record, container):
                return False
            if failure is not None:
                word = kind.removesuffix("Probe").capitalize()
                self.tell(pod, record, "Warning", "Unhealthy", f"{word} probe failed: {failure}")
            verdict = streak.feed(failure is None)
            if kind == "readinessProbe" and verdict is not None and verdict != record.ready:
                record.ready = verdict
                self._changed()
            elif kind == "startupProbe" and verdict:
                return True
            elif kind != "readinessProbe" and verdict is False:
                word = kind.removesuffix("Probe")
                grace = spec.get("terminationGracePeriodSeconds")
                default = pod["spec"].get("terminationGracePeriodSeconds", 30)
                text = f"Container {record.name} failed {word} probe, will be restarted"
                kill(text, default if grace is None else grace)
                return False
            await asyncio.sleep(probes.next_due(self._anchor, loop.time(), period) - loop.time())
        return False

    async def _handle(self, handler: Obj, record: Record, address: str, timeout: float) -> str | None:
        assert record.current is not None
        container = record.current["Id"]

        async def run(command: list[str], limit: float) -> tuple[int, str]:
            return await execute(self._parts.engine, container, command, limit)

        try:
            return await probes.check(handler, record.spec, address, run, timeout)
        except EngineError as error:
            return error.message


def _alive(record: Record, container: str) -> bool:
    return record.current is not None and record.running and record.current["Id"] == container


async def execute(engine: Engine, container: str, command: list[str], timeout: float) -> tuple[int, str]:
    """Run a command in a container to its end: (exit code, output). A late one is killed."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
    made = await engine.call("POST", f"/containers/{container}/exec", body=body)
    output = bytearray()
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await engine.hijack(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
            async for _, data in frames(reader):
                output += data[: probes.BODY - len(output)]
            writer.close()
    except TimeoutError:
        running = await engine.call("GET", f"/exec/{made['Id']}/json")
        with suppress(OSError):
            if running.get("Pid"):
                os.kill(running["Pid"], signal.SIGKILL)
        return 1, f'command "{" ".join(command)}" timed out'
    state = await engine.call("GET", f"/exec/{made['Id']}/json")
    return int(state["ExitCode"] or 0), output.decode(errors="replace")
