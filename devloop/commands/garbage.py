"""Old images of this project, removed after trips that ended well (S25)."""

from __future__ import annotations

from devloop.adapters.nodes.gc import Collector, FirstSeen, Keep
from devloop.config import load as configs
from devloop.wiring import Session


async def collect_garbage(session: Session, now: float) -> tuple[str, ...]:
    """Remove this project's old images from engine and nodes; what was removed (S25).

    Raises LoadError, PlatformError: nothing is removed while it is not known what is in use.
    """
    namespaces = {target.namespace for service in session.services for target in service.targets}
    images = session.images
    used = await session.cluster.images_in_use(namespaces)

    def keep() -> Keep:
        kept = used | images.claims.refs | images.builder.keeper.parents()
        return Keep(kept | images.history.newest(session.config.gc.keep), images.history.all())

    collector = Collector(
        images.docker,
        configs.project_id(session.config.path),
        keep,
        claims=images.claims,
        seen=FirstSeen(session.setup.state / "seen.json"),
        repositories=[service.image for service in session.config.services()],
    )
    removed = await collector.collect(await images.loader.route(), now)
    images.history.forget(frozenset(ref.rpartition(" ")[2] for ref in removed))
    return removed
