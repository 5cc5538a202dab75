"""The control socket of `devloop watch`: where it is, and what it can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio.to_thread

from devloop.commands.watch_tasks import OnDisk
from devloop.control import place
from devloop.control.actions import Actions
from devloop.control.answers import wait_handler
from devloop.control.handlers import handlers_of
from devloop.control.protocol import Handler
from devloop.control.server import ControlServer
from devloop.control.waiting import Waiting
from devloop.errors import PlatformError
from devloop.events import Notice
from devloop.model import Service
from devloop.safety_net import SafetyNet
from devloop.secrets.redaction import Secrets
from devloop.wiring import Session

Problems = Callable[[], Mapping[str, str]]


async def serve_requests(
    session: Session, net: SafetyNet, secrets: Secrets, on_disk: OnDisk, problems: Problems, actions: Actions
) -> None:
    """Until cancelled. Where no socket can be made the watch works all the same, and says so."""
    handlers = _handlers(session, secrets, on_disk, problems, actions)
    try:
        await anyio.to_thread.run_sync(place.remove_dead)
        await ControlServer(handlers, net.error).run(place.own_socket(session.config.path))
    except (PlatformError, OSError) as error:
        why = error.message if isinstance(error, PlatformError) else str(error)
        hint = error.hint if isinstance(error, PlatformError) else None
        text = f"other commands cannot reach this watch, it has no control socket: {why}"
        session.world.emit(Notice("", "warning", text, hint))


def waits_of(session: Session, on_disk: OnDisk, actions: Actions) -> Waiting:
    """What answers `devloop wait` in this session."""
    manifests = session.deployment.installation.manifests

    async def needs_trip(service: Service) -> bool:
        """A chart that changed is only found by an upgrade."""
        in_release = any(service.name in release.images for release in session.config.releases())
        return in_release or not await manifests.is_applied()

    inputs, clock = session.images.fingerprinter, session.world.clock
    return Waiting(actions.pool, inputs, clock, on_disk.take, needs_trip)


def _handlers(
    session: Session, secrets: Secrets, on_disk: OnDisk, problems: Problems, actions: Actions
) -> Mapping[str, Handler]:
    cluster = session.config.cluster

    def wrong() -> Mapping[str, str]:
        refusal = on_disk.refusal
        return {**problems(), **({"config.yaml": secrets(refusal)} if refusal else {})}

    waiting = waits_of(session, on_disk, actions)
    return {
        **handlers_of(actions, lambda: (cluster.context, cluster.namespace), secrets),
        "wait": wait_handler(waiting, lambda: actions.services, wrong, secrets),
    }
