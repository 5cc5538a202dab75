"""`devloop once`: bring the cluster to the tree, then exit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import anyio

from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.commands.garbage import collect_garbage
from devloop.commands.output import Companion, dumped, names_of, secrets_of, show
from devloop.commands.running_watch import Problems, Report, reported
from devloop.commands.synced_pods import take_over
from devloop.config import load as configs
from devloop.errors import DevloopError, InternalError, PlatformError
from devloop.events import Notice
from devloop.fault_reports import FOLDER, Reports
from devloop.model import Failed, Held, Outcome, Service, Superseded
from devloop.rollout.service_status import standings
from devloop.secrets.redaction import Secrets
from devloop.sinks.fan import Fan
from devloop.trip import once as engine
from devloop.trip.after_live import AfterLive
from devloop.trip.worker import Worker
from devloop.wiring import Session, opened

Outcomes = Mapping[str, Outcome]


def once(project: Project, names: Sequence[str], *, output: str, rebuild: bool, log_format: str) -> int:
    """Bring the cluster to the tree; the exit code."""
    from devloop.sinks import summary
    from devloop.sinks.journal import Journal

    config = project.config
    clock, secrets = Clock(), secrets_of(config, names)
    fan = Fan(secrets)
    with ExitStack() as stack:
        fan.sinks.append(stack.enter_context(Journal(configs.state_dir(config.path), clock)))
        shown = show(
            stack, fan, config, names, clock, log_format=log_format, machine=bool(output), logs=False
        )
        try:
            outcomes, report, left = run(
                partial(_work, project, names, fan, clock, shown.companions, secrets, rebuild=rebuild)
            )
        except DevloopError as error:
            error.conceal(secrets)
            if output:
                print(dumped(summary.error_as_object(error, dict.fromkeys(names_of(config, names))), output))
            raise
    if report.trips:
        reported_ = report.trips, report.problems
        print(
            dumped(summary.running_as_object(*reported_), output)
            if output
            else summary.running_as_lines(*reported_)
        )
        return 1 if report.failed else 0
    clean = {name: secrets.outcome(outcome) for name, outcome in outcomes.items()}
    if left is not None:
        left.conceal(secrets)
    problems = {left.about or "manifests": left.message} if left is not None else {}
    print(dumped(summary.as_object(clean, problems), output) if output else summary.as_table(clean))
    if left is not None:
        raise left
    return exit_code(outcomes.values())


async def _work(
    project: Project,
    names: Sequence[str],
    fan: Fan,
    clock: Clock,
    redraw: Sequence[Companion],
    secrets: Secrets,
    *,
    rebuild: bool,
) -> tuple[Outcomes, Report, DevloopError | None]:
    """The outcomes of our own trips, or the trips of a running watch of this config; and what is wrong with
    manifests and releases that are no service's."""
    config = project.config
    report = Reports(configs.state_dir(config.path) / FOLDER, secrets).error
    rebuild_salt = str(clock.now()) if rebuild else ""
    outcomes: Outcomes = {}
    watched = Report()
    left: DevloopError | None = None
    async with anyio.create_task_group() as group:
        for companion in redraw:
            group.start_soon(companion)
        async with opened(
            config,
            project.kubeconfig,
            names,
            fan,
            clock,
            report=report,
            rebuild_salt=rebuild_salt,
            whole=True,
        ) as session:
            session.require_tools()
            if session.held_by_own_watch():
                fan(Notice("", "info", "a devloop watch of this config runs: waiting for its trips"))
                watched = await reported(
                    config, session.services, session.world, partial(_behind, session, secrets)
                )
            else:
                outcomes, left = await _settled(session, clock)
        group.cancel_scope.cancel()
    return outcomes, watched, left


async def _behind(session: Session, secrets: Secrets) -> Problems:
    """What the cluster does not show yet of the tree; without the values of `secrets`."""
    found = await standings(session.services, session.world, _no_release)
    lacking = {name: secrets(f"{one.state}: {one.message}") for name, one in found.items() if not one.well}
    if not await session.deployment.installation.manifests.is_applied():
        lacking["manifests"] = "the running devloop watch has not applied them as they are now"
    return lacking


async def _no_release(_: Service) -> str:
    return ""


async def _settled(session: Session, clock: Clock) -> tuple[Outcomes, DevloopError | None]:
    """Every service's trip to its outcome, then the manifests that changed, then the garbage."""
    left: DevloopError | None = None
    with session.held():
        take_over(session)
        session.deployment.sharing.employ(session.services)
        deployment, after_live = session.deployment, AfterLive(session.world)
        workers = [
            Worker(service, session.world, deployment.sharing, (*deployment.observers, after_live))
            for service in session.services
        ]
        outcomes = await engine.once(workers, clock)
        try:
            await session.deployment.installation.settle()
        except DevloopError as error:
            failed = any(isinstance(outcome, Failed) for outcome in outcomes.values())
            left = None if failed else error  # a trip has reported why already
        await after_live.finish()
    with suppress(DevloopError):  # what was rolled out is what counts
        await collect_garbage(session, clock.now())
    return outcomes, left


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 all live or unchanged, 70 for a fault of devloop itself, 3 where only platforms failed,
    else 1."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed | Superseded | Held)]
    errors = [outcome.error for outcome in failed if isinstance(outcome, Failed)]
    if not failed or all(isinstance(outcome, Held) for outcome in failed):
        return 0
    if any(isinstance(error, InternalError) for error in errors):
        return InternalError.exit_code
    return 3 if errors and all(isinstance(error, PlatformError) for error in errors) else 1
