"""`watch`, `once` and `down` as the command line calls them: sinks chosen, session opened, exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from devloop import __version__, beside, engine, teardown
from devloop import config as configs
from devloop.checkwatch import CheckWatch, by_process
from devloop.config import Config
from devloop.crew import Companion, Crew
from devloop.errors import DevloopError, PlatformError
from devloop.events import Event, Notice, TripEnded
from devloop.interests import CONFIG, MANIFESTS, RELEASES, service_interest
from devloop.model import Change, Failed, Held, Live, Outcome, Superseded
from devloop.podlogs import follow_logs
from devloop.reload import Override, ProjectFiles
from devloop.rescan import Rescan
from devloop.showing import concealer_of, known, names_of, show
from devloop.sinks.concealing import Concealer
from devloop.statewatch import follow_states
from devloop.stopwatch import Clock
from devloop.watching import Interest, Watcher
from devloop.wiring import Fan, Session, chosen, opened
from devloop.worker import Worker

INTERRUPTED = 130
TIDY_AFTER = 5.0  # seconds of rest after a trip before old images are removed


def once(
    config: Config,
    kubeconfig: Path | None,
    names: Sequence[str],
    *,
    as_json: bool,
    rebuild: bool,
    log_format: str,
) -> int:
    """Bring the cluster to the tree; the exit code."""
    from devloop.sinks import summary

    clock, fan, conceal = Clock(), Fan(), concealer_of(config, names)
    outcomes: dict[str, Outcome] = {}
    told: dict[str, dict[str, Any]] = {}  # by a running watch of the same config

    async def work() -> None:
        salt = str(clock.now()) if rebuild else ""
        async with anyio.create_task_group() as group:
            for companion in redraw:
                group.start_soon(companion)
            async with opened(config, kubeconfig, names, fan, clock, salt=salt) as session:
                session.require_tools()
                if session.held_by_own_watch():
                    fan(Notice("", "info", "a devloop watch of this config runs: waiting for its trips"))
                    told.update(await beside.reported(config, session.services, session.world))
                else:
                    outcomes.update(await _settled(session, clock))
            group.cancel_scope.cancel()

    with ExitStack() as stack:
        redraw = show(
            stack, fan, config, names, clock, conceal, log_format=log_format, machine=as_json, logs=False
        )
        try:
            interrupted = anyio.run(engine.until_interrupted, work)
        except DevloopError as error:
            error.conceal(conceal)
            if as_json:
                print(summary.error_as_json(error, dict.fromkeys(names_of(config, names)), conceal))
            raise
    if interrupted:
        return INTERRUPTED
    if told:
        print(summary.told_as_json(told) if as_json else summary.told_as_lines(told))
        return 0 if all(trip["outcome"] in ("live", "unchanged", "held") for trip in told.values()) else 1
    print(summary.as_json(outcomes, conceal) if as_json else summary.as_table(outcomes))
    return exit_code(outcomes.values())


async def _settled(session: Session, clock: Clock) -> Mapping[str, Outcome]:
    """Every service's trip to its outcome, then the manifests that changed, then the garbage."""
    with session.held():
        workers = [Worker(service, session.world) for service in session.services]
        outcomes = await engine.once(workers, clock)
        failed = any(isinstance(outcome, Failed) for outcome in outcomes.values())
        with suppress(DevloopError) if failed else nullcontext():  # a trip has told why already
            await session.installation.settle()
    with suppress(DevloopError):  # what was rolled out is what counts
        await session.collect_garbage(clock.now())
    return outcomes


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 all live or unchanged, 3 where only platforms were in the way, else 1."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed | Superseded | Held)]
    errors = [outcome.error for outcome in failed if isinstance(outcome, Failed)]
    if not failed or all(isinstance(outcome, Held) for outcome in failed):
        return 0
    return 3 if errors and all(isinstance(error, PlatformError) for error in errors) else 1


def watch(
    config: Config,
    override: Override,
    kubeconfig: Path | None,
    names: Sequence[str],
    *,
    logs: bool,
    log_format: str,
) -> int:
    """Until a signal ends it; the exit code. `override` is applied again to a config.yaml that changed."""
    from devloop.sinks.journal import Journal
    from devloop.sinks.metrics import Metrics
    from devloop.sinks.status import StatusBoard
    from devloop.sinks.web import Web, open_listener

    clock, fan, conceal = Clock(), Fan(), concealer_of(config, names)
    host, port = config.metrics.address
    with ExitStack() as stack:
        listener = open_listener(host, port)
        stack.callback(listener.close)
        served = names_of(config, names)
        metrics = Metrics(__version__, served)
        board = StatusBoard(
            __version__, config.path, configs.project_id(config.path), served, clock.now(), conceal
        )
        journal = stack.enter_context(Journal(configs.state_dir(config.path), clock, conceal))
        fan.sinks += [metrics, board, journal]
        web = Web(listener, host, metrics.render, board.answer)
        redraw = show(
            stack, fan, config, names, clock, conceal, log_format=log_format, machine=False, logs=logs
        )

        async def work() -> None:
            async with opened(config, kubeconfig, names, fan, clock, patient=True) as session:
                session.require_tools()
                fan(Notice("", "info", f"metrics on {web.url}/metrics"))
                rescan = Rescan(session.fingerprinter, clock)
                fan.sinks.append(rescan.note)
                companions: list[Companion] = [partial(_states, session), rescan.follow]
                companions += [partial(_pod_logs, session)] if logs else []
                crew = Crew(session.world, session.hold, companions)
                async with anyio.create_task_group() as group:
                    for companion in (web.run, *redraw):
                        group.start_soon(companion)
                    group.start_soon(session.background)
                    group.start_soon(_tidy_up, session)
                    await group.start(_watch_files, session, crew, names, override, conceal)
                    await crew.run(session.services)

        anyio.run(engine.until_interrupted, work)
    return INTERRUPTED


async def _tidy_up(session: Session) -> None:
    """Garbage of this project away, some seconds after each trip that ended well (S25)."""
    ended = anyio.Event()

    def note(event: Event) -> None:
        if isinstance(event, TripEnded) and isinstance(event.outcome, Live):
            ended.set()

    session.fan.sinks.append(note)
    while True:
        await ended.wait()
        ended = anyio.Event()
        await anyio.sleep(TIDY_AFTER)
        try:
            removed = await session.collect_garbage(session.world.clock.now())
        except DevloopError:
            continue  # the engine or the API server is away: after the next trip, then
        if removed:
            session.fan(Notice("", "info", f"removed {len(removed)} old images: {', '.join(removed)}"))


async def _pod_logs(session: Session, worker: Worker) -> None:
    await follow_logs(worker.service.name, await worker.feeds(), session.cluster, session.world.emit)


async def _states(session: Session, worker: Worker) -> None:
    feeds = await worker.feeds()
    await follow_states(worker.service.name, feeds, session.cluster, session.world.emit, session.statuses)


async def _watch_files(
    session: Session,
    crew: Crew,
    names: Sequence[str],
    override: Override,
    conceal: Concealer,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """File events to the inboxes of the services they concern; config.yaml and manifests to their own.

    Started once every change from now on will be seen.
    """
    world, trees = session.world, session.fingerprinter
    watcher: Watcher

    def employ(config: Config) -> Sequence[str]:
        session.tree.config = config
        conceal.learn(known(config, names))
        touched = crew.employ(chosen(config, names))
        group.start_soon(rearm, touched)
        return touched

    async def rearm(touched: Sequence[str]) -> None:
        """Watch for the new services too; what was saved before that is looked for."""
        await watcher.reconfigure(interests())
        for name in touched:
            crew.deliver(name, engine.start_of(world.clock))

    async def refollow() -> None:
        """A kustomization may name other files now; what was saved to them meanwhile is looked at."""
        if await anyio.to_thread.run_sync(files.moved):
            await watcher.reconfigure(await anyio.to_thread.run_sync(interests))
            files.deliver(MANIFESTS, engine.start_of(world.clock))

    def interests() -> list[Interest]:
        services = chosen(files.config, names)
        wanted = [
            service_interest(service, partial(trees.concerns, service), partial(trees.counts, service))
            for service in services
        ]
        return [*wanted, *files.interests()]

    def deliver(name: str, change: Change) -> None:
        if name in (CONFIG, MANIFESTS, RELEASES):
            files.deliver(name, change)
            rules.wake()
            group.start_soon(refollow)
        else:
            crew.deliver(name, change)

    async with anyio.create_task_group() as group:
        files = ProjectFiles(session.config, override, session.installation, employ, world.emit)
        rules = CheckWatch(lambda: files.config, by_process(names), world.emit)
        session.fan.sinks.append(rules.note)
        group.start_soon(rules.run)
        watcher = Watcher(await anyio.to_thread.run_sync(interests), world.clock, world.emit)
        await group.start(watcher.run, deliver)
        group.start_soon(
            session.releaser.watch,
            session.cluster.observe,
            lambda: files.config.releases(),
            session.statuses.put,
            lambda: files.deliver(RELEASES, engine.start_of(world.clock)),
        )
        task_status.started()
        await files.run()


def down(config: Config, kubeconfig: Path | None, ask: Callable[[Sequence[str]], bool]) -> int:
    """Remove what devloop brought into the cluster, if `ask` says so; 1 if it does not."""
    asked = True

    async def work() -> None:
        nonlocal asked
        async with opened(config, kubeconfig, (), Fan(), Clock()) as session:
            with session.held():
                removal = session.removal()
                found = await teardown.plan(config.releases(), session.releaser, removal)
                if found.empty:
                    print("nothing of this project is in the cluster")
                    return
                asked = await anyio.to_thread.run_sync(ask, found.lines())
                if asked:
                    session.installation.manifests.forget()  # first: a down that is killed is no reason to
                    await teardown.tear_down(found, session.releaser, removal)  # leave out what it deleted
                    print(f"removed: {', '.join(found.lines())}")

    if anyio.run(engine.until_interrupted, work):
        return INTERRUPTED
    return 0 if asked else 1
