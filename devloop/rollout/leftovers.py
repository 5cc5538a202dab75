"""Ends what a cut-off update in place left where no other follows it: after a build that fails, say (S35)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import anyio

from devloop.errors import DevloopError
from devloop.events import Notice
from devloop.model import Service, Snapshot
from devloop.ports import Feed, World
from devloop.rollout.expectation import Expectation, own_images, strays
from devloop.rollout.follow import any_newer

LONGEST = 5.0  # seconds: the trip's own outcome is due
ROUNDS = 3  # in which pods are deleted: whoever gives each new one another image is not fought for ever
PAUSE = 5.0  # seconds from one try to the next, where something is still left


async def clear_leftovers(service: Service, feeds: Sequence[Feed], world: World) -> int:
    """Bring the pods of each target to the image that its template names. The next trip tries again.

    A pod that was changed already is deleted, for it may never get ready, and its ReplicaSet makes another.
    How many were. A service that is rolled now may have been updated in place before.
    """
    deleted = 0
    with anyio.move_on_after(LONGEST):
        for feed in feeds:
            target = feed.latest.target
            if not feed.latest.exists:
                continue
            if service.update == "roll" and not _is_left(service, feed.latest):
                continue
            with suppress(DevloopError):
                async with world.cluster.in_place(target, service, "") as update:
                    for pod in await update.clear():
                        text = f"{pod} has an image that {target} does not name: deleting it"
                        world.emit(Notice(service.name, "info", text))
                        deleted += 1
    return deleted


async def keep_clear(service: Service, feeds: Sequence[Feed], world: World) -> None:
    """The same for as long as no trip begins, where a trip could not: the API server was gone, say. Ends only
    when cancelled, without feeds, or after ROUNDS."""
    rounds = 0
    while feeds and rounds < ROUNDS:
        seen = [feed.latest for feed in feeds]
        if any(_is_left(service, snapshot) for snapshot in seen):
            rounds += bool(await clear_leftovers(service, feeds, world))
            await anyio.sleep(PAUSE)
        else:
            await any_newer(feeds, seen)


def _is_left(service: Service, snapshot: Snapshot) -> bool:
    """A pause, or a pod with an image that the template does not name; not one into which files were synced,
    and whole: the next trip goes on from those."""
    named = set(own_images(snapshot, service.image).values())
    left = (one for ref in named for _, one in strays(snapshot, Expectation(service.image, ref)))
    return bool(snapshot.in_place) or any(not container.synced for container in left)
