"""The control socket of `devloop watch`: where it is, and what it can be asked for."""

from __future__ import annotations

from devloop.control import place
from devloop.control.actions import Actions
from devloop.control.handlers import handlers_of
from devloop.control.server import ControlServer
from devloop.errors import PlatformError
from devloop.events import Notice
from devloop.safety_net import SafetyNet
from devloop.secrets.redaction import Secrets
from devloop.wiring import Session


async def serve_requests(session: Session, net: SafetyNet, secrets: Secrets, actions: Actions) -> None:
    """Until cancelled. Where no socket can be made the watch works all the same, and says so."""
    cluster = session.config.cluster
    handlers = handlers_of(actions, lambda: (cluster.context, cluster.namespace), secrets)
    try:
        await ControlServer(handlers, net.error).run(place.own_socket(session.config.path))
    except (PlatformError, OSError) as error:
        why = error.message if isinstance(error, PlatformError) else str(error)
        hint = error.hint if isinstance(error, PlatformError) else None
        text = f"other commands cannot reach this watch, it has no control socket: {why}"
        session.world.emit(Notice("", "warning", text, hint))
