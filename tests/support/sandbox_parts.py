"""Store, controllers, node and network in the test's own process: a cluster without its API server."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from devloop_sandbox.admission.gate import Gate
from devloop_sandbox.cleanup import clean
from devloop_sandbox.controllers import manager
from devloop_sandbox.network import services
from devloop_sandbox.node.node import Node
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store

IMAGE = "devloop-base:bookworm"
Obj = dict[str, Any]


class Parts:
    """`crash` ends the process' part as a kill -9 would: nothing is cleaned, the store stays on disk."""

    def __init__(self, folder: Path, scale: float = 0.05) -> None:
        name = f"t{uuid.uuid4().hex[:8]}"
        engine = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self.options = Options(name, folder, engine, scale, allow_host_paths=(folder,))
        self.store: Store
        self.node: Node
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.store = Store(self.options.state_dir / "store.db", Gate(self.options))
        if self.store.find("namespaces", "", "default") is None:
            self.store.create("namespaces", {"metadata": {"name": "default"}})
        self.node = Node(self.store, self.options)
        parts = (
            self.node.run(),
            manager.run_all(self.store, self.options),
            services.run(self.store, self.options),
        )
        self._tasks = [asyncio.create_task(part) for part in parts]

    async def crash(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.store.close()

    def create(self, resource: str, name: str, spec: Obj, namespace: str = "default", **more: Any) -> Obj:
        meta = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
        return self.store.create(resource, {"metadata": meta, "spec": spec, **more})

    async def until(self, look: Callable[[], Any], wanted: str = "", seconds: float = 120) -> Any:
        """The first true value of `look`, asked again at every change in the store and now and then."""
        for task in self._tasks:
            if task.done():
                task.result()
        with self.store.subscribe() as events:
            try:
                async with asyncio.timeout(seconds):
                    while not (found := look()):
                        with suppress(TimeoutError):
                            async with asyncio.timeout(0.2):
                                await anext(aiter(events))
                    return found
            except TimeoutError:
                raise AssertionError(f"never came: {wanted or look}; pods: {self.summary()}") from None

    def summary(self) -> list[Any]:
        return [(pod["metadata"]["name"], pod.get("status")) for pod in self.store.list("pods")]

    async def pod(self, name: str, test: Callable[[Obj], Any], namespace: str = "default") -> Obj:
        """The pod once `test` holds for it."""

        def look() -> Obj | None:
            found = self.store.find("pods", namespace, name)
            return found if found is not None and test(found) else None

        pod: Obj = await self.until(look, f"pod {name}")
        return pod

    async def run(self, pod: Obj, *command: str, container: str = "main") -> tuple[int | None, str]:
        """(exit code, output) of a command in the pod."""
        session = await self.node.exec(
            pod, container, list(command), stdin=False, stdout=True, stderr=True, tty=False
        )
        output = b"".join([data async for _, data in session])
        await session.close()
        return session.exit_code, output.decode()

    async def log(self, pod: Obj, container: str = "main", previous: bool = False) -> str:
        chunks = self.node.logs(
            pod,
            container,
            follow=False,
            tail_lines=None,
            since_seconds=None,
            since_time=None,
            previous=previous,
            timestamps=False,
            limit_bytes=None,
        )
        return b"".join([chunk async for chunk in chunks]).decode()


@asynccontextmanager
async def running(folder: Path, scale: float = 0.05) -> AsyncIterator[Parts]:
    parts = Parts(folder, scale)
    await parts.start()
    try:
        yield parts
    finally:
        await parts.crash()
        # With its patience: an engine lets go of a network a moment after the last container is gone.
        assert await asyncio.to_thread(clean, parts.options) == []


def container(script: str = "sleep 3600", **more: Any) -> Obj:
    return {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **more}


def pod_spec(*containers: Obj, **more: Any) -> Obj:
    return {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 1, **more}


def is_ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def state(pod: Obj) -> Obj:
    statuses = pod.get("status", {}).get("containerStatuses") or [{"state": {}}]
    found: Obj = statuses[0]["state"]
    return found
