"""`devloop once`: bring the cluster to the tree, then exit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import anyio

from devloop.clock import Clock
from devloop.commands.output import names_of, secrets_of, show
from devloop.commands.running_watch import Json, ask
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.errors import DevloopError, InternalError, PlatformError
from devloop.events import Notice
from devloop.model import Change, Failed, Held, Outcome, Service, Superseded
from devloop.ports import World
from devloop.safety_net import FOLDER, Reports
from devloop.signals import INTERRUPTED, until_interrupted
from devloop.trip import once as engine
from devloop.trip.worker import Worker
from devloop.wiring import Fan, Session, opened


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

    clock, secrets = Clock(), secrets_of(config, names)
    fan = Fan(secrets)
    outcomes: dict[str, Outcome] = {}
    told: dict[str, dict[str, Any]] = {}  # by a running watch of the same config

    report = Reports(configs.state_dir(config.path) / FOLDER, secrets).error

    async def work() -> None:
        salt = str(clock.now()) if rebuild else ""
        async with anyio.create_task_group() as group:
            for companion in redraw:
                group.start_soon(companion)
            async with opened(
                config, kubeconfig, names, fan, clock, salt=salt, report=report, whole=True
            ) as session:
                session.require_tools()
                if session.held_by_own_watch():
                    fan(Notice("", "info", "a devloop watch of this config runs: waiting for its trips"))
                    told.update(await reported(config, session.services, session.world))
                else:
                    outcomes.update(await _settled(session, clock))
            group.cancel_scope.cancel()

    with ExitStack() as stack:
        redraw = show(stack, fan, config, names, clock, log_format=log_format, machine=as_json, logs=False)
        try:
            interrupted = anyio.run(until_interrupted, work)
        except DevloopError as error:
            error.conceal(secrets)
            if as_json:
                print(summary.error_as_json(error, dict.fromkeys(names_of(config, names))))
            raise
    if interrupted:
        return INTERRUPTED
    if told:
        print(summary.told_as_json(told) if as_json else summary.told_as_lines(told))
        return 0 if all(trip["outcome"] in ("live", "unchanged", "held") for trip in told.values()) else 1
    shown = {name: secrets.outcome(outcome) for name, outcome in outcomes.items()}
    print(summary.as_json(shown) if as_json else summary.as_table(shown))
    return exit_code(outcomes.values())


async def _settled(session: Session, clock: Clock) -> Mapping[str, Outcome]:
    """Every service's trip to its outcome, then the manifests that changed, then the garbage."""
    with session.held():
        session.sharing.employ(session.services)
        workers = [Worker(service, session.world, session.sharing) for service in session.services]
        outcomes = await engine.once(workers, clock)
        failed = any(isinstance(outcome, Failed) for outcome in outcomes.values())
        with suppress(DevloopError) if failed else nullcontext():  # a trip has told why already
            await session.installation.settle()
    with suppress(DevloopError):  # what was rolled out is what counts
        await session.collect_garbage(clock.now())
    return outcomes


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 all live or unchanged, 70 for a fault of devloop itself, 3 where only platforms were in the way,
    else 1."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed | Superseded | Held)]
    errors = [outcome.error for outcome in failed if isinstance(outcome, Failed)]
    if not failed or all(isinstance(outcome, Held) for outcome in failed):
        return 0
    if any(isinstance(error, InternalError) for error in errors):
        return InternalError.exit_code
    return 3 if errors and all(isinstance(error, PlatformError) for error in errors) else 1


POLL = 0.1  # seconds between two looks
NOTICE = 20.0  # seconds in which the watch must have begun on the tree's content


async def reported(config: Config, services: Sequence[Service], world: World) -> Mapping[str, Json]:
    """The trip that the running watch made for the tree as it is now, by service, as in /api/status.

    Raises PlatformError if it does not answer, or takes no notice of the tree.
    """
    wanted = {}
    for service in services:
        fingerprint = await world.fingerprinter.take(service, Change.start(world.clock.now()))
        wanted[service.name] = fingerprint.digest
    begun = world.clock.ticks()
    while True:
        cards = (await anyio.to_thread.run_sync(ask, config)).get("services", {})
        ended = {name: _trip_of(cards.get(name, {}), digest) for name, digest in wanted.items()}
        found = {name: trip for name, trip in ended.items() if trip is not None}
        if len(found) == len(wanted):
            return found
        idle = [name for name, trip in ended.items() if trip is None and not cards.get(name, {}).get("stage")]
        if idle and world.clock.ticks() - begun > NOTICE:
            raise PlatformError(
                f"the running devloop watch takes no notice of {', '.join(idle)}",
                reason="HeldByAnother",
                hint="does it run the same services? end it with Ctrl-C and call once again",
            )
        await anyio.sleep(POLL)


def _trip_of(card: Json, digest: str) -> Json | None:
    """The newest trip, if it was this content's and no other runs."""
    trips = card.get("trips") or [{}]
    settled = trips[-1].get("fingerprint") == digest and not card.get("stage")
    return dict(trips[-1]) if settled else None
