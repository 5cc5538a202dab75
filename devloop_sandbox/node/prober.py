"""The probes of a running container: startup first, then readiness and liveness side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from devloop_sandbox.node import probes
from devloop_sandbox.node.handlers import handle
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj

Kill = Callable[[str, int], None]  # why, grace period in seconds


class Prober:
    """For one pod. `changed` is called when a container has started or its readiness has changed."""

    def __init__(self, parts: Parts, changed: Callable[[], None]) -> None:
        self._parts = parts
        self._changed = changed
        self._anchor = asyncio.get_running_loop().time()

    async def watch(self, pod: Obj, record: Record, address: str, kill: Kill) -> None:
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
        kill: Kill,
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
            failure = await handle(self._parts.engine, spec, record, address, timeout)
            if not _alive(record, container):
                return False
            if failure is not None:
                word = kind.removesuffix("Probe").capitalize()
                self._parts.report(pod, record, "Warning", "Unhealthy", f"{word} probe failed: {failure}")
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


def _alive(record: Record, container: str) -> bool:
    return record.current is not None and record.running and record.current["Id"] == container
