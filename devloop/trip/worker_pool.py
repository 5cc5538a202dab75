"""The workers of `watch`, one per service, and their replacement when config.yaml changes (S28)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from devloop.errors import DevloopError, PlatformError
from devloop.events import LiveChanged, Notice
from devloop.model import Change, Service, Target
from devloop.ports import TripObserver, World
from devloop.safety_net import SafetyNet
from devloop.trip.sharing import Sharing
from devloop.trip.standing import Standing
from devloop.trip.worker import Worker

Companion = Callable[[Worker], Coroutine[Any, Any, None]]
Hold = Callable[[Target], AbstractContextManager[None]]
AGAIN_SECONDS = 1.0  # between two tries to get a workload that another devloop holds, or a cluster's answer


@dataclass(eq=False, slots=True)
class _Post:
    """One service's worker and what it holds. `ended` is set when nothing of it runs any more."""

    worker: Worker
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    held: ExitStack = field(default_factory=ExitStack)
    ended: anyio.Event = field(default_factory=anyio.Event)

    @property
    def service(self) -> Service:
        return self.worker.service

    def precedes(self, other: Service) -> bool:
        """Whether the other's worker is to begin only when this one has ended."""
        workloads = {target.workload for target in self.service.targets}
        return self.service.name == other.name or any(t.workload in workloads for t in other.targets)


class WorkerPool:
    """`run` works for `services` until cancelled; `employ` changes whom it works for, at any time.

    `hold` keeps every other devloop away from a target (S26); `companions` run beside each worker. A service
    that changed is handed over: its targets stay held, what is saved meanwhile waits in the new worker's
    inbox, and the new one begins when the old one's PATCH, if it was in the middle of it, is decided.
    """

    def __init__(
        self,
        world: World,
        hold: Hold,
        net: SafetyNet,
        sharing: Sharing,
        observers: Sequence[TripObserver],
        companions: Sequence[Companion] = (),
    ) -> None:
        self._world, self._hold, self._net, self._companions = world, hold, net, companions
        self._sharing, self._observers = sharing, list(observers)
        self._employed: dict[str, _Post] = {}
        self._leaving: set[_Post] = set()
        self._paused: set[str] = set()
        self._group: TaskGroup | None = None

    async def run(self, services: Sequence[Service]) -> None:
        """Raises HeldError, PlatformError at the start only."""
        async with anyio.create_task_group() as group:
            self._group = group
            self._employ(services, first=True)
            await anyio.sleep_forever()

    def employ(self, services: Sequence[Service]) -> None:
        """Work for exactly these from now on; before `run` it is `run` that says for whom."""
        if self._group is not None:
            self._employ(services, first=False)

    def observe(self, observer: TripObserver) -> None:
        """Call it too, at the trips of every worker that is employed from now on."""
        self._observers.append(observer)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the services that it works for."""
        return tuple(self._employed)

    @property
    def services(self) -> Mapping[str, Service]:
        """That it works for, by name."""
        return {name: post.service for name, post in self._employed.items()}

    def pause(self, name: str) -> bool:
        """Collect what is saved of the service, and begin no trip until `resume`, whatever config.yaml says
        meanwhile. False: it was paused already."""
        fresh = name not in self._paused
        self._paused.add(name)
        if name in self._employed:
            self._employed[name].worker.pause()
        return fresh

    def resume(self, name: str) -> bool:
        """Take up what was collected. False: it was not paused."""
        paused = name in self._paused
        self._paused.discard(name)
        if paused and name in self._employed:
            self._employed[name].worker.resume()
        return paused

    def is_paused(self, name: str) -> bool:
        return name in self._paused

    def trigger(self, name: str) -> bool:
        """Take up what is pending. False: nothing is."""
        return name in self._employed and self._employed[name].worker.trigger()

    def standing(self, name: str) -> Standing | None:
        """Where the service stands, by what the cluster shows now; None for one that is not worked for."""
        post = self._employed.get(name)
        if post is None:
            return None
        post.worker.review()
        return post.worker.standing

    def next_move(self, name: str) -> anyio.Event:
        """Set when `standing` may have changed; at once where the service is not worked for."""
        post = self._employed.get(name)
        if post is not None:
            return post.worker.shown.next_move
        gone = anyio.Event()
        gone.set()
        return gone

    def deliver(self, name: str, change: Change) -> None:
        """What was saved, to the service if it is still one of ours; it may be triggered by hand."""
        if name in self._employed:
            self._employed[name].worker.deliver(change)

    def begin(self, name: str, change: Change) -> None:
        """Begin a trip of the service, if it is still one of ours, with what is pending."""
        if name in self._employed:
            self._employed[name].worker.inbox.put(change)

    def _employ(self, services: Sequence[Service], *, first: bool) -> None:
        assert self._group is not None
        wanted = {service.name: service for service in services}
        self._sharing.employ(services)
        known = set(self._employed)
        leaving = [post for name, post in self._employed.items() if wanted.get(name) != post.service]
        for post in leaving:
            del self._employed[post.service.name]
            self._leaving.add(post)
        for name, service in wanted.items():
            if name not in self._employed:
                post = self._employed[name] = _Post(
                    Worker(service, self._world, self._sharing, self._observers)
                )
                begin = post.worker.deliver if name in known else post.worker.inbox.put
                begin(Change.start(self._world.clock.now()))
                if post.worker.inbox.is_pending:  # its new configuration, too, waits for the trigger
                    self._sharing.rests(service, "waits for devloop trigger")
                if name in self._paused:
                    post.worker.pause()
                error = self._take_targets(post)  # before they are let go of: nobody else gets in between
                if error is not None and first:
                    raise error
                self._group.start_soon(self._work, post, error, first)
        for post in leaving:
            post.scope.cancel()
            post.worker.shown.stir()  # whoever waits for it has another worker to look at, or none

    async def _work(self, post: _Post, error: DevloopError | None, first: bool) -> None:
        name = post.service.name
        try:
            with post.scope:
                while before := [old for old in self._leaving if old.precedes(post.service)]:
                    await before[0].ended.wait()
                await self._until_held(post, error)
                await self._net.keep(
                    f"service {name}",
                    self._serve,
                    post,
                    first,
                    service=name,
                    fell=post.worker.fell,
                    lets_through=lambda cause: first and _is_first(post, cause),
                )
        finally:
            post.held.close()
            self._leaving.discard(post)
            post.ended.set()

    async def _serve(self, post: _Post, first: bool) -> None:
        """One service until cancelled; after an error that nobody expected, to be called again."""
        name = post.service.name
        while True:
            try:
                async with anyio.create_task_group() as group:
                    for companion in self._companions:
                        group.start_soon(self._net.keep, f"{name}, beside its trips", companion, post.worker)
                    await post.worker.run()
            except* PlatformError as errors:
                if first and _is_first(post, errors):  # the command line reports a start that is refused
                    raise
                self._complain(post.service, errors.exceptions[0])
            await anyio.sleep(AGAIN_SECONDS)

    # --- targets --------------------------------------------------------------------------------

    def _take_targets(self, post: _Post) -> DevloopError | None:
        """Hold all of them, or none and say why. Raises nothing: this is outside of what `_net` keeps."""
        with ExitStack() as stack:
            try:
                for target in post.service.targets:
                    stack.enter_context(self._hold(target))
            except Exception as error:  # noqa: BLE001 - the lock of one service ends no other
                return self._net.error(f"the lock of {post.service.name}", error)
            post.held = stack.pop_all()
        return None

    async def _until_held(self, post: _Post, error: DevloopError | None) -> None:
        """Wait as long as another devloop has a target, or no lock can be had: each reason is shown once, and
        the targets are taken as soon as they are free."""
        shown = ""
        while error is not None:
            if error.message != shown:
                self._complain(post.service, error)
                shown = error.message
                self._world.emit(LiveChanged(post.service.name, False, "", "waiting"))
            await anyio.sleep(AGAIN_SECONDS)
            error = self._take_targets(post)

    def _complain(self, service: Service, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, DevloopError)
        self._sharing.rests(service, "waits for another devloop or the cluster")
        self._world.emit(Notice(service.name, "error", error.message, error.hint))


def _is_first(post: _Post, cause: BaseException) -> bool:
    """Whether this is an expected error before the service's first trip."""
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return not post.worker.began and isinstance(cause, DevloopError)
