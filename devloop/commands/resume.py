"""`devloop resume`: lift the hold of `devloop rollback`."""

from __future__ import annotations

from functools import partial

from devloop.commands.frame import Project
from devloop.commands.rollback import HOLD, Others, Workloads, sharing
from devloop.commands.session import held_beside_own, in_session
from devloop.model import Service
from devloop.ports import Cluster
from devloop.rollout.hold import hold_of, released
from devloop.wiring import Session


def resume(project: Project, name: str) -> int:
    """Let the service `name` follow the tree again; the exit code."""

    async def lift(session: Session) -> bool:
        with held_beside_own(session):
            others = partial(sharing, session.config, name)
            return await release(session.services[0], session.world.cluster, session.cluster, others)

    if in_session(project, (name,), lift):
        print(
            f"{name}: no longer held; a running `devloop watch` will redeploy, otherwise run `devloop once`"
        )
    else:
        print(f"{name}: was not held")
    return 0


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
