"""What one container of a pod goes through on the engine: start, hooks, kill, its last message."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from devloop_sandbox.engine import images
from devloop_sandbox.engine.client import EngineError, frames
from devloop_sandbox.engine.holders import Holder
from devloop_sandbox.engine.namespaces import name_at_birth
from devloop_sandbox.engine.oom import correct_oom
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.node.container import Mount, container_name, create_body, hostname
from devloop_sandbox.node.environment import environment, service_links
from devloop_sandbox.node.handlers import handle
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.status import Record
from devloop_sandbox.node.volumes import Volumes
from devloop_sandbox.objects.resources import Obj

MESSAGE_PATH = "/dev/termination-log"
MESSAGE_SIZE = 4096  # bytes


class Runner:
    """The containers of one pod."""

    def __init__(self, parts: Parts, volumes: Volumes) -> None:
        self._parts = parts
        self._volumes = volumes

    async def start(self, pod: Obj, record: Record, holder: Holder, may_pull: bool) -> None:
        """Make the next attempt and start it; Problem says what its status should show."""
        engine, spec = self._parts.engine, record.spec

        def report(kind: str, reason: str, message: str) -> None:
            self._parts.report(pod, record, kind, reason, message)

        image = await images.ensure(engine, spec, report, may_pull)
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
                holder=holder.container,
                values=values,
                mounts=mounts,
                attempt=attempt,
                project=self._parts.options.project,
            )
        except Problem as problem:
            report("Warning", "Failed", f"Error: {problem.message}")
            raise
        container = await self._create(container_name(pod, spec, attempt), body, report)
        report("Normal", "Created", f"Created container: {record.name}")
        error = await self._start(container, hostname(pod), holder.pid)
        dropped, record.previous = record.previous, record.current or record.previous
        await self.look(record, container)
        record.waiting = None
        if dropped is not None and dropped is not record.previous:
            await engine.remove(dropped["Id"])
        if error is not None:
            text = f'failed to start container "{record.name}": Error response from daemon: {error}'
            report("Warning", "Failed", f"Error: {text}")
            raise Problem("RunContainerError", text)
        report("Normal", "Started", f"Started container {record.name}")

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

    async def _create(self, name: str, body: Obj, report: images.Report) -> str:
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
            report("Warning", "Failed", f"Error: {text}")
            raise Problem("CreateContainerError", text) from error

    async def _start(self, container: str, name: str, holder: int) -> str | None:
        naming = asyncio.create_task(name_at_birth(container, name, holder))
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
        failure = await handle(self._parts.engine, handler, record, address, 300)
        if failure is not None:
            text = f"PostStartHook failed: {failure}"
            self._parts.report(pod, record, "Warning", "FailedPostStartHook", text)
            await self.kill(pod, record, address, "FailedPostStartHook", 0)
            raise Problem("PostStartHookError", text)

    async def kill(
        self, pod: Obj, record: Record, address: str, why: str, grace: int, *, hooks: bool = True
    ) -> None:
        """preStop (unless not `hooks`), SIGTERM, and after `grace` seconds in all SIGKILL."""
        if record.current is None or not record.running:
            return
        if why:
            self._parts.report(pod, record, "Normal", "Killing", why)
        began = asyncio.get_running_loop().time()
        handler = (record.spec.get("lifecycle") or {}).get("preStop")
        if handler and hooks and grace > 0:
            try:
                async with asyncio.timeout(grace):
                    failure = await handle(self._parts.engine, handler, record, address, grace)
            except TimeoutError:
                failure = "context deadline exceeded"
            if failure is not None:
                text = f"PreStopHook failed: {failure}"
                self._parts.report(pod, record, "Warning", "FailedPreStopHook", text)
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
