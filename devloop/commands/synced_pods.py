"""Pods that run synced files, when nobody looks after them any more: they get the image with those (S38)."""

from __future__ import annotations

from contextlib import suppress

import anyio

from devloop.errors import DevloopError
from devloop.events import Notice
from devloop.model import Service
from devloop.wiring import Session

LONGEST = 1.5  # seconds: the process ends soon after the signal, whatever hangs


def take_over(session: Session) -> None:
    """At the start, its targets held: what an earlier devloop synced and could not bake, as it was killed, is
    to get an image; the first trip does that. What it was to leave stays."""
    kept = {service.name for service in session.services if _stays(service)}
    with suppress(OSError):  # as before, then: what it holds is the truth still
        session.cluster.synced.disown(kept)


async def bake_all(session: Session) -> None:
    """At the end of `watch`, even amid its cancellation: one restart for each such pod."""
    noted = session.cluster.synced.services()
    with anyio.move_on_after(LONGEST, shield=True):
        for service in session.services:
            if service.name not in noted:
                continue
            if _stays(service):
                text = "its pods run files that their image does not hold (update.at_end: leave)"
                hint = "a pod that dies comes back with the image that holds them"
                session.world.emit(Notice(service.name, "warning", text, hint))
                continue
            try:
                await _bake(session, service)
            except DevloopError as error:
                text = f"its pods run synced files still: {error.message}"
                session.world.emit(
                    Notice(service.name, "warning", text, "the next devloop watch restarts them")
                )


async def _bake(session: Session, service: Service) -> None:
    """Raises PatchError, PlatformError."""
    for target in service.targets:
        with session.hold(target):
            async with session.cluster.in_place(target, service, "") as update:
                given = await update.bake()
        if given:
            text = f"{', '.join(given)}: restarting with the image that {target} names"
            session.world.emit(Notice(service.name, "info", text))


def _stays(service: Service) -> bool:
    return service.update == "sync" and service.at_end == "leave"
