"""One command in a running container, for probes and hooks."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from devloop_sandbox.engine.client import Engine, frames

OUTPUT = 10 * 1024  # bytes that are kept


async def execute(engine: Engine, container: str, command: list[str], timeout: float) -> tuple[int, str]:
    """Run a command in a container to its end: (exit code, output). A late one is killed."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
    made = await engine.call("POST", f"/containers/{container}/exec", body=body)
    output = bytearray()
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await engine.hijack(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
            async for _, data in frames(reader):
                output += data[: OUTPUT - len(output)]
            writer.close()
    except TimeoutError:
        running = await engine.call("GET", f"/exec/{made['Id']}/json")
        with suppress(OSError):
            if running.get("Pid"):
                os.kill(running["Pid"], signal.SIGKILL)
        return 1, f'command "{" ".join(command)}" timed out'
    state = await engine.call("GET", f"/exec/{made['Id']}/json")
    return int(state["ExitCode"] or 0), output.decode(errors="replace")
