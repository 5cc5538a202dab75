"""One node: the images that it holds, and a kubelet that runs pods as their images ask for.

What a container does is written in the files that its image was built from (`Content`), or in its SETTING:
it may crash, take long to become ready, never become ready, or not hear SIGTERM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.store.store import Store, now
from tests.simulation.faults import Faults

NAME = "simulated"
FIRST_BACKOFF, LAST_BACKOFF = 10.0, 300.0
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """What an image holds: a digest of its files, words in them that say how it behaves, and each file."""

    digest: str
    words: frozenset[str] = frozenset()
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False)


def setting_of(pod: Obj) -> str:
    """What its manifest gave to its container."""
    return str(pod["spec"]["containers"][0]["env"][0]["value"])


class Node:
    """`images`: reference -> image id; `contents`: image id -> what is in it, of every image ever built."""

    def __init__(self, store: Store, faults: Faults, contents: dict[str, Content]) -> None:
        self.images: dict[str, str] = {}
        self._store, self._faults, self._contents = store, faults, contents
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    def register(self) -> None:
        capacity = {"cpu": "16", "memory": "64Gi", "pods": "500"}
        self._store.create("nodes", {"metadata": {"name": NAME}})
        info = {
            "architecture": "amd64",
            "operatingSystem": "linux",
            "containerRuntimeVersion": "docker://28.0",
        }

        def change(node: Obj) -> None:
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
            node["status"] = {
                "capacity": capacity, "allocatable": capacity, "conditions": [ready], "nodeInfo": info,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            }  # fmt: skip

        self._store.mutate("nodes", "", NAME, change, subresource="status")

    async def run(self) -> None:
        with self._store.subscribe() as events:
            async for event in events:
                meta = event.obj["metadata"]
                if event.resource != "pods" or event.obj["spec"].get("nodeName") != NAME:
                    continue
                uid = meta["uid"]
                if event.type == "DELETED":
                    self._forget(uid)
                elif "deletionTimestamp" in meta:
                    if uid not in self._ending:
                        self._ending[uid] = asyncio.create_task(self._end(event.obj))
                elif uid not in self._pods:
                    self._pods[uid] = asyncio.create_task(self._live(event.obj))

    def _forget(self, uid: str) -> None:
        for tasks in (self._pods, self._ending):
            task = tasks.pop(uid, None)
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    def evict(self, pod: Obj) -> None:
        """The node ran short of something: the pod is over, its controller makes another."""
        task = self._pods.get(pod["metadata"]["uid"])
        if task is not None:
            task.cancel()
        gone = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        self._write(pod, lambda status: status | gone | {"conditions": _conditions(ready=False)})

    def prune(self) -> None:
        """The images that no running container needs are removed."""
        used = {
            one["image"]
            for pod in self._store.list("pods")
            for one in pod.get("status", {}).get("containerStatuses") or ()
            if "running" in one.get("state", {})
        }
        for ref in [ref for ref in self.images if ref not in used]:
            del self.images[ref]

    async def _live(self, pod: Obj) -> None:
        """The life of a pod's one container."""
        ref = pod["spec"]["containers"][0]["image"]
        restarts, back_off = 0, FIRST_BACKOFF
        ended: Obj | None = None
        await self._pause(0.02, 0.5)
        while True:
            if self._faults.on("node slow"):
                await asyncio.sleep(5.0)
            if ref not in self.images:
                waiting = {"reason": "ErrImagePull", "message": f"no {ref} here"}
                self._show(pod, ref, "", {"waiting": waiting}, ended, restarts)
                await self._pause(1.0, 2.0)
                waiting = {"reason": "ImagePullBackOff", "message": f"Back-off pulling image {ref}"}
                self._show(pod, ref, "", {"waiting": waiting}, ended, restarts)
                await asyncio.sleep(back_off)
                back_off = min(2 * back_off, LAST_BACKOFF)
                continue
            image = self.images[ref]
            words = self._contents[image].words if image in self._contents else frozenset[str]()
            words |= frozenset(setting_of(pod).split())
            self._show(pod, ref, image, {"running": {"startedAt": now()}}, ended, restarts)
            if "crash" in words:
                await self._pause(0.1, 1.0)
                ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now()}}
                self._show(pod, ref, image, ended, ended, restarts)
                await self._pause(0.5, 1.0)
                waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
                self._show(pod, ref, image, {"waiting": waiting}, ended, restarts)
                await asyncio.sleep(back_off)
                back_off, restarts = min(2 * back_off, LAST_BACKOFF), restarts + 1
                continue
            await self._pause(*((5.0, 25.0) if "slow" in words else (0.1, 2.0)))
            if "never" not in words:
                self._show(pod, ref, image, {"running": {"startedAt": now()}}, ended, restarts, ready=True)
            await asyncio.get_running_loop().create_future()

    async def _end(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        task = self._pods.get(uid)
        image = self.images.get(pod["spec"]["containers"][0]["image"], "")
        words = self._contents[image].words if image in self._contents else frozenset[str]()
        deaf = "deaf" in words | frozenset(setting_of(pod).split())
        grace = float(pod["spec"].get("terminationGracePeriodSeconds") or 30)
        await self._pause(*((grace, grace + 1) if deaf else (0.05, 1.5)))
        if task is not None:
            task.cancel()
        meta = pod["metadata"]
        try:
            self._store.delete("pods", meta["namespace"], meta["name"], grace=0, uid=uid)
        except ApiError:
            return  # it is gone already

    async def _pause(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self._faults.delay(shortest, longest))

    def _show(
        self,
        pod: Obj,
        ref: str,
        image: str,
        state: Obj,
        ended: Obj | None,
        restarts: int,
        *,
        ready: bool = False,
    ) -> None:
        container = {
            "name": pod["spec"]["containers"][0]["name"], "image": ref, "ready": ready,
            "restartCount": restarts, "imageID": f"docker://{image}" if image else "", "state": state,
            **({"lastState": ended} if ended is not None and state is not ended else {}),
        }  # fmt: skip
        phase = "Running" if image else "Pending"
        fresh = {
            "phase": phase, "containerStatuses": [container], "conditions": _conditions(ready=ready),
            "startTime": now(),
        }  # fmt: skip
        self._write(pod, lambda status: status | fresh)

    def _write(self, pod: Obj, change: Any) -> None:
        meta = pod["metadata"]

        def edit(copy: Obj) -> None:
            if copy["metadata"]["uid"] == meta["uid"]:
                copy["status"] = change(copy.get("status") or {})

        try:
            self._store.mutate("pods", meta["namespace"], meta["name"], edit, subresource="status")
        except ApiError:
            return  # it has just gone


def _conditions(*, ready: bool) -> list[Obj]:
    word = "True" if ready else "False"
    return [
        {"type": kind, "status": value, "lastTransitionTime": now()}
        for kind, value in (("PodScheduled", "True"), ("Ready", word), ("ContainersReady", word))
    ]
