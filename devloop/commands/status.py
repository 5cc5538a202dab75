"""`devloop status`: does the cluster run the tree?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from devloop.commands import running_watch
from devloop.commands.frame import Project, in_session
from devloop.commands.output import secrets_of
from devloop.config.load import Config
from devloop.errors import PlatformError
from devloop.model import Service
from devloop.rollout.service_status import Standing, standings
from devloop.wiring import Session


def status(project: Project, names: Sequence[str], *, as_json: bool) -> int:
    """Print how every service stands; 0 if each is live."""
    from devloop.sinks.standing import as_json as to_json
    from devloop.sinks.standing import as_table as to_table

    async def look(session: Session) -> Mapping[str, Standing]:
        return await standings(session.services, session.world, partial(_release_status, session))

    found = in_session(project, names, look)
    stages = _stages(project.config)
    hide = secrets_of(project.config, names)
    clean = {
        name: replace(one, message=hide(one.message), hint=hide(one.hint or "") or None)
        for name, one in found.items()
    }
    print(to_json(clean, stages) if as_json else to_table(clean, stages))
    return 0 if all(standing.well for standing in found.values()) else 1


def _stages(config: Config) -> dict[str, str]:
    """What a running `devloop watch` of this config says: service -> stage or state; {} without one."""
    try:
        cards = running_watch.ask(config)["services"]
    except PlatformError:
        return {}
    return {name: card.get("stage") or card.get("state") or "" for name, card in cards.items()}


async def _release_status(session: Session, service: Service) -> str:
    """The status of the Helm release that holds the service, "" without one. Raises PlatformError."""
    for release in session.config.releases():
        if service.name in release.images:
            view = await session.deployment.releaser.find(release)
            return view.status if view else ""
    return ""
