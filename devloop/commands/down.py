"""`devloop down`: remove what devloop brought into the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from devloop.clock import Clock
from devloop.config.load import Config
from devloop.deploy import teardown
from devloop.signals import INTERRUPTED, until_interrupted
from devloop.wiring import Fan, opened


def down(config: Config, kubeconfig: Path | None, ask: Callable[[Sequence[str]], bool]) -> int:
    """Remove what devloop brought into the cluster, if `ask` says so; 1 if it does not."""
    asked = True

    async def work() -> None:
        nonlocal asked
        async with opened(config, kubeconfig, (), Fan(), Clock()) as session:
            with session.held():
                removal = session.removal()
                left = await session.left_releases()
                found = await teardown.plan(config.releases(), left, session.releaser, removal)
                if found.empty:
                    print("nothing of this project is in the cluster")
                    return
                asked = await anyio.to_thread.run_sync(ask, found.lines())
                if asked:
                    session.installation.manifests.forget()  # first: a down that is killed is no reason to
                    await teardown.tear_down(found, session.releaser, removal)  # leave out what it deleted
                    print(f"removed: {', '.join(found.lines())}")

    if anyio.run(until_interrupted, work):
        return INTERRUPTED
    return 0 if asked else 1
