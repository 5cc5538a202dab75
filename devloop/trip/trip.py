"""One trip: Change -> Fingerprint -> Image -> LoadedImage -> Rollout -> outcome.

`once` and `watch` run this same coroutine. It never looks for newer changes: whoever runs it cancels it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import anyio

from devloop.activity import Activity, bounded
from devloop.concurrency import gather
from devloop.errors import (
    BuildError,
    DevloopError,
    LayersMissingError,
    StageError,
    TreeMovedError,
)
from devloop.events import ImageBuilt, ImageLoaded, Output, Updated
from devloop.image_refs import same
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
    Snapshot,
    Unchanged,
    slowest,
)
from devloop.ports import Feed, World
from devloop.rollout.follow import follow, load_idle
from devloop.rollout.hold import hold_of
from devloop.rollout.in_place import update_in_place
from devloop.rollout.judge import Expectation, carries, judge, own_images
from devloop.rollout.leftovers import clear_leftovers
from devloop.rollout.sync import Synced, bake, sync
from devloop.stopwatch import Stopwatch
from devloop.trip.before_build import BeforeBuild

Build = Callable[[Service, Fingerprint], Awaitable[Image]]


class _HeldError(DevloopError):
    """A target is held at another image for as long as the tree is this (S24)."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        super().__init__("held at another image")
        self.fingerprint = fingerprint


async def trip(
    service: Service,
    change: Change,
    feeds: Sequence[Feed],
    world: World,
    watch: Stopwatch,
    patched: anyio.Event | None = None,
    tree: BeforeBuild | None = None,
) -> Outcome:
    """One trip, to its outcome; expected errors become `Failed`, cancellation passes through.

    `patched` is set when nothing is left to do but watching the rollout; `tree` reads what the trip brings.
    """
    fingerprint: Fingerprint | None = None
    loaded: LoadedImage | None = None
    try:
        tree = tree or BeforeBuild(service, world)
        fingerprint, found = await tree.look(change, watch, partial(_leave_held, service, feeds))
        ref = service.ref(fingerprint)
        _leave_held(service, feeds, fingerprint)
        carried = bool(feeds) and all(_is_carried(feed.latest, service, ref) for feed in feeds)
        touched = carried and await world.installer.install(service, ref)
        running = running_id(service, ref, found, [feed.latest for feed in feeds], world.clock.now())
        restart = carried and not touched and change.restart
        if carried and not (touched or restart) and running is not None:
            url = await _url(feeds, world)
            return Unchanged(fingerprint, ref, watch.timing(), url, running, _is_idle(feeds))

        synced = None if restart else await sync(service, feeds, fingerprint, world, watch)
        loaded = await _loaded(service, fingerprint, found, world, watch)
        _leave_held(service, feeds, fingerprint)  # it may have been rolled back while it was built
        revisions: tuple[Revision, ...] | None
        if restart:
            with watch.time("patch"):
                revisions = await _restart(service, ref, feeds, world)
        elif carried and not touched and synced is None:
            revisions = tuple(_standing(feed, ref) for feed in feeds)
        else:
            await world.installer.turn(service, partial(_waiting, service, world, watch))
            with watch.time("patch"):
                await _install(service, loaded, feeds, world, installed=touched)
                rolls = service.update == "roll"
                revisions = await _patch(service, loaded, feeds, world) if rolls else None
        if not feeds:
            return Live(Rollout(loaded, (), ()), watch.timing())
        rollout = await _rollout(service, loaded, feeds, revisions or synced, world, watch, patched)
        url = await _url(feeds, world)
        if carried and found is not None and not restart and synced is None:
            return Unchanged(fingerprint, ref, watch.timing(), url, loaded.image.id, _is_idle(feeds))
        return Live(rollout, watch.timing(), url)
    except _HeldError as held:
        await clear_leftovers(service, feeds, world)
        return Held(held.fingerprint, watch.timing())
    except DevloopError as error:
        if not isinstance(error, TreeMovedError):  # which starts over at once
            await clear_leftovers(service, feeds, world)
        stage = error.stage if isinstance(error, StageError) else watch.stage
        return Failed(stage, error, watch.timing(), fingerprint, change.paths, loaded)
    except Exception as error:  # noqa: BLE001 - the last net: whatever happens, a trip has an outcome
        found_out = world.report(f"the trip of {service.name}", error)
        return Failed(watch.stage, found_out, watch.timing(), fingerprint, change.paths, loaded)


def _leave_held(service: Service, feeds: Sequence[Feed], fingerprint: Fingerprint) -> None:
    """Raises _HeldError."""
    if any(hold_of(feed.latest.hold, service.name) == fingerprint.digest for feed in feeds):
        raise _HeldError(fingerprint)


def _is_idle(feeds: Sequence[Feed]) -> bool:
    """No target wants a pod (S18)."""
    return not any(feed.latest.replicas for feed in feeds)


def running_id(
    service: Service, ref: str, found: Image | None, snapshots: Sequence[Snapshot], now: float
) -> str | None:
    """The image id that every target runs under the reference already (S1), "" where no pod reports one.

    None: not every target is ready, or two contents run under one reference. An image that neither nodes
    nor engine hold (any more) is known by its pods alone.
    """
    verdicts = [judge(s, Expectation(service.image, ref, found.id if found else ""), now) for s in snapshots]
    pods = [verdict.pods for verdict in verdicts if isinstance(verdict, Ready)]
    if len(pods) < len(verdicts):
        return None
    if found is not None:
        return found.id
    containers = (container for several in pods for pod in several for container in pod.containers)
    # A repository's digest, as a node reports it after a pull, shows no content that could be compared.
    ids = {c.image_id for c in containers if same(c.image, ref) and c.image_id and "@" not in c.image_id}
    return None if len(ids) > 1 else "".join(ids)


async def _loaded(
    service: Service, fingerprint: Fingerprint, found: Image | None, world: World, watch: Stopwatch
) -> LoadedImage:
    """Build the image where nobody has it, and load it; a delta whose layers are gone is built in full."""
    build = partial(_build, service, fingerprint, world, watch)
    try:
        return await _load(found or await build(world.builder.build), world, watch, service)
    except LayersMissingError:
        return await _load(await build(world.builder.build_full), world, watch, service)


async def _load(image: Image, world: World, watch: Stopwatch, service: Service) -> LoadedImage:
    with watch.time("load"):
        loaded = await bounded(
            lambda: world.loader.load(image), service.build.idle_timeout, partial(load_idle, image)
        )
    world.emit(ImageLoaded(service.name, image.ref, loaded.how, loaded.sent, loaded.skipped))
    return loaded


async def _build(
    service: Service, fingerprint: Fingerprint, world: World, watch: Stopwatch, build: Build
) -> Image:
    with watch.time("build"):
        image = await bounded(
            partial(build, service, fingerprint),
            service.build.idle_timeout,
            partial(_build_idle, service),
        )
        world.emit(ImageBuilt(service.name, image.ref, image.how, image.size))
    return image


def _build_idle(service: Service, activity: Activity) -> BuildError:
    return BuildError(
        f"build of {service.name}: stopped, no output for {activity.idle:.0f} s",
        reason="BuildIdle",
        evidence=activity.lines,
        hint="does a RUN wait for the network, a lock or an input? if it may be silent for longer, set"
        f" services.{service.name}.build.idle_timeout",
    )


def _standing(feed: Feed, ref: str) -> Revision:
    """The revision that stands, where the template carries the reference already (S4)."""
    now = feed.latest
    return Revision(now.target, now.uid, now.generation, ref, now.at, changed=False)


@contextmanager
def _waiting(service: Service, world: World, watch: Stopwatch, names: tuple[str, ...]) -> Iterator[None]:
    with watch.time("depends_on"):
        world.emit(Output(service.name, "depends_on", f"waits for {', '.join(names)}"))
        yield


async def _rollout(
    service: Service,
    loaded: LoadedImage,
    feeds: Sequence[Feed],
    written: tuple[Revision, ...] | Synced | None,
    world: World,
    watch: Stopwatch,
    patched: anyio.Event | None,
) -> Rollout:
    """Until every target is ready. `written`: what the targets were PATCHed to; the containers into which the
    content was synced; None: they are updated in place here."""
    with watch.time("rollout"):
        if isinstance(written, tuple):
            revisions = written
        else:
            revisions = await _update_in_place(service, loaded, feeds, written, world, watch)
        if patched is not None:
            patched.set()
        return Rollout(loaded, revisions, await follow(service, feeds, revisions, loaded, world, watch))


def _is_carried(snapshot: Snapshot, service: Service, ref: str) -> bool:
    """The template says it, and no update in place was cut off that has yet to be ended (S35)."""
    return carries(snapshot, service.image, ref) and not snapshot.in_place


async def _install(
    service: Service, loaded: LoadedImage, feeds: Sequence[Feed], world: World, *, installed: bool
) -> None:
    """Install what is missing (S17). A template without a container of ours is missing too: somebody gave it
    a foreign image, and only its manifest tells which one is ours (S20)."""
    if not installed:
        missing = any(not (feed.latest.exists and own_images(feed.latest, service.image)) for feed in feeds)
        await world.installer.install(service, loaded.image.ref, missing=missing)


async def _patch(
    service: Service, loaded: LoadedImage, feeds: Sequence[Feed], world: World
) -> tuple[Revision, ...]:
    """PATCH every target. The adapter shields each PATCH, and reads back what got no answer (S16)."""

    async def patch(feed: Feed) -> Revision:
        return await world.cluster.patch(feed.latest.target, service, loaded)

    async with world.installer.writing(service):
        revisions = await gather(patch, feeds)
    if feeds:
        world.emit(Updated(service.name, "roll"))
    return revisions


async def _restart(service: Service, ref: str, feeds: Sequence[Feed], world: World) -> tuple[Revision, ...]:
    """Have the pods of every target replaced, with the image that they have."""
    async with world.installer.writing(service):
        return tuple(await gather(lambda feed: world.cluster.restart(feed.latest.target, ref), feeds))


async def _update_in_place(
    service: Service,
    loaded: LoadedImage,
    feeds: Sequence[Feed],
    synced: Synced | None,
    world: World,
    watch: Stopwatch,
) -> tuple[Revision, ...]:
    """Every target: named only, where its pods hold the content (S37), else in place (S33), or rolled where
    that is not safe (S34)."""

    async def update(place: int) -> Revision:
        feed, revision = feeds[place], None
        if synced is not None:
            revision = await bake(service, feed, loaded, synced.pods[place], world)
        revision = revision or await update_in_place(service, feed, loaded, world, watch)
        if revision is None:  # it may have been rolled back meanwhile
            _leave_held(service, [feed], loaded.image.fingerprint)
        return revision or await world.cluster.patch(feed.latest.target, service, loaded)

    async with world.installer.writing(service):
        revisions = await gather(update, range(len(feeds)))
    world.emit(Updated(service.name, slowest(revision.how for revision in revisions) or "roll"))
    return revisions


async def _url(feeds: Sequence[Feed], world: World) -> str | None:
    return await world.cluster.url(feeds[0].latest.target) if feeds else None
