"""The node: which pods are its own, what the engine tells, and what `down` takes away."""

from __future__ import annotations

import asyncio
import logging
import platform
import shutil

from devloop_sandbox.network.addresses import remove_all
from devloop_sandbox.node import infra
from devloop_sandbox.node.access import Access
from devloop_sandbox.node.container import POD_UID
from devloop_sandbox.node.engine import Engine, EngineError
from devloop_sandbox.node.infra import LABEL, TYPE, Pool
from devloop_sandbox.node.namespaces import unmount_below
from devloop_sandbox.node.pod import Worker
from devloop_sandbox.node.runner import Parts
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Event, Store, now

HEARTBEAT = 300.0  # seconds, as the kubelet's status period when nothing changes
RECONNECT = 1.0
PODS = 110

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
            network = await infra.ensure_network(engine, self._options.project)
            await infra.ensure_image(engine)
            capacity = await self._register(network)
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

    async def cleanup(self) -> None:
        """Remove every container, the network and the pods' files; for `down`, while `run` is not running."""
        async with Engine(self._options.engine) as engine:
            found = await engine.containers(self._mine)
            await asyncio.gather(*(engine.remove(entry["Id"]) for entry in found))
            unmount_below(self._options.state_dir / "pods")
            shutil.rmtree(self._options.state_dir / "pods", ignore_errors=True)
            remove_all(self._options.state_dir / "addresses")
            try:
                await engine.call("DELETE", f"/networks/devloop-sandbox-{self._options.project}")
            except EngineError as error:
                if error.status != 404:
                    raise
            try:
                await engine.call("DELETE", f"/images/{infra.IMAGE}")
            except EngineError as error:
                if error.status not in (404, 409):  # 409: another sandbox uses it
                    raise

    async def _register(self, network: infra.Network) -> Obj:
        """Make or refresh the Node object; its capacity."""
        info = await self._engine.call("GET", "/info")
        memory = self._options.memory_mib * 1024 if self._options.memory_mib else info["MemTotal"] // 1024
        capacity = {
            "cpu": str(self._options.cpus or info["NCPU"]),
            "memory": f"{memory}Ki",
            "pods": str(PODS),
            "ephemeral-storage": f"{shutil.disk_usage(self._options.state_dir).total // 1024}Ki",
        }
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch,
            "node-role.kubernetes.io/control-plane": "",
        }
        annotations = {
            "dev.devloop/engine": self._options.engine,
            "dev.devloop/notes": "Ingress objects are stored and not served: use a NodePort Service",
        }
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": network.gateway},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": {
                "machineID": info.get("ID", ""),
                "systemUUID": info.get("ID", ""),
                "bootID": "",
                "kernelVersion": info["KernelVersion"],
                "osImage": info["OperatingSystem"],
                "containerRuntimeVersion": f"docker://{info['ServerVersion']}",
                "kubeletVersion": "v1.36.0-devloop",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": arch,
            },
        }

        def change(node: Obj) -> None:
            node["metadata"].setdefault("labels", {}).update(labels)
            node["metadata"].setdefault("annotations", {}).update(annotations)
            node.setdefault("spec", {})["podCIDR"] = network.subnet

        if self._store.find("nodes", "", self.name) is None:
            fresh: Obj = {"metadata": {"name": self.name}}
            change(fresh)
            self._store.create("nodes", fresh)
        else:
            self._store.mutate("nodes", "", self.name, change)
        self._report(status)
        return capacity

    def _report(self, facts: Obj, ready: bool = True) -> None:
        """Write the node's status and conditions."""
        moment = now()
        table = [
            (
                "MemoryPressure",
                False,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            ("DiskPressure", False, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", False, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            (
                "Ready",
                ready,
                "KubeletReady" if ready else "KubeletNotReady",
                "kubelet is posting ready status" if ready else "container runtime is down",
            ),
        ]

        def change(node: Obj) -> None:
            before = {item["type"]: item for item in node.get("status", {}).get("conditions", [])}
            conditions = []
            for kind, true, reason, message in table:
                value = "True" if true else "False"
                same = before.get(kind, {}).get("status") == value
                conditions.append({
                    "type": kind,
                    "status": value,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": moment,
                    "lastTransitionTime": before[kind]["lastTransitionTime"] if same else moment,
                })  # fmt: skip
            node["status"] = node.get("status", {}) | clone(facts) | {"conditions": conditions}

        self._store.mutate("nodes", "", self.name, change, subresource="status")

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._report({})

    async def _adopt(self, parts: Parts) -> None:
        """Find the pods' containers of an earlier process again; remove what belongs to none."""
        found = await parts.engine.containers(self._mine)
        pods = {pod["metadata"]["uid"]: pod for pod in self._store.list("pods") if self._is_mine(pod)}
        users = {_network_of(entry): entry["Labels"].get(POD_UID, "") for entry in found}
        by_pod: dict[str, list[Obj]] = {}
        held: dict[str, infra.Holder] = {}
        for entry in found:
            labels = entry["Labels"]
            uid = labels.get(POD_UID) or users.get(entry["Id"], "")
            holder = None
            if labels[TYPE] == "podsandbox" and entry["State"] == "running":
                holder = await infra.inspect_holder(parts.engine, entry["Id"], parts.network)
            if holder is not None and not uid:
                parts.pool.adopt(holder)
            elif holder is not None and uid in pods:
                held[uid] = holder
            elif labels[TYPE] == "container" and uid in pods:
                by_pod.setdefault(uid, []).append(entry)
            else:
                await self._discard(parts.engine, entry["Id"])
        for uid, pod in pods.items():
            worker = Worker(parts, pod)
            await worker.adopt(by_pod.get(uid, []), held.get(uid))
            self._begin(uid, worker)

    async def _discard(self, engine: Engine, container: str) -> None:
        try:
            await engine.remove(container)
        except EngineError as error:
            # A dead one that the engine cannot remove is no reason not to start; the next start tries again.
            logger.warning("container %s stays: %s", container, error.message)

    def holder(self, pod: Obj) -> infra.Holder | None:
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
            self._report({}, ready=False)
            while not await self._engine_answers():  # noqa: ASYNC110  a dead engine tells nothing
                await asyncio.sleep(RECONNECT)
            self._report({})

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


def _network_of(entry: Obj) -> str:
    """The holder whose network a container of the engine's list is in."""
    return str(entry["HostConfig"]["NetworkMode"]).removeprefix("container:")
