"""What `down` takes away beside the process: containers, network, addresses, mounts, the pods' image."""

from __future__ import annotations

import asyncio
import shutil
import time

from devloop_sandbox.engine.bridge import LABEL, network_name
from devloop_sandbox.engine.client import Engine, EngineError
from devloop_sandbox.engine.holders import IMAGE
from devloop_sandbox.engine.namespaces import unmount_below
from devloop_sandbox.network.addresses import remove_all
from devloop_sandbox.options import Options

_PATIENCE = 20.0  # seconds in which the engine must have let go of containers and network


def clean(options: Options) -> list[str]:
    """Remove everything, while no sandbox of this name runs; what the engine keeps until its next restart.

    OSError or EngineError when that did not work.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            asyncio.run(clean_engine(options))
            return []
        except (OSError, EngineError) as error:
            # A container that is just being removed holds the network for a while; and an engine can lose
            # count of a network's endpoints, which only its own restart mends.
            late = time.monotonic() > deadline
            if late and "has active endpoints" in str(error):
                return [str(error)]
            if late or (isinstance(error, EngineError) and not error.status):
                raise
            time.sleep(0.5)


async def clean_engine(options: Options) -> None:
    """One attempt."""
    remove_all(options.state_dir / "addresses")
    async with Engine(options.engine) as engine:
        await engine.remove_all(f"{LABEL}={options.project}")
        unmount_below(options.state_dir / "pods")
        shutil.rmtree(options.state_dir / "pods", ignore_errors=True)
        await _delete(engine, f"/networks/{network_name(options.project)}", 404)
        await _delete(engine, f"/images/{IMAGE}", 404, 409)  # 409: another sandbox uses it


async def _delete(engine: Engine, path: str, *fine: int) -> None:
    try:
        await engine.call("DELETE", path)
    except EngineError as error:
        if error.status not in fine:
            raise
