"""The node: which pods are its own, and what the engine reports of their containers."""

from __future__ import annotations

import asyncio
import logging

from devloop_sandbox.engine.bridge import LABEL, ensure_network
from devloop_sandbox.engine.client import Engine, EngineError
from devloop_sandbox.engine.holders import TYPE, Holder, Pool, ensure_image
from devloop_sandbox.node import adoption, registration
from devloop_sandbox.node.access import Access
from devloop_sandbox.node.container import POD_UID
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.pod import Worker
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Event, Store

HEARTBEAT = 300.0  # seconds, as the kubelet's status period when nothing changes
RECONNECT = 1.0

logger = logging.getLogger(__name__)


class Node(Access):
    """Implements the Kubelet protocol (logs, exec, port_forward) through Access."""

    def __init__(self, store: Store, options: Options) -> None:
        super().__init__(Engine(options.engine))
        self._store = store
        self._options = options
        self.name = "devloop-sandbox" if options.name == "default" else f"devloop-sandbox-{options.name}"
        self._workers: dict[str, Worker] = {}
        self.started = False

    @property
    def _mine(self) -> str:
        return f"{LABEL}={self._options.project}"

    async def run(self) -> None:
        """Until cancelled. EngineError at the start if there is no engine; later it waits for it."""
        async with self._engine as engine:
            network = await ensure_network(engine, self._options.project)
            await ensure_image(engine)
            info = await engine.call("GET", "/info")
            capacity = registration.register(self._store, self.name, self._options, network, info)
            pool = Pool(engine, network, self._options.project)
            record = Recorder(self._store, "kubelet", self.name)
            parts = Parts(self._store, engine, pool, network, self._options, record, capacity)
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.parts = parts
                with self._store.subscribe() as events:
                    await self._adopt(parts)
                    self.started = True
                    group.create_task(pool.run())
                    group.create_task(self._follow_engine())
                    group.create_task(self._heartbeat())
                    async for event in events:
                        self._take(event)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            registration.report(self._store, self.name)

    async def _adopt(self, parts: Parts) -> None:
        """Go on with the pods of an earlier process."""
        pods = {pod["metadata"]["uid"]: pod for pod in self._store.list("pods") if self._is_mine(pod)}
        left = await adoption.find(parts, set(pods), self._mine)
        for uid, pod in pods.items():
            worker = Worker(parts, pod)
            await worker.adopt(left.containers.get(uid, []), left.holders.get(uid))
            self._begin(uid, worker)

    def holder(self, pod: Obj) -> Holder | None:
        worker = self._workers.get(pod["metadata"]["uid"])
        return worker.holder if worker is not None else None

    def _is_mine(self, pod: Obj) -> bool:
        return bool(pod["spec"].get("nodeName") == self.name)

    def _take(self, event: Event) -> None:
        """One change in the store."""
        meta = event.obj["metadata"]
        if event.resource == "pods" and self._is_mine(event.obj):
            worker = self._workers.get(meta["uid"])
            if worker is not None:
                worker.update(event.obj, gone=event.type == "DELETED")
            elif event.type != "DELETED":
                self._begin(meta["uid"], Worker(self.parts, event.obj))
        elif event.resource in ("configmaps", "secrets"):
            for worker in self._workers.values():
                if worker.pod["metadata"]["namespace"] == meta["namespace"]:
                    worker.wake()

    def _begin(self, uid: str, worker: Worker) -> None:
        self._workers[uid] = worker
        worker.update(worker.pod)
        self._group.create_task(self._run(uid, worker))

    async def _run(self, uid: str, worker: Worker) -> None:
        """A pod's life. What breaks one pod (a spec nobody foresaw) must not end the node."""
        try:
            while True:
                try:
                    await worker.run()
                    return
                except* (
                    ApiError,
                    EngineError,
                    OSError,
                    LookupError,
                    TypeError,
                    ValueError,
                    AttributeError,
                ) as group:
                    logger.exception("pod %s", worker.pod["metadata"]["name"], exc_info=group)
                    await asyncio.sleep(5)
        finally:
            self._workers.pop(uid, None)

    async def _follow_engine(self) -> None:
        """Pass the engine's events on; after a gap everything is looked at again."""
        while True:
            try:
                async for message in self._engine.events(self._mine):
                    if not message:
                        self._look_at_everything()
                    elif message["Action"] in ("die", "destroy"):
                        self._changed(message["Actor"]["ID"], message["Actor"]["Attributes"])
            except EngineError as error:
                logger.warning("engine events: %s", error)
            registration.report(self._store, self.name, ready=False)
            while not await self._engine_answers():  # noqa: ASYNC110  a dead engine sends no event
                await asyncio.sleep(RECONNECT)
            registration.report(self._store, self.name)

    async def _engine_answers(self) -> bool:
        try:
            await self._engine.call("GET", "/_ping")
        except EngineError:
            return False
        return True

    def _look_at_everything(self) -> None:
        for worker in self._workers.values():
            for record in worker.records:
                if record.current is not None:
                    worker.container_changed(record.current["Id"])
            if worker.holder is not None:
                worker.container_changed(worker.holder.container)

    def _changed(self, container: str, labels: Obj) -> None:
        worker = self._workers.get(labels.get(POD_UID, ""))
        if worker is not None:
            worker.container_changed(container)
        elif labels.get(TYPE) == "podsandbox":
            self.parts.pool.drop(container)
            for other in self._workers.values():
                if other.holder is not None and other.holder.container == container:
                    other.container_changed(container)
