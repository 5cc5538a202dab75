"""What this project brought into the cluster, for `down` and `diff`: objects and Helm releases."""

from __future__ import annotations

from devloop.adapters.kubernetes.apply.removal import Removal
from devloop.config import load as configs
from devloop.model import Release
from devloop.wiring import Session


def removal_of(session: Session) -> Removal:
    """What `down` deletes with."""
    project = configs.project_id(session.config.path)
    config = session.config
    return Removal(
        session.cluster.client,
        session.cluster.applier,
        config.manifest_files,
        project,
        _namespaces(session),
        everywhere=not config.namespace_given,  # what -n made elsewhere is another one's
    )


async def left_releases(session: Session) -> list[Release]:
    """Those that this project installed, wherever `down` may look."""
    namespaces = _namespaces(session)
    made = await session.deployment.releaser.made(namespaces)
    return [one for one in made if one.namespace in namespaces or not session.config.namespace_given]


def _namespaces(session: Session) -> set[str]:
    """All that config.yaml names now."""
    config = session.config
    found = {config.cluster.namespace, *(release.namespace for release in config.releases())}
    return found | {target.namespace for service in config.services() for target in service.targets}
