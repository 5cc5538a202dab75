"""What the API server may ask of the node: logs, exec, port-forward. Implements the Kubelet protocol."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from devloop_sandbox.engine.client import Engine, EngineError, frames
from devloop_sandbox.engine.holders import Holder
from devloop_sandbox.engine.namespaces import within
from devloop_sandbox.node.container import ATTEMPT, CONTAINER, POD_UID
from devloop_sandbox.objects import errors
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj

_CHUNK = 65536


class Session:
    """A command in a container; see devloop_sandbox.kubelet.ExecSession."""

    def __init__(
        self, engine: Engine, identity: str, reader: StreamReader, writer: StreamWriter, tty: bool
    ) -> None:
        self._engine = engine
        self._identity = identity
        self._reader = reader
        self._writer = writer
        self._tty = tty
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close_stdin(self) -> None:
        self._writer.write_eof()

    async def resize(self, width: int, height: int) -> None:
        params = {"w": str(width), "h": str(height)}
        try:
            await self._engine.call("POST", f"/exec/{self._identity}/resize", params=params)
        except EngineError:
            return  # it has just ended

    async def close(self) -> None:
        self._writer.close()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._tty:
            while data := await self._reader.read(_CHUNK):
                yield 1, data
        else:
            async for frame in frames(self._reader):
                yield frame
        state = await self._engine.call("GET", f"/exec/{self._identity}/json")
        self._exit_code = int(state["ExitCode"] or 0)


class Access:
    """The node's half that reads the engine on behalf of a client."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def holder(self, pod: Obj) -> Holder | None:
        """The pod's network, None if it has none yet."""
        raise NotImplementedError

    async def logs(
        self,
        pod: Obj,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_seconds: int | None,
        since_time: str | None,
        previous: bool,
        timestamps: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]:
        """What the container wrote, both streams in order; ApiError 400 if there is none (yet)."""
        found = _chosen(await self._attempts(pod, container), _state(pod, container), previous)
        if not found:
            raise _no_logs(pod, container, previous)
        params = {"stdout": "1", "stderr": "1"}
        params["follow"] = "1" if follow else "0"
        params["timestamps"] = "1" if timestamps else "0"
        if tail_lines is not None:
            params["tail"] = str(tail_lines)
        if since_seconds is not None:
            params["since"] = f"{datetime.now(UTC).timestamp() - since_seconds:.9f}"
        elif since_time:
            params["since"] = f"{datetime.fromisoformat(since_time).timestamp():.9f}"
        tty = any(entry.get("tty") for entry in _specs(pod) if entry["name"] == container)
        left = limit_bytes
        path = f"/containers/{found[-1]['Id']}/logs"
        try:
            async with self._engine.open("GET", path, params=params) as answer:
                parts = answer.content.iter_any() if tty else _payload(answer.content)
                async for data in parts:
                    yield data if left is None else data[:left]
                    if left is not None and (left := left - len(data)) <= 0:
                        return
        except EngineError as error:
            if error.status == 404:  # listed, but not quite there yet, or any more
                raise _no_logs(pod, container, previous) from error
            raise ApiError(500, "InternalError", f"logs of {container}: {error}") from error

    async def exec(
        self,
        pod: Obj,
        container: str,
        command: list[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> Session:
        """Start the command. ApiError 400 if the container does not run, 500 if the engine refuses."""
        running = [entry for entry in await self._attempts(pod, container) if entry["State"] == "running"]
        if not running:
            raise errors.bad_request(f"container {container} is not running in pod {pod['metadata']['name']}")
        body = {
            "Cmd": command,
            "AttachStdin": stdin,
            "AttachStdout": stdout,
            "AttachStderr": stderr and not tty,
            "Tty": tty,
        }
        try:
            made = await self._engine.call("POST", f"/containers/{running[-1]['Id']}/exec", body=body)
            start = {"Detach": False, "Tty": tty}
            reader, writer = await self._engine.hijack(f"/exec/{made['Id']}/start", start)
        except EngineError as error:
            raise ApiError(500, "InternalError", f"error executing command in container: {error}") from error
        return Session(self._engine, made["Id"], reader, writer, tty)

    async def port_forward(self, pod: Obj, port: int) -> tuple[StreamReader, StreamWriter]:
        """A connection to 127.0.0.1:port inside the pod. ApiError 500 if nobody listens there."""
        meta, holder = pod["metadata"], self.holder(pod)
        if holder is None:
            raise errors.bad_request(f"pod {meta['name']} is not running")
        try:
            connected = await within(
                holder.pid, "net", lambda: socket.create_connection(("127.0.0.1", port), 5)
            )
        except OSError as error:
            text = f"error forwarding port {port} to pod {meta['name']}, uid {meta['uid']}: {error}"
            raise ApiError(500, "InternalError", text) from error
        return await asyncio.open_connection(sock=connected)

    async def _attempts(self, pod: Obj, container: str) -> list[Obj]:
        """The engine's containers of that name in the pod, oldest first."""
        if not any(entry["name"] == container for entry in _specs(pod)):
            name = pod["metadata"]["name"]
            raise errors.bad_request(f"container {container} is not valid for pod {name}")
        try:
            found = await self._engine.containers(
                f"{POD_UID}={pod['metadata']['uid']}", f"{CONTAINER}={container}"
            )
        except EngineError as error:
            raise ApiError(500, "InternalError", f"containers of the pod: {error}") from error
        return sorted(found, key=lambda entry: int(entry["Labels"][ATTEMPT]))


def _specs(pod: Obj) -> list[Obj]:
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


async def _payload(reader: object) -> AsyncIterator[bytes]:
    async for _, data in frames(reader):  # type: ignore[arg-type]  # aiohttp's StreamReader
        yield data


def _chosen(attempts: list[Obj], state: Obj, previous: bool) -> list[Obj]:
    """The attempts up to the one whose log is asked for; one that has not started yet has none, and in a
    back-off the newest is the one before."""
    newest = attempts[-1]["State"] if attempts else ""
    if previous:
        return attempts if "waiting" in state and newest == "exited" else attempts[:-1]
    return attempts[:-1] if newest == "created" else attempts


def _state(pod: Obj, container: str) -> Obj:
    """The container's state as the API has it."""
    status = pod.get("status", {})
    everything = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return next((entry["state"] for entry in everything if entry["name"] == container), {})


def _no_logs(pod: Obj, container: str, previous: bool) -> ApiError:
    name = pod["metadata"]["name"]
    if previous:
        return errors.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    reason = _state(pod, container).get("waiting", {}).get("reason", "ContainerCreating")
    return errors.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
