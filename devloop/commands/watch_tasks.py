"""What `devloop watch` runs beside its workers: files watched, logs, states, releases, garbage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from devloop.checks.background import CheckWatch, Look
from devloop.clock import Clock
from devloop.commands.garbage import collect_garbage
from devloop.commands.output import sources_of
from devloop.commands.resume import release
from devloop.commands.rollback import sharing
from devloop.config.load import together
from devloop.control.actions import Actions
from devloop.errors import DevloopError
from devloop.events import Event, Notice, PodLog
from devloop.forward.forwarder import Forwarder, Wanted
from devloop.model import Change, Live, Outcome, Service
from devloop.ports import TripObserver
from devloop.rollout.muted import muted_by
from devloop.rollout.pod_logs import follow_logs
from devloop.rollout.state_monitor import follow_states
from devloop.safety_net import SafetyNet
from devloop.secrets.redaction import Secrets
from devloop.trip.after_live import AfterLive
from devloop.trip.worker import Worker
from devloop.trip.worker_pool import Companion, WorkerPool
from devloop.watch.interests import CONFIG, MANIFESTS, RELEASES, service_interest
from devloop.watch.project_files import Following, Override, ProjectFiles
from devloop.watch.rescan import Rescan
from devloop.watch.source import Backend
from devloop.watch.watcher import Interest, Watcher
from devloop.wiring import Session

TIDY_AFTER = 5.0  # seconds of rest after a trip before old images are removed


@dataclass(frozen=True, slots=True)
class Outside:
    """What `watch` has from the machine that it runs on: file events, and a look at the rules (`check`)."""

    backend: Backend
    look: Look


@dataclass(slots=True)
class OnDisk:
    """config.yaml as it lies on disk, for whoever cannot wait for its file event. `files`: from the moment
    when they are watched."""

    files: ProjectFiles | None = None

    def take(self) -> None:
        """What changed of it counts from now on."""
        if self.files is not None:
            self.files.look()

    @property
    def refusal(self) -> str:
        """Why what lies there does not count, "" where it does."""
        return self.files.refusal if self.files is not None else ""


# Its name in a report, and the task.
Background = tuple[str, Callable[[], Coroutine[Any, Any, None]]]
# One that has the services rebuilt, restarted, paused or resumed: keys, the control socket.
Commander = tuple[str, Callable[[Actions], Coroutine[Any, Any, None]]]


async def serve(
    session: Session,
    net: SafetyNet,
    override: Override,
    secrets: Secrets,
    outside: Outside,
    *,
    logs: bool = False,
    observers: Sequence[TripObserver] = (),
    background: Sequence[Background] = (),
    commanders: Sequence[Commander] = (),
    on_disk: OnDisk | None = None,
) -> None:
    """Bring the cluster to the tree at every save, until cancelled.

    Raises HeldError, PlatformError at the start only.
    """
    rescan = Rescan(session.images.fingerprinter, session.world.clock)
    companions: list[Companion] = [partial(states, session), rescan.follow]
    companions += [partial(pod_logs, session)] if logs else []
    after_live = AfterLive(session.world)
    watching = (*session.deployment.observers, rescan, after_live, *observers)
    pool = WorkerPool(session.world, session.hold, net, session.deployment.sharing, watching, companions)
    actions = Actions(pool, session.images.rebuilt, partial(_release, session), session.world.clock)
    async with anyio.create_task_group() as group:
        keep = net.keeper(group)
        for what, task in background:
            keep(what, task)
        for what, command in commanders:
            keep(what, command, actions)
        keep("the hooks after_live", after_live.run)
        for companion in session.images.companions:
            keep("what makes the next trip shorter", companion)
        taken = session.setup.current.taken
        forwarder = Forwarder(session.cluster, partial(forwards, session), taken, session.world.emit, net)
        keep("forwarded ports", forwarder.run)
        await group.start(watch_files, session, pool, override, secrets, net, outside, on_disk or OnDisk())
        await pool.run(session.services)


async def _release(session: Session, service: Service) -> bool:
    """Lift the service's hold (S24)."""
    others = partial(sharing, session.config, service.name)
    return await release(service, session.world.cluster, session.cluster, others)


async def watch_files(
    session: Session,
    pool: WorkerPool,
    override: Override,
    secrets: Secrets,
    net: SafetyNet,
    outside: Outside,
    on_disk: OnDisk,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """File events to the inboxes of the services they concern; config.yaml and manifests to their own.

    Started once every change from now on will be seen.
    """
    world, trees, current = session.world, session.images.fingerprinter, session.setup.current
    fallen: list[bool] = []

    def taken(touched: Sequence[str]) -> None:
        secrets.learn(sources_of(current.config, current.names))
        pool.employ(current.services)
        following.renew(touched)

    async def look_whom_to_follow() -> None:
        """A kustomization may name other files now."""
        if await anyio.to_thread.run_sync(files.moved):
            following.renew()

    def interests() -> list[Interest]:
        config = current.config
        wanted = [
            service_interest(service, partial(trees.concerns, service), partial(trees.counts, service))
            for service in together(config, current.names)
        ]
        return [*wanted, *files.interests(config)]

    def deliver(name: str, change: Change) -> None:
        if name in (CONFIG, MANIFESTS, RELEASES):
            _deliver_to_project(files, rules, name, change)
            keep("the files of kustomizations", look_whom_to_follow)
        else:
            pool.deliver(name, change)

    def look_at(names: Sequence[str]) -> None:
        """What was saved before it was watched."""
        for name in (*names, MANIFESTS):
            deliver(name, Change.start(world.clock.now()))

    async def keep_watching(*, task_status: TaskStatus[None]) -> None:
        """A watcher that fell start over, and everything is looked at: no save in between is lost."""
        async with anyio.create_task_group() as watching:
            await watching.start(watcher.run, deliver)
            task_status.started()
            _catch_up(fallen, pool, deliver, world.clock)

    async with anyio.create_task_group() as group:
        keep = net.keeper(group)
        affected = partial(_deliver_to_affected, pool, world.clock)
        files = ProjectFiles(current, override, session.deployment.installation, taken, affected, world.emit)
        on_disk.files = files
        rules = CheckWatch(lambda: None if files.refused else current.config, outside.look, world.emit)
        pool.observe(rules)
        keep("the rules", rules.run)
        watcher = Watcher(await anyio.to_thread.run_sync(interests), world.clock, world.emit, outside.backend)
        following = Following(watcher, interests, look_at)
        await group.start(
            partial(net.keep, "the watcher of files", keep_watching, fell=lambda: fallen.append(True))
        )
        files.reload()  # what was saved since it was read, before anybody works by it
        keep("what is watched", following.run)
        keep("the files of kustomizations", look_whom_to_follow)
        keep("the watch of releases", _observe_releases, session, files)
        task_status.started()
        await net.keep("config.yaml and manifests", files.run)


def _deliver_to_affected(pool: WorkerPool, clock: Clock, names: Collection[str]) -> None:
    """Their trips report what is wrong with their manifests, or that nothing is any more."""
    now = clock.now()
    for name in names:
        pool.deliver(name, Change(frozenset(), now, now, "its manifest was saved"))


def _deliver_to_project(files: ProjectFiles, rules: CheckWatch, name: str, change: Change) -> None:
    files.deliver(name, change)
    if name != CONFIG:  # a config.yaml that was taken leads to a look at the manifests: it is judged then
        rules.wake()


def _catch_up(
    fallen: list[bool], pool: WorkerPool, deliver: Callable[[str, Change], None], clock: Clock
) -> None:
    """After the watcher fell: everything is looked at."""
    for name in (*pool.names, CONFIG, MANIFESTS) if fallen else ():
        deliver(name, Change.start(clock.now()))


async def _observe_releases(session: Session, files: ProjectFiles) -> None:
    """What others do to the releases; restarted when config.yaml names other namespaces."""

    def namespaces() -> set[str]:
        return {release.namespace for release in session.config.releases()}

    while True:
        followed = namespaces()
        async with anyio.create_task_group() as group:
            group.start_soon(
                session.deployment.releaser.watch,
                session.cluster.observe,
                lambda: session.config.releases(),
                session.deployment.statuses.put,
                lambda: files.deliver(RELEASES, Change.start(session.world.clock.now())),
            )
            while namespaces() == followed:
                await session.setup.current.taken()
            group.cancel_scope.cancel()


def forwards(session: Session) -> list[Wanted]:
    """What config.yaml has now, of the services of this session that run somewhere."""
    targets = {service.name: service.targets for service in session.services if service.targets}
    return [(one, targets[one.service]) for one in session.config.forwards() if one.service in targets]


async def pod_logs(session: Session, worker: Worker) -> None:
    """What config.yaml mutes now is left out, whatever it was when they began."""
    emit = session.world.emit

    def emit_wanted(event: Event) -> None:
        if not (isinstance(event, PodLog) and muted_by(tuple(session.config.logs.mute))(event.line)):
            emit(event)

    await follow_logs(worker.service.name, await worker.feeds(), session.cluster, emit_wanted)


async def states(session: Session, worker: Worker) -> None:
    feeds = await worker.feeds()
    await follow_states(
        worker.service.name, feeds, session.cluster, session.world.emit, session.deployment.statuses
    )


class TidyUp:
    """Garbage of this project away, some seconds after each trip that ended well (S25). Observes trips."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ended = anyio.Event()

    def begun(self, service: Service) -> None:
        """Nothing is removed for that."""

    def ended(self, service: Service, outcome: Outcome) -> None:
        if isinstance(outcome, Live):
            self._ended.set()

    async def remove_after_trips(self) -> None:
        """Until cancelled."""
        while True:
            await self._ended.wait()
            self._ended = anyio.Event()
            await anyio.sleep(TIDY_AFTER)
            try:
                removed = await collect_garbage(self._session, self._session.world.clock.now())
            except DevloopError:
                continue  # the engine or the API server is away: after the next trip, then
            if removed:
                self._session.setup.fan(
                    Notice(
                        "",
                        "info",
                        f"removed {len(removed)} old image{'s' * (len(removed) > 1)}: {', '.join(removed)}",
                    )
                )
