"""`devloop rollback`: a service held at an earlier image (S24)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import click

from devloop.commands.frame import Project
from devloop.commands.output import dumped
from devloop.commands.session import held_beside_own, in_session
from devloop.config.load import Config
from devloop.errors import PatchError, StageError
from devloop.image_refs import digest, same_repository
from devloop.model import Change, Fingerprint, Image, Inputs, LoadedImage, Revision, Service, Target
from devloop.ports import World
from devloop.rollout.follow import follow
from devloop.rollout.hold import held
from devloop.stopwatch import Stopwatch
from devloop.wiring import Session

HOLD = "dev.devloop/hold"
Others = Callable[[Target], Collection[str]]
Tell = Callable[[str], object]


class Workloads(Protocol):
    """What it takes beside the world: earlier images, annotations, and a PATCH to a given reference."""

    async def earlier_images(self, target: Target, image: str) -> tuple[str, ...]:
        """References of the repository of `image` that the target ran: the present one, then back in time."""
        ...

    async def annotate(self, target: Target, notes: Mapping[str, str | None]) -> None: ...

    async def put_image(self, target: Target, image: str, ref: str) -> Revision: ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """An image that a service may go back to. `proven`: devloop saw it live."""

    ref: str
    proven: bool


def earlier_images(
    image: str, ran: Sequence[Sequence[str]], lived: Sequence[str], tree: str
) -> tuple[Earlier, ...]:
    """What a service may go back to, the best first. Pure.

    `ran`: what each target says it ran, the present image first; `lived`: what was live of the service, the
    newest first; `tree`: the reference of the tree, which is nothing to go back to. Behind what was live
    comes what nobody has a record of: all of it where there are no records, else only what devloop did not
    build, for of its own images those without a record never were live.
    """
    if not ran or not all(ran):
        return ()
    present = {refs[0] for refs in ran}
    known = [ref for ref in lived if same_repository(ref, image)]
    begin = max((known.index(ref) + 1 for ref in present if ref in known), default=0)
    excluded = {*present, tree}
    proven = [ref for ref in known[begin:] if ref not in excluded]
    everywhere = [ref for ref in ran[0] if all(ref in refs for refs in ran)]
    unknown = [
        ref for ref in everywhere if ref not in excluded and ref not in known and not (known and digest(ref))
    ]
    return (*(Earlier(ref, True) for ref in proven), *(Earlier(ref, False) for ref in unknown))


async def roll_back(
    service: Service,
    world: World,
    workloads: Workloads,
    lived: Sequence[str],
    others: Others,
    hold: Callable[[], AbstractContextManager[None]],
    tell: Tell = click.echo,
) -> str:
    """Hold the service at the newest earlier image that was live, and wait until it runs; the reference.

    `others` gives the names of the services that share a target's workload; `hold` keeps other devloops away
    while the workloads are written. Waiting for the pods is nobody's business but ours.
    The hold is written before the image: a running `watch` must not mend what it sees. Raises PatchError
    (nothing earlier), RolloutError (it does not get ready), TargetMissingError, LoadError, PlatformError.
    """
    ran = [await workloads.earlier_images(target, service.image) for target in service.targets]
    fingerprint = await world.fingerprinter.take(service, Change.start(world.clock.now()))
    choices = earlier_images(service.image, ran, lived, service.ref(fingerprint))
    chosen = await _present(service, world, choices)
    if chosen is None:
        raise PatchError(
            f"{service.name} has no earlier live image to go back to"
            + (f"; gone from nodes and engine: {', '.join(one.ref for one in choices)}" if choices else ""),
            reason="NothingEarlier",
            hint="kubectl rollout history shows earlier revisions; "
            "gc.keep in config.yaml sets how many images are kept",
        )
    choice, image = chosen
    if not choice.proven:
        tell(f"{service.name}: there is no record that {choice.ref} was ever live")
    known = bool(digest(choice.ref))
    loaded = await world.loader.load(image) if known else LoadedImage(image, (), "unchanged")
    with hold():
        for target in service.targets:
            async with world.cluster.feed(target) as feed:
                text = held(feed.latest.hold, service.name, fingerprint.digest, others(target))
            await workloads.annotate(target, {HOLD: text})
        async with world.installer.writing(service):
            revisions = [await workloads.put_image(t, service.image, choice.ref) for t in service.targets]
    tell(f"{service.name}: going back to {choice.ref}")
    await _wait(service, world, revisions, loaded)
    return choice.ref


async def _present(
    service: Service, world: World, choices: Sequence[Earlier]
) -> tuple[Earlier, Image] | None:
    """The first that nodes or engine still have; of what devloop did not build, that is the nodes' affair."""
    for choice in choices:
        fingerprint = Fingerprint(digest(choice.ref), Inputs({}, (), "", "", ""))
        if not fingerprint.digest:
            return choice, Image(service.name, fingerprint, choice.ref, "", "reused")
        image = await world.loader.find(service, fingerprint)
        if image is not None:
            return choice, image
    return None


async def _wait(service: Service, world: World, revisions: Sequence[Revision], loaded: LoadedImage) -> None:
    """Until every target runs it. Raises RolloutError, with how to end the hold."""
    watch = Stopwatch(service.name, Change.start(world.clock.now()), world.clock, world.emit)
    async with AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(world.cluster.feed(target)) for target in service.targets]
        try:
            await follow(service, feeds, revisions, loaded, world, watch)
        except StageError as error:
            back = f"{service.name} is held at {loaded.image.ref}: devloop resume {service.name} lifts that"
            error.hint = f"{error.hint}; {back}" if error.hint else back
            raise


def sharing(config: Config, name: str, target: Target) -> Collection[str]:
    """The names of the other services on the target's workload."""
    return {
        one.name
        for one in config.services()
        for its in one.targets
        if one.name != name and its.workload == target.workload
    }


def rollback(project: Project, name: str, *, output: str) -> int:
    """Hold the service `name` at its newest earlier image; the exit code."""

    ref = in_session(project, (name,), partial(hold_earlier, partial(click.echo, err=bool(output))))
    if output:
        click.echo(dumped({"services": {name: {"held": True, "image": ref}}}, output))
    else:
        click.echo(f"{name}: held at {ref} until the next edit, or devloop resume {name}")
    return 0


async def hold_earlier(tell: Tell, session: Session) -> str:
    """`roll_back` of the session's only service."""
    (service,) = session.services
    lived = session.images.history.of(service.name)
    others, holding = partial(sharing, session.config, service.name), partial(held_beside_own, session)
    with holding():
        pass  # another project's is refused before anything is loaded
    return await roll_back(service, session.world, session.cluster, lived, others, holding, tell)
