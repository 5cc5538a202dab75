"""`devloop diff`: what `once` would change of objects."""

from __future__ import annotations

from pathlib import Path

import anyio

from devloop.adapters.kubernetes.made import Made
from devloop.clock import Clock
from devloop.commands.output import secrets_of
from devloop.config.load import Config
from devloop.deploy.diff import diff as unified
from devloop.model import Release
from devloop.signals import INTERRUPTED, until_interrupted
from devloop.wiring import Fan, opened


def diff(config: Config, kubeconfig: Path | None) -> int:
    """Print what `once` would change of objects, as a unified diff; 0 nothing, 1 something."""
    lines: list[str] = []
    left: list[str] = []

    async def work() -> None:
        async with opened(config, kubeconfig, (), Fan(), Clock()) as session:
            lines.extend(unified(await session.previews()))
            left.extend(map(_left_over, await session.removal().find_left()))
            known = {(one.namespace, one.name) for one in session.config.releases()}
            releases = await session.left_releases()
            left.extend(_left_over(one) for one in releases if (one.namespace, one.name) not in known)

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    conceal = secrets_of(config, ())
    print("\n".join(map(conceal, lines)) if lines else "nothing would change")
    if left:
        print("\n".join(left))
    return 1 if lines else 0


def _left_over(one: Made | Release) -> str:
    where = f" in namespace {one.namespace}" if one.namespace else ""
    return f"# {one}{where}: made by this project, which names it no more; devloop down removes it"
