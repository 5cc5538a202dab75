"""One pod on the node, from its binding to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from devloop_sandbox.engine.client import EngineError
from devloop_sandbox.engine.holders import Holder
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.node import adoption, status
from devloop_sandbox.node.attempts import Attempts, should_run
from devloop_sandbox.node.housing import Housing
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.node.prober import Prober
from devloop_sandbox.node.removal import AWAY, remove
from devloop_sandbox.node.replacement import Replacement
from devloop_sandbox.node.runner import Runner
from devloop_sandbox.node.status import Record
from devloop_sandbox.node.volumes import Volumes
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import now


class Worker:
    """`pod` is always the newest that the API has; `wake` makes the loop look again."""

    def __init__(self, parts: Parts, pod: Obj) -> None:
        self.pod = pod
        self.housing = Housing(parts)
        self.inits = [Record(spec, init=True) for spec in pod["spec"].get("initContainers") or []]
        self.containers = [Record(spec) for spec in pod["spec"]["containers"]]
        self._parts = parts
        self._volumes = Volumes(parts, pod)
        self._wake = asyncio.Event()
        self._gone = asyncio.Event()
        self._deleted = asyncio.Event()
        self._hurry = asyncio.Event()  # the grace period may have been shortened
        self._runner = Runner(parts, self._volumes)
        self._prober = Prober(parts, self.publish)
        self._background: list[asyncio.Task[None]] = []
        self._attempts = Attempts(parts)
        self._replacement = Replacement(self._attempts, self._runner, self.container_changed)
        self._stale: set[str] = set()
        self._tasks: asyncio.TaskGroup

    @property
    def records(self) -> list[Record]:
        return [*self.inits, *self.containers]

    @property
    def holder(self) -> Holder | None:
        return self.housing.holder

    @property
    def finished(self) -> bool:
        return self.pod.get("status", {}).get("phase") in ("Succeeded", "Failed")

    def update(self, pod: Obj, *, gone: bool = False) -> None:
        """The API's object has changed, or (gone) is there no more."""
        if gone or status.version_of(pod) >= status.version_of(self.pod):  # its own writes may be newer
            self._take(pod)
        if "deletionTimestamp" in pod["metadata"] or gone:
            self._deleted.set()
            self._hurry.set()
        if gone:
            self._gone.set()
            self.wake()

    def _take(self, pod: Obj) -> None:
        """From now on this is the pod; a status, which is the node's own word, makes it look no sooner."""
        if _wanted(pod) != _wanted(self.pod):
            self.wake()
        self.pod = pod

    def wake(self) -> None:
        self._wake.set()

    def container_changed(self, container: str) -> None:
        """The engine says that a container, or the holder, has changed."""
        self._stale.add(container)
        self.wake()

    async def adopt(self, containers: list[Obj], holder: Holder | None) -> None:
        """Take over what an earlier process left; `containers` are entries of the engine's list."""
        self.housing.holder = holder
        await adoption.adopt_containers(self._parts.engine, self.pod, self.records, containers)

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
            await remove(self._parts, self.pod, self.housing, self._volumes)
            for task in self._background:
                task.cancel()

    def publish(self) -> None:
        """Write the status if it has changed."""
        started = self.pod.get("status", {}).get("startTime") or now()
        facts = {"startTime": started, **self.housing.addresses()}
        facts["observedGeneration"] = self.pod["metadata"].get("generation", 1)
        fresh = status.build(self.pod, self.inits, self.containers, facts, now())
        if self._gone.is_set() or fresh == self.pod.get("status"):
            return
        try:
            self._take(status.write(self._parts.store, self.pod, fresh))
        except ApiError as error:
            if error.status != 404:  # a full disk; with 404 the DELETED event is on its way
                asyncio.get_running_loop().call_later(AWAY, self.wake)

    async def _loop(self) -> None:
        self.publish()
        while True:
            self._wake.clear()
            try:
                delay = await self._sync()
            except EngineError as error:
                self._parts.record(self.pod, "Warning", "FailedSync", f"error determining status: {error}")
                delay = AWAY
            self.publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _sync(self) -> float | None:
        """Bring the engine one step nearer to the spec; the seconds after which to look again."""
        self._replacement.take_specs(self.pod, self.records)
        await self._refresh()
        if self.finished:
            await self.housing.release()
            return None
        await self.housing.ensure(self._tasks)
        try:
            self._volumes.mount(self.pod)
        except Problem as problem:
            self._parts.record(self.pod, "Warning", problem.reason, problem.message)
            return self._attempts.retry_after(problem.reason)
        for record in self.inits:
            if not record.succeeded:
                return await self._keep(record)
            record.ready = True
        delays = [await self._keep(record) for record in self.containers]
        return min((delay for delay in delays if delay is not None), default=None)

    async def _refresh(self) -> None:
        """Look at what the engine reported as changed."""
        stale, self._stale = self._stale, set()
        for record in self.records:
            if record.current is not None and record.current["Id"] in stale:
                await self._runner.look(record, record.current["Id"])
        if self.holder is not None and self.holder.container in stale:
            await self._check_holder()

    async def _check_holder(self) -> None:
        """A dead holder takes the network along: everything in the pod starts again."""
        if not await self.housing.is_dead():
            return
        if not self.finished:
            text = "Pod sandbox changed, it will be killed and re-created."
            self._parts.record(self.pod, "Normal", "SandboxChanged", text)
        for record in self.records:
            if record.running and record.current is not None:
                await self._parts.engine.stop(record.current["Id"], 0)
                self._stale.add(record.current["Id"])
        await self.housing.release()
        await self._refresh()

    async def _keep(self, record: Record) -> float | None:
        """Have the container running if it should; the seconds to wait before it may be tried again."""
        if self.housing.holder is None:  # it died with the container before this one
            return 0.0
        if record.outdated and (work := self._replacement.begin(self.pod, record, self.housing.address)):
            self._task(work, "kill")
        if record.running or not (self._attempts.may_replace(record) or should_run(self.pod, record)):
            return None
        if left := self._attempts.wait_for_restart(self.pod, record):
            return left
        try:
            await self._start(record)
        except Problem as problem:
            if should_run(self.pod, record):
                record.waiting = (problem.reason, problem.message)
            if problem.reason in ("CreateContainerError", "RunContainerError"):
                await self._check_holder()
            return self._attempts.retry_after(problem.reason) if self.holder is not None else 0.0
        return None

    async def _start(self, record: Record) -> None:
        assert self.holder is not None
        began = time.time()
        record.ready = record.started = False
        try:
            await self._runner.start(
                self.housing.addressed(self.pod), record, self.holder, self._attempts.may_pull(record)
            )
        except Problem as problem:
            if problem.reason == "ErrImagePull":
                self._attempts.pull_failed(record, began)
            raise
        if self.housing.is_new:
            self._task(self.housing.name(self.pod), "name")
        if not record.init:
            await self._runner.post_start(self.pod, record, self.holder.address)
            self._watch(record)

    def _watch(self, record: Record) -> None:
        if not any(kind in record.spec for kind in ("startupProbe", "readinessProbe", "livenessProbe")):
            record.ready = record.started = record.running
            return

        def kill(why: str, grace: int) -> None:
            self._kill(record, why, grace)

        self._task(self._prober.watch(self.pod, record, self.housing.address, kill), "watch")

    def _kill(self, record: Record, why: str, grace: int) -> None:
        if record.leaving:
            return
        self._task(self._runner.kill(self.pod, record, self.housing.address, why, grace), "kill")

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
        address = self.housing.address
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


def _wanted(pod: Obj) -> tuple[Obj, ...]:
    """What of a pod the node acts on."""
    meta = pod["metadata"]
    return pod["spec"], meta.get("labels") or {}, meta.get("annotations") or {}


async def _unless_away(work: Awaitable[None]) -> None:
    """Do the work; an engine that refuses or is away is met, and reported, by the pod's loop too."""
    with suppress(EngineError):
        await work
