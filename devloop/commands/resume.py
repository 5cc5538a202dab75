"""`devloop resume`: lift the hold of `devloop rollback`."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from devloop.clock import Clock
from devloop.commands.rollback import HOLD, Workloads
from devloop.config.load import Config
from devloop.model import Service
from devloop.signals import INTERRUPTED, until_interrupted
from devloop.wiring import Fan, opened


async def resume(service: Service, workloads: Workloads) -> None:
    """Lift the hold. Raises PatchError, TargetMissingError, PlatformError."""
    for target in service.targets:
        await workloads.annotate(target, {HOLD: None})


def release(config: Config, kubeconfig: Path | None, name: str) -> int:
    """`devloop resume`; the exit code."""

    async def work() -> None:
        async with opened(config, kubeconfig, (name,), Fan(), Clock()) as session:
            await resume(session.services[0], session.cluster)
            click.echo(f"{name}: no longer held; a running devloop watch brings the tree, else devloop once")

    return INTERRUPTED if anyio.run(until_interrupted, work) else 0
