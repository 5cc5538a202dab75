"""One probe or hook, once: a command in the container, an HTTP request, a connection."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from devloop_sandbox.node import probes
from devloop_sandbox.node.engine import Engine, EngineError, frames
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj


async def handle(engine: Engine, handler: Obj, record: Record, address: str, timeout: float) -> str | None:
    """None if it succeeded within `timeout` seconds, else why not; `address` is the pod's."""
    assert record.current is not None
    container = record.current["Id"]

    async def run(command: list[str], limit: float) -> tuple[int, str]:
        return await execute(engine, container, command, limit)

    try:
        return await probes.check(handler, record.spec, address, run, timeout)
    except EngineError as error:
        return error.message


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
