"""`devloop once`: each service's trip to its outcome, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import anyio

from devloop.clock import Clock
from devloop.concurrency import gather
from devloop.errors import OvertakenError, TreeMovedError
from devloop.model import Change, Failed, Outcome
from devloop.trip.waits import MOVED_PAUSES
from devloop.trip.worker import Worker

MOST_TRIES = 5  # trips of `once` while the tree moves under it (S8)


async def once(workers: Sequence[Worker], clock: Clock) -> Mapping[str, Outcome]:
    """Each service's trip, side by side, to its outcome. Raises PlatformError at the start only."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.connected())
        await gather(lambda worker: _settled(worker, clock), workers)
        return {worker.service.name: outcome for worker in workers if (outcome := worker.reconsider())}


async def _settled(worker: Worker, clock: Clock) -> Outcome:
    outcome: Outcome | None = None
    for pause in (0.0, *MOVED_PAUSES[: MOST_TRIES - 1]):
        await anyio.sleep(pause)
        outcome = await worker.settle(Change.start(clock.now()))
        if not (isinstance(outcome, Failed) and isinstance(outcome.error, TreeMovedError | OvertakenError)):
            break
    assert outcome is not None
    worker.rest()
    return outcome
