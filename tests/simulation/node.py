"""One node: the images that it holds, and a kubelet that runs pods as their images ask for.

What a container does is written in the files that its image was built from (`Content`), or in its SETTING:
it may crash, take long to become ready, never become ready, or not handle SIGTERM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
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


@dataclass(slots=True)
class _Kept:
    """What a kubelet knows of a pod's one container: the image that it is to run, each image's starts in
    this pod, restarts, how the last instance ended, and which image the one that runs has, "" for none."""

    ref: str
    started: dict[str, int] = field(default_factory=dict)
    back_off: float = FIRST_BACKOFF
    restarts: int = 0
    ended: Obj | None = None
    running: str = ""
    restarting: bool = False
    killed: asyncio.Event = field(default_factory=asyncio.Event)  # on the node, not by the kubelet
    synced: Content | None = None  # what was written into the instance that runs, over its image's
    written: asyncio.Event = field(default_factory=asyncio.Event)


class Node:
    """`images`: reference -> image id; `contents`: image id -> what is in it, of every image ever built."""

    def __init__(self, store: Store, faults: Faults, contents: dict[str, Content]) -> None:
        self.images: dict[str, str] = {}
        self._store, self._faults, self._contents = store, faults, contents
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._kept: dict[str, _Kept] = {}
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
                    self._kept[uid] = _Kept(_image_of(event.obj))
                    self._pods[uid] = asyncio.create_task(self._live(event.obj))
                elif _image_of(event.obj) != self._kept[uid].ref:
                    self._kept[uid].ref = _image_of(event.obj)
                    if not self._kept[uid].restarting:
                        self._pods[uid].cancel()
                        self._pods[uid] = asyncio.create_task(self._restart(event.obj))

    def _forget(self, uid: str) -> None:
        self._kept.pop(uid, None)
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

    def runs(self, pod: Obj) -> str:
        """The image of the instance that runs in the pod now, whatever its status says; "" for none."""
        kept = self._kept.get(pod["metadata"]["uid"])
        return kept.running if kept is not None else ""

    def content(self, pod: Obj) -> Content | None:
        """What the instance that runs in the pod now really holds; None for none."""
        kept = self._kept.get(pod["metadata"]["uid"])
        if kept is None or not kept.running:
            return None
        return kept.synced or self._contents.get(self.images.get(kept.running, ""))

    def synced(self, pod: Obj) -> Content | None:
        """What was written into the instance that runs, None for nothing."""
        kept = self._kept.get(pod["metadata"]["uid"])
        return kept.synced if kept is not None and kept.running else None

    def _instance(self, instance: str) -> _Kept | None:
        """The pod of an instance that runs."""
        uid, _, restarts = instance.removeprefix("docker://").rpartition("-")
        kept = self._kept.get(uid)
        return kept if kept is not None and kept.running and str(kept.restarts) == restarts else None

    def runs_instance(self, instance: str) -> bool:
        return self._instance(instance) is not None

    def write(self, instance: str, content: Content) -> bool:
        """Its files are these from now on, and its process begins anew with them; False if it has ended."""
        kept = self._instance(instance)
        if kept is None:
            return False
        kept.synced = content
        kept.written.set()
        return True

    def kill_container(self, pod: Obj) -> None:
        """kill -9 of what runs; the kubelet starts it again, with the pod's image."""
        kept, task = self._kept.get(pod["metadata"]["uid"]), self._pods.get(pod["metadata"]["uid"])
        if kept is None or task is None or not kept.running or kept.restarting:
            return
        task.cancel()
        self._pods[pod["metadata"]["uid"]] = asyncio.create_task(self._start_again(pod, kept))

    async def _start_again(self, pod: Obj, kept: _Kept) -> None:
        image = self.images.get(kept.running, "")
        kept.running, kept.synced = "", None
        kept.ended = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": now()}}
        await self._pause(0.05, 1.0)
        self._show(pod, kept, image, kept.ended)
        await self._pause(0.05, 0.5)
        kept.restarts += 1
        await self._run(pod, kept)

    def kill_deaf(self, instance: str) -> bool:
        """Kill an instance that does not handle SIGTERM and is about to be replaced."""
        uid, _, restarts = instance.removeprefix("docker://").rpartition("-")
        kept = self._kept.get(uid)
        if kept is None or not kept.running or str(kept.restarts) != restarts:
            return False
        image = self.images.get(kept.running, "")
        if "deaf" in (self._contents[image].words if image in self._contents else ()):
            kept.killed.set()
        return kept.killed.is_set()

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
        await self._pause(0.02, 0.5)
        await self._run(pod, self._kept[pod["metadata"]["uid"]])

    async def _restart(self, pod: Obj) -> None:
        """The image was changed in place: the container ends, and one of the new image starts. Where it is
        changed again meanwhile, the first one still runs for a moment."""
        kept = self._kept[pod["metadata"]["uid"]]
        kept.restarting = True
        while True:
            ref = kept.ref
            await self._end_running(pod, kept)
            if ref == kept.ref:
                await self._wait_for_return(pod, kept, ref)
            if ref == kept.ref:
                break
            if ref in self.images:
                kept.restarts += bool(kept.started)
                kept.started[ref] = kept.started.get(ref, 0) + 1
                kept.running, kept.synced = ref, None
                running = {"running": {"startedAt": now()}}
                self._show(pod, kept, self.images[ref], running, ready=self._faults.rng.random() < 0.5)
                await self._pause(0.05, 0.5)
        kept.restarting, kept.back_off = False, FIRST_BACKOFF
        kept.restarts += bool(kept.started)
        await self._run(pod, kept)

    async def _end_running(self, pod: Obj, kept: _Kept) -> None:
        if kept.running:
            await self._until_ended(pod, kept.running)
            kept.running, kept.killed, kept.synced = "", asyncio.Event(), None
            kept.ended = {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": now()}}

    async def _wait_for_return(self, pod: Obj, kept: _Kept, ref: str) -> None:
        """An image that comes back waits, from its second return on where the pod was made with it."""
        times = kept.started.get(ref, 0) - (ref == next(iter(kept.started), ""))
        if times > 0:
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
            self._show(pod, kept, "", {"waiting": waiting})
            await asyncio.sleep(min(FIRST_BACKOFF * 2 ** (times - 1), LAST_BACKOFF))

    async def _run(self, pod: Obj, kept: _Kept) -> None:
        while True:
            if self._faults.on("node slow"):
                await asyncio.sleep(5.0)
            if kept.ref not in self.images:
                waiting = {"reason": "ErrImagePull", "message": f"no {kept.ref} here"}
                self._show(pod, kept, "", {"waiting": waiting})
                await self._pause(1.0, 2.0)
                waiting = {"reason": "ImagePullBackOff", "message": f"Back-off pulling image {kept.ref}"}
                self._show(pod, kept, "", {"waiting": waiting})
                await self._back_off(kept)
                continue
            image = self.images[kept.ref]
            words = self._words(pod, image)
            kept.started[kept.ref] = kept.started.get(kept.ref, 0) + 1
            kept.running, kept.synced, kept.written = kept.ref, None, asyncio.Event()
            self._show(pod, kept, image, {"running": {"startedAt": now()}})
            if "crash" in words:
                await self._crash(pod, kept, image)
                await self._pause(0.5, 1.0)
                waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
                self._show(pod, kept, image, {"waiting": waiting})
                await self._back_off(kept)
                kept.restarts += 1
                continue
            await self._serve(pod, kept, image, words)
            await self._crash(pod, kept, image)
            await self._pause(0.05, 0.5)
            kept.restarts += 1

    async def _serve(self, pod: Obj, kept: _Kept, image: str, words: frozenset[str]) -> None:
        """Until files are written into the container with which its process crashes."""
        while "crash" not in words:
            kept.written.clear()
            await self._pause(*((5.0, 25.0) if "slow" in words else (0.1, 2.0)))
            self._show(pod, kept, image, {"running": {"startedAt": now()}}, ready="never" not in words)
            await kept.written.wait()
            assert kept.synced is not None
            words = kept.synced.words | frozenset(setting_of(pod).split())

    async def _crash(self, pod: Obj, kept: _Kept, image: str) -> None:
        await self._pause(0.1, 1.0)
        kept.running, kept.synced = "", None
        kept.ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now()}}
        self._show(pod, kept, image, kept.ended)

    async def _back_off(self, kept: _Kept) -> None:
        await asyncio.sleep(kept.back_off)
        kept.back_off = min(2 * kept.back_off, LAST_BACKOFF)

    def _words(self, pod: Obj, image: str) -> frozenset[str]:
        words = self._contents[image].words if image in self._contents else frozenset[str]()
        return words | frozenset(setting_of(pod).split())

    async def _until_ended(self, pod: Obj, ref: str) -> None:
        """SIGTERM, and SIGKILL after the grace period."""
        deaf = "deaf" in self._words(pod, self.images.get(ref, ""))
        grace = float(pod["spec"].get("terminationGracePeriodSeconds") or 30)
        seconds = self._faults.delay(*((grace, grace + 1) if deaf else (0.05, 1.5)))
        kept = self._kept.get(pod["metadata"]["uid"])
        with suppress(TimeoutError):
            await asyncio.wait_for((kept or _Kept("")).killed.wait(), seconds)

    async def _end(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        task = self._pods.get(uid)
        await self._until_ended(pod, _image_of(pod))
        if task is not None:
            task.cancel()
        meta = pod["metadata"]
        try:
            self._store.delete("pods", meta["namespace"], meta["name"], grace=0, uid=uid)
        except ApiError:
            return  # it is gone already

    async def _pause(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self._faults.delay(shortest, longest))

    def _show(self, pod: Obj, kept: _Kept, image: str, state: Obj, *, ready: bool = False) -> None:
        ended = kept.ended
        container = {
            "name": pod["spec"]["containers"][0]["name"], "image": kept.ref, "ready": ready,
            "restartCount": kept.restarts, "imageID": f"docker://{image}" if image else "", "state": state,
            "containerID": f"docker://{pod['metadata']['uid']}-{kept.restarts}" if image else "",
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


def _image_of(pod: Obj) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _conditions(*, ready: bool) -> list[Obj]:
    word = "True" if ready else "False"
    return [
        {"type": kind, "status": value, "lastTransitionTime": now()}
        for kind, value in (("PodScheduled", "True"), ("Ready", word), ("ContainersReady", word))
    ]
