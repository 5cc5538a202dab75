"""What the node lends to each of its pods."""

from __future__ import annotations

from dataclasses import dataclass

from devloop_sandbox.engine.bridge import Network
from devloop_sandbox.engine.client import Engine
from devloop_sandbox.engine.holders import Pool
from devloop_sandbox.node.status import Record
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """`record` writes events, `capacity` is the Node object's."""

    store: Store
    engine: Engine
    pool: Pool
    network: Network
    options: Options
    record: Recorder
    capacity: Obj

    def report(self, pod: Obj, record: Record, kind: str, reason: str, message: str) -> None:
        """Write an event about one container of the pod."""
        part = "initContainers" if record.init else "containers"
        self.record(pod, kind, reason, message, f"spec.{part}{{{record.name}}}")
