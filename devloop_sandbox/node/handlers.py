"""One probe or hook, once: a command in the container, an HTTP request, a connection."""

from __future__ import annotations

from devloop_sandbox.engine.client import Engine, EngineError
from devloop_sandbox.engine.command import execute
from devloop_sandbox.node import probes
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
