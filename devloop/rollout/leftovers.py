"""Ends what a cut-off update in place left where no other follows it: after a build that fails, say (S35)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import anyio

from devloop.errors import DevloopError
from devloop.events import Notice
from devloop.model import Service
from devloop.ports import Feed, World

LONGEST = 5.0  # seconds: the trip's own outcome is due


async def clear_leftovers(service: Service, feeds: Sequence[Feed], world: World) -> None:
    """Bring the pods of each target to the image that its template names. The next trip tries again.

    A pod that was changed already is deleted, for it may never get ready, and its ReplicaSet makes another.
    """
    if service.update != "in-place":
        return
    with anyio.move_on_after(LONGEST):
        for feed in feeds:
            target = feed.latest.target
            if not feed.latest.exists:
                continue
            with suppress(DevloopError):
                async with world.cluster.in_place(target, service, "") as update:
                    for pod in await update.clear():
                        text = f"{pod} has an image that {target} does not name: deleting it"
                        world.emit(Notice(service.name, "info", text))
