"""Running containers whose image has changed in the pod: killed, so that the new image takes their place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from devloop_sandbox.engine.client import EngineError
from devloop_sandbox.node.attempts import Attempts
from devloop_sandbox.node.removal import AWAY
from devloop_sandbox.node.runner import Runner
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj


class Replacement:
    """For one pod. `changed` gets the id of a container that should be looked at again."""

    def __init__(self, attempts: Attempts, runner: Runner, changed: Callable[[str], None]) -> None:
        self._attempts = attempts
        self._runner = runner
        self._changed = changed

    def take_specs(self, pod: Obj, records: Iterable[Record]) -> None:
        """Of all that a container is only its image may change. One that is being killed for an image gets
        that first, like the kubelet's, which looks at the pod again when it has started it."""
        spec = pod["spec"]
        wanted = [*(spec.get("initContainers") or []), *spec["containers"]]
        for record, one in zip(records, wanted, strict=True):
            if not (record.leaving or self._attempts.may_replace(record)):
                record.spec = one

    def begin(self, pod: Obj, record: Record, address: str) -> Awaitable[None] | None:
        """The killing of an outdated container, to be awaited; None if it goes on already."""
        assert record.current is not None
        if record.leaving == record.current["Id"]:
            return None
        record.leaving = record.current["Id"]
        if not self._attempts.may_replace(record):
            self._attempts.will_replace(record)
        return self._kill(pod, record, address)

    async def _kill(self, pod: Obj, record: Record, address: str) -> None:
        container = record.leaving
        text = f"Container {record.name} definition changed, will be restarted"
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        try:
            await self._runner.kill(pod, record, address, text, grace or 1)
        except EngineError:
            await asyncio.sleep(AWAY)
        finally:
            record.leaving = ""
            self._changed(container)
