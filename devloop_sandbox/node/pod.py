"""One pod on the node, from its binding to its end. Over 300 lines: one loop reads best in one place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from devloop_sandbox.admission.security import host_path_refusal
from devloop_sandbox.node import infra, status
from devloop_sandbox.node.backoff import Backoff, go_duration
from devloop_sandbox.node.container import ATTEMPT, CONTAINER, POD_UID
from devloop_sandbox.node.engine import EngineError
from devloop_sandbox.node.oom import correct_oom
from devloop_sandbox.node.problem import Problem
from devloop_sandbox.node.runner import Parts, Runner
from devloop_sandbox.node.status import Record
from devloop_sandbox.node.volumes import Volumes
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import now

RETRY = 10.0  # seconds until a pod that could not be set up is tried again, scaled as the back-off is
ENGINE_AWAY = 2.0


class Worker:
    """`pod` is always the newest that the API has; `wake` makes the loop look again."""

    def __init__(self, parts: Parts, pod: Obj) -> None:
        self.pod = pod
        self.holder: infra.Holder | None = None
        self._unnamed: infra.Holder | None = None  # taken, and not yet called after the pod
        self.inits = [Record(spec, init=True) for spec in pod["spec"].get("initContainers") or []]
        self.containers = [Record(spec) for spec in pod["spec"]["containers"]]
        self._parts = parts
        self._scale = parts.options.backoff_scale
        folder = parts.options.state_dir / "pods" / pod["metadata"]["uid"]
        claims = parts.options.state_dir / "claims" / pod["metadata"]["namespace"]
        self._volumes = Volumes(
            folder,
            claims,
            parts.store.find,
            parts.capacity,
            lambda path: host_path_refusal(path, parts.options),
        )
        self._wake = asyncio.Event()
        self._gone = asyncio.Event()
        self._deleted = asyncio.Event()
        self._hurry = asyncio.Event()  # the grace period may have been shortened
        self._runner = Runner(parts, self._volumes, self.publish)
        self._background: list[asyncio.Task[None]] = []
        self._housing: asyncio.Task[None] | None = None
        self._refused: EngineError | None = None
        self._restarts: dict[str, Backoff] = {}
        self._pulls: dict[str, Backoff] = {}
        self._stale: set[str] = set()
        self._tasks: asyncio.TaskGroup

    @property
    def records(self) -> list[Record]:
        return [*self.inits, *self.containers]

    @property
    def finished(self) -> bool:
        return self.pod.get("status", {}).get("phase") in ("Succeeded", "Failed")

    def update(self, pod: Obj, *, gone: bool = False) -> None:
        """The API's object has changed, or (gone) is there no more."""
        self.pod = pod
        self._take_images()
        if "deletionTimestamp" in pod["metadata"] or gone:
            self._deleted.set()
            self._hurry.set()
        if gone:
            self._gone.set()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def container_changed(self, container: str) -> None:
        """The engine says that a container, or the holder, has changed."""
        self._stale.add(container)
        self.wake()

    async def adopt(self, containers: list[Obj], holder: infra.Holder | None) -> None:
        """Take over what an earlier process left; `containers` are entries of the engine's list."""
        self.holder = holder
        attempts = sorted(containers, key=lambda entry: int(entry["Labels"][ATTEMPT]))
        reported = {
            entry.get("containerID"): entry
            for entry in self.pod.get("status", {}).get("containerStatuses") or []
        }
        for record in self.records:
            for entry in attempts:
                if entry["Labels"][CONTAINER] == record.name:
                    found = await self._parts.engine.inspect(entry["Id"])
                    if found["State"]["Status"] == "created" and not found["State"]["Error"]:
                        await self._parts.engine.remove(entry["Id"])  # its start was cut short
                        continue
                    record.previous, record.current = record.current, found
            for found in filter(None, (record.previous, record.current)):
                correct_oom(found)
            if record.current is not None:
                known = reported.get(f"docker://{record.current['Id']}", {})
                record.ready, record.started = bool(known.get("ready")), bool(known.get("started"))

    async def run(self) -> None:
        """Until the pod is gone from the API and from the engine."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            for record in self.containers:
                if record.running and self.holder is not None:
                    self._watch(record)
            loop = group.create_task(self._loop())
            await self._deleted.wait()
            loop.cancel()
            await asyncio.wait([loop])
            await self._stop_in_time()
            await self._remove()
            for task in self._background:
                task.cancel()

    def publish(self) -> None:
        """Write the status if it has changed."""
        facts: Obj = {"hostIP": self._parts.network.gateway, "hostIPs": [{"ip": self._parts.network.gateway}]}
        facts["startTime"] = self.pod.get("status", {}).get("startTime") or now()
        if self.holder is not None:
            facts |= {"podIP": self.holder.address, "podIPs": [{"ip": self.holder.address}]}
        fresh = status.build(self.pod, self.inits, self.containers, facts, now())
        if self._gone.is_set() or fresh == self.pod.get("status"):
            return
        meta = self.pod["metadata"]

        def change(pod: Obj) -> None:
            if pod["metadata"]["uid"] == meta["uid"]:
                pod["status"] = fresh

        with suppress(ApiError):  # 404: the pod has just gone; the DELETED event is on its way
            written = self._parts.store.mutate(
                "pods", meta["namespace"], meta["name"], change, subresource="status"
            )
            if written["metadata"]["uid"] == meta["uid"]:
                self.pod = written

    def _take_images(self) -> None:
        """An image is the one part of a container that may change under a running pod."""
        spec = self.pod["spec"]
        for record, wanted in zip(
            self.records, [*(spec.get("initContainers") or []), *spec["containers"]], strict=True
        ):
            changed = record.spec["image"] != wanted["image"]
            record.spec = wanted
            if changed and record.running:
                text = f"Container {record.name} definition changed, will be restarted"
                grace = spec.get("terminationGracePeriodSeconds", 30)
                address = self.holder.address if self.holder is not None else ""
                self._task(self._runner.kill(self.pod, record, address, text, grace), "kill")

    async def _loop(self) -> None:
        self.publish()
        while True:
            self._wake.clear()
            try:
                delay = await self._sync()
            except EngineError as error:
                self._parts.record(self.pod, "Warning", "FailedSync", f"error determining status: {error}")
                delay = ENGINE_AWAY
            self.publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _sync(self) -> float | None:
        """Bring the engine one step nearer to the spec; the seconds after which to look again."""
        await self._refresh()
        if self.finished:
            await self._release()
            return None
        if self.holder is None:
            self._refused = None
            self._housing = self._tasks.create_task(self._house())
            await asyncio.shield(self._housing)
            if self._refused is not None:
                raise self._refused
        try:
            self._volumes.mount(self.pod)
        except Problem as problem:
            self._parts.record(self.pod, "Warning", problem.reason, problem.message)
            return RETRY * self._scale
        for record in self.inits:
            if not record.succeeded:
                return await self._keep(record)
            record.ready = True
        delays = [await self._keep(record) for record in self.containers]
        return min((delay for delay in delays if delay is not None), default=None)

    async def _house(self) -> None:
        """Take a holder. It runs on when the loop is cancelled, so that no holder is lost."""
        try:
            self.holder = self._unnamed = await self._parts.pool.take()
        except EngineError as error:
            self._refused = error

    async def _refresh(self) -> None:
        """Look at what the engine said has changed."""
        stale, self._stale = self._stale, set()
        for record in self.records:
            if record.current is not None and record.current["Id"] in stale:
                await self._runner.look(record, record.current["Id"])
        if self.holder is not None and self.holder.container in stale:
            await self._check_holder(self.holder)

    async def _check_holder(self, holder: infra.Holder | None) -> None:
        """A dead holder takes the network along: everything in the pod starts again."""
        if holder is None or await infra.inspect_holder(
            self._parts.engine, holder.container, self._parts.network
        ):
            return
        if not self.finished:
            text = "Pod sandbox changed, it will be killed and re-created."
            self._parts.record(self.pod, "Normal", "SandboxChanged", text)
        for record in self.records:
            if record.running and record.current is not None:
                await self._parts.engine.stop(record.current["Id"], 0)
                self._stale.add(record.current["Id"])
        await self._parts.engine.remove(holder.container)
        self.holder = None
        await self._refresh()

    async def _keep(self, record: Record) -> float | None:
        """Have the container running if it should; the seconds to wait before it may be tried again."""
        if record.running or not self._should_run(record):
            return None
        moment = time.time()
        restarts = self._restarts.setdefault(record.name, Backoff(self._scale))
        if record.current is not None:
            finished = status.parse(status.terminated(record.current)["finishedAt"]).timestamp()
            left = restarts.remaining(finished, moment)
            if left:
                self._say_backoff(record, restarts)
                return left
            restarts.advance(finished, moment)
        try:
            await self._start(record)
        except Problem as problem:
            if self._should_run(record):
                record.waiting = (problem.reason, problem.message)
            if problem.reason in ("CreateContainerError", "RunContainerError"):
                await self._check_holder(self.holder)
            return self._retry_after(problem.reason) if self.holder is not None else 0.0
        return None

    def _say_backoff(self, record: Record, backoff: Backoff) -> None:
        if record.waiting is not None and record.waiting[0] == "CrashLoopBackOff":
            return
        meta = self.pod["metadata"]
        where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        wait = go_duration(backoff.seconds)
        text = f"back-off {wait} restarting failed container={record.name} pod={where}"
        record.waiting = ("CrashLoopBackOff", text)
        event = f"Back-off restarting failed container {record.name} in pod {where}"
        self._runner.tell(self.pod, record, "Warning", "BackOff", event)

    async def _start(self, record: Record) -> None:
        assert self.holder is not None
        pulls = self._pulls.setdefault(record.name, Backoff(self._scale))
        moment = time.time()
        may_pull = not pulls.remaining(pulls.updated, moment)
        record.ready = record.started = False
        try:
            await self._runner.start(self._addressed(), record, self.holder, may_pull)
        except Problem as problem:
            if problem.reason == "ErrImagePull":
                pulls.advance(moment, moment)
            raise
        self.publish()
        if self._unnamed is not None:
            self._task(self._parts.pool.name(self._unnamed, self.pod), "name")
            self._unnamed = None
        if not record.init:
            await self._runner.post_start(self.pod, record, self.holder.address)
            self._watch(record)

    def _addressed(self) -> Obj:
        """The pod with its address, which the downward API and /etc/hosts show."""
        assert self.holder is not None
        known = self.pod.get("status", {})
        host = self._parts.network.gateway
        return {**self.pod, "status": {**known, "podIP": self.holder.address, "hostIP": host}}

    def _retry_after(self, reason: str) -> float:
        if reason in ("ErrImagePull", "RunContainerError", "PostStartHookError"):
            return 2.0 * self._scale  # then the next pass shows the back-off
        return RETRY * self._scale

    def _should_run(self, record: Record) -> bool:
        if record.current is None:
            return True
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" and not record.init:
            return True
        return policy != "Never" and not record.succeeded

    def _watch(self, record: Record) -> None:
        assert self.holder is not None

        def kill(why: str, grace: int) -> None:
            self._task(self._runner.kill(self.pod, record, address, why, grace), "kill")

        address = self.holder.address
        if not any(kind in record.spec for kind in ("startupProbe", "readinessProbe", "livenessProbe")):
            record.ready = record.started = record.running
            return
        self._task(self._runner.watch(self.pod, record, address, kill), "watch")

    def _task(self, work: Awaitable[None], name: str) -> None:
        self._background = [task for task in self._background if not task.done()]
        self._background.append(self._tasks.create_task(_unless_away(work), name=name))

    async def _stop_in_time(self) -> None:
        """Stop everything; a second delete may shorten the grace period, a forced one ends it."""
        stop: asyncio.Task[None] | None = None
        grace: int | None = None
        while not self._gone.is_set() and (stop is None or not stop.done()):
            self._hurry.clear()
            wanted = int(self.pod["metadata"].get("deletionGracePeriodSeconds", 30))
            if stop is None or grace is None or wanted < grace:
                if stop is not None:
                    stop.cancel()
                stop = self._tasks.create_task(self._stop(wanted, hooks=grace is None))
                grace = wanted
            hurry = self._tasks.create_task(self._hurry.wait())
            await asyncio.wait([stop, hurry], return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        if stop is not None:
            stop.cancel()

    async def _stop(self, grace: int, *, hooks: bool) -> None:
        """The graceful end: hooks and SIGTERM for all at once, then the last status."""
        address = self.holder.address if self.holder is not None else ""
        for task in self._background:
            if task.get_name() == "watch":
                task.cancel()
        async with asyncio.TaskGroup() as group:
            for record in self.records:
                text = f"Stopping container {record.name}" if hooks else ""
                work = self._runner.kill(self.pod, record, address, text, grace, hooks=hooks)
                group.create_task(_unless_away(work))
        self._stale |= {record.current["Id"] for record in self.records if record.current is not None}
        await _unless_away(self._refresh())
        self.publish()

    async def _remove(self) -> None:
        """Take everything off the engine and the disk, and the object out of the API."""
        meta = self.pod["metadata"]
        if self._housing is not None:
            await asyncio.wait([self._housing])
        while True:
            try:
                await self._remove_containers()
                await self._release()
                await self._remove_containers()  # a start that was cut short may have come through late
                break
            except EngineError:
                await asyncio.sleep(ENGINE_AWAY)
        self._volumes.remove()
        with suppress(ApiError):
            self._parts.store.delete("pods", meta["namespace"], meta["name"], grace=0, uid=meta["uid"])

    async def _remove_containers(self) -> None:
        for entry in await self._parts.engine.containers(f"{POD_UID}={self.pod['metadata']['uid']}"):
            await self._parts.engine.remove(entry["Id"])

    async def _release(self) -> None:
        if self.holder is not None:
            holder, self.holder = self.holder, None
            await self._parts.engine.remove(holder.container)


async def _unless_away(work: Awaitable[None]) -> None:
    """Do the work; an engine that refuses or is away is met, and told of, by the pod's loop too."""
    with suppress(EngineError):
        await work
