"""`devloop resume`: lift the pause of a running watch, and the hold of `devloop rollback`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from devloop.commands.control import results_of, show_results
from devloop.commands.frame import Project, run
from devloop.commands.rollback import HOLD, Others, Workloads, sharing
from devloop.commands.session import held_beside_own, in_session
from devloop.config import load as configs
from devloop.control.actions import Result
from devloop.control.client import running_watches, watches_of
from devloop.control.protocol import Json
from devloop.model import Service
from devloop.ports import Cluster
from devloop.rollout.hold import hold_of, released
from devloop.wiring import Session


def resume(project: Project, names: Sequence[str], *, output: str) -> int:
    """Let the services, or all, follow the tree again; the exit code."""
    chosen = [service.name for service in configs.chosen(project.config, names)]
    results = run(partial(_by_watch, project, chosen))
    others = [name for name in chosen if name not in results]
    if others:
        results |= in_session(project, others, partial(_lift, project))
    return show_results(results, output=output)


async def _by_watch(project: Project, names: Sequence[str]) -> Json:
    """What the running watches did, each for its own services; {} without one."""
    served = {name for watch in await running_watches(project.config) for name in watch.services}
    wanted = [name for name in names if name in served]
    return await results_of(await watches_of(project.config, wanted), "resume") if wanted else {}


async def _lift(project: Project, session: Session) -> Json:
    """What was done about the services of the session, where no watch works for them."""
    results = {}
    with held_beside_own(session):
        for service in session.services:
            others = partial(sharing, project.config, service.name)
            was_held = await release(service, session.world.cluster, session.cluster, others)
            text = "no longer held; devloop once brings the tree" if was_held else "was not held"
            result = asdict(Result(service.name, True, text))
            results[result.pop("service")] = result
    return results


async def release(service: Service, cluster: Cluster, workloads: Workloads, others: Others) -> bool:
    """Lift the hold; whether there was one. Raises PatchError, TargetMissingError, PlatformError."""
    was_held = False
    for target in service.targets:
        async with cluster.feed(target) as feed:
            text = feed.latest.hold
        if hold_of(text, service.name):
            was_held = True
            await workloads.annotate(target, {HOLD: released(text, service.name, others(target))})
    return was_held
