"""`devloop rollback` and `devloop resume`: a service held at an earlier image (S24)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import anyio
import click

from devloop.config import Config
from devloop.engine import start_of, until_interrupted
from devloop.errors import PatchError
from devloop.model import Revision, Service, Target
from devloop.ports import World
from devloop.stopwatch import Clock
from devloop.wiring import Fan, opened

INTERRUPTED = 130
HOLD = "dev.devloop/hold"


class Workloads(Protocol):
    """What it takes beside the world: earlier images, annotations, and a PATCH to a given reference."""

    async def earlier_images(self, target: Target, image: str) -> tuple[str, ...]:
        """References of the repository of `image` that the target ran: the present one, then back in time."""
        ...

    async def annotate(self, target: Target, notes: Mapping[str, str | None]) -> None: ...

    async def put_image(self, target: Target, image: str, ref: str) -> Revision: ...


async def roll_back(service: Service, world: World, workloads: Workloads) -> str:
    """Hold the service at the image before the present one; the reference.

    The hold is written first: a running `watch` must not mend what it sees. Raises PatchError (nothing
    earlier), TargetMissingError, PlatformError.
    """
    earlier = [await workloads.earlier_images(target, service.image) for target in service.targets]
    if not earlier or any(len(refs) < 2 for refs in earlier):
        raise PatchError(
            f"{service.name} has no earlier image to go back to",
            reason="NothingEarlier",
            hint="it keeps as many as spec.revisionHistoryLimit: kubectl rollout history shows them",
        )
    fingerprint = await world.fingerprinter.take(service, start_of(world.clock))
    for target in service.targets:
        await workloads.annotate(target, {HOLD: fingerprint.digest})
    for target, refs in zip(service.targets, earlier, strict=True):
        await workloads.put_image(target, service.image, refs[1])
    return earlier[0][1]


async def resume(service: Service, workloads: Workloads) -> None:
    """Lift the hold. Raises PatchError, TargetMissingError, PlatformError."""
    for target in service.targets:
        await workloads.annotate(target, {HOLD: None})


def hold(config: Config, kubeconfig: Path | None, name: str) -> int:
    """`devloop rollback`; the exit code."""

    async def work() -> None:
        async with opened(config, kubeconfig, (name,), Fan(), Clock()) as session:
            ref = await roll_back(session.services[0], session.world, session.cluster)
            click.echo(f"{name}: held at {ref} until the next edit, or devloop resume {name}")

    return INTERRUPTED if anyio.run(until_interrupted, work) else 0


def release(config: Config, kubeconfig: Path | None, name: str) -> int:
    """`devloop resume`; the exit code."""

    async def work() -> None:
        async with opened(config, kubeconfig, (name,), Fan(), Clock()) as session:
            await resume(session.services[0], session.cluster)
            click.echo(f"{name}: no longer held; a running devloop watch brings the tree, else devloop once")

    return INTERRUPTED if anyio.run(until_interrupted, work) else 0
