"""One trip down the corridor: Change -> Fingerprint -> Image -> LoadedImage -> Rollout -> outcome.

`once` and `watch` run this same coroutine. It never looks for newer changes: whoever runs it cancels it.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from devloop.errors import DevloopError, StageError
from devloop.events import ImageBuilt, ImageLoaded
from devloop.follow import follow
from devloop.model import (
    Change,
    Failed,
    Fingerprint,
    Held,
    Image,
    Live,
    LoadedImage,
    Outcome,
    Ready,
    Revision,
    Rollout,
    Service,
    Unchanged,
)
from devloop.ports import Feed, World
from devloop.rollout import Expectation, carries, judge
from devloop.stopwatch import Stopwatch
from devloop.tasks import gather


async def trip(
    service: Service,
    change: Change,
    feeds: Sequence[Feed],
    world: World,
    watch: Stopwatch,
    parent: Image | None = None,
    patched: anyio.Event | None = None,
) -> Outcome:
    """One trip, to its outcome; expected errors become `Failed`, cancellation passes through.

    `patched` is set when nothing is left to do but watching the rollout.
    """
    fingerprint: Fingerprint | None = None
    try:
        with watch.time("fingerprint"):
            fingerprint = await world.fingerprinter.take(service, change)
            found = await world.loader.find(service, fingerprint)
        ref = service.ref(fingerprint)
        if any(feed.latest.hold == fingerprint.digest for feed in feeds):
            return Held(fingerprint, watch.timing())
        carried = bool(feeds) and all(carries(feed.latest, service.image, ref) for feed in feeds)
        touched = carried and await world.installer.install(service, ref)
        if carried and not touched and _ready(service, ref, found, feeds, world):
            return Unchanged(fingerprint, ref, watch.timing(), await _url(feeds, world))

        image = found or await _build(service, fingerprint, parent, world, watch)
        with watch.time("load"):
            loaded = await world.loader.load(image)
        world.emit(ImageLoaded(service.name, ref, loaded.how, loaded.sent, loaded.skipped))
        if carried and not touched:
            revisions = tuple(_standing(feed, ref) for feed in feeds)
        else:
            with watch.time("patch"):
                if not touched:
                    missing = any(not feed.latest.exists for feed in feeds)
                    await world.installer.install(service, ref, missing=missing)
                async with world.installer.writing(service):
                    revisions = await _patch(service, loaded, feeds, world)
        if patched is not None:
            patched.set()
        if not feeds:
            return Live(fingerprint, Rollout(loaded, (), ()), watch.timing(), image, loaded)
        with watch.time("rollout"):
            pods = await follow(service, feeds, revisions, loaded, world, watch)
        url = await _url(feeds, world)
        if carried and found is not None:
            return Unchanged(fingerprint, ref, watch.timing(), url)
        return Live(fingerprint, Rollout(loaded, revisions, pods), watch.timing(), image, loaded, url)
    except DevloopError as error:
        stage = error.stage if isinstance(error, StageError) else watch.stage
        return Failed(stage, error, watch.timing(), fingerprint, change.paths)
    except Exception as error:  # noqa: BLE001 - the last net: whatever happens, a trip has an outcome
        found_out = world.report(f"the trip of {service.name}", error)
        return Failed(watch.stage, found_out, watch.timing(), fingerprint, change.paths)


def _ready(service: Service, ref: str, found: Image | None, feeds: Sequence[Feed], world: World) -> bool:
    """Whether every target runs the reference already; by image id too where the image is known (S1)."""
    expected = Expectation(service.image, ref, found.id if found else "")
    now = world.clock.now()
    return all(isinstance(judge(feed.latest, expected, now), Ready) for feed in feeds)


async def _build(
    service: Service, fingerprint: Fingerprint, parent: Image | None, world: World, watch: Stopwatch
) -> Image:
    with watch.time("build"):
        image = await world.builder.build(service, fingerprint, parent)
        world.emit(ImageBuilt(service.name, image.ref, image.how, image.size))
    return image


def _standing(feed: Feed, ref: str) -> Revision:
    """The revision that stands, where the template carries the reference already (S4)."""
    now = feed.latest
    return Revision(now.target, now.uid, now.generation, ref, now.at, changed=False)


async def _patch(
    service: Service, loaded: LoadedImage, feeds: Sequence[Feed], world: World
) -> tuple[Revision, ...]:
    """PATCH every target (S17). The adapter shields each PATCH, and reads back what got no answer (S16)."""

    async def patch(feed: Feed) -> Revision:
        return await world.cluster.patch(feed.latest.target, service, loaded)

    return await gather(patch, feeds)


async def _url(feeds: Sequence[Feed], world: World) -> str | None:
    return await world.cluster.url(feeds[0].latest.target) if feeds else None
