"""`devloop resume`: lift the hold of `devloop rollback`."""

from __future__ import annotations

from devloop.commands.frame import Project, held_beside_own, in_session
from devloop.commands.rollback import HOLD, Workloads
from devloop.model import Service
from devloop.wiring import Session


def resume(project: Project, name: str) -> int:
    """Let the service `name` follow the tree again; the exit code."""

    async def lift(session: Session) -> None:
        with held_beside_own(session):
            await release(session.services[0], session.cluster)

    in_session(project, (name,), lift)
    print(f"{name}: no longer held; a running `devloop watch` will redeploy, otherwise run `devloop once`")
    return 0


async def release(service: Service, workloads: Workloads) -> None:
    """Lift the hold. Raises PatchError, TargetMissingError, PlatformError."""
    for target in service.targets:
        await workloads.annotate(target, {HOLD: None})
