"""Structured concurrency that hands back values: what escapes is the first expected error itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio
import anyio.lowlevel

from devloop.errors import DevloopError

CLOSING_STEPS = 20
Item = TypeVar("Item")
Result = TypeVar("Result")


async def closed(generator: object) -> None:
    """Close an asynchronous generator now, cancelled or not: left to the garbage collector, it is closed in
    another task, after what it stands on, and Python prints what comes of that."""
    close = getattr(generator, "aclose", None)
    if close is None:
        return
    with anyio.CancelScope(shield=True):
        for _ in range(CLOSING_STEPS):
            try:
                await close()
                return
            except RuntimeError:  # whoever reads it has not taken notice yet that it is to end
                await anyio.lowlevel.checkpoint()


async def gather(function: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> tuple[Result, ...]:
    """`function` of every item, side by side, in the items' order.

    The first DevloopError cancels the others and is raised itself, not in an ExceptionGroup.
    """
    work = list(items)
    results: dict[int, Result] = {}
    errors: list[DevloopError] = []

    async def run(index: int, item: Item) -> None:
        try:
            results[index] = await function(item)
        except DevloopError as error:
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index, item in enumerate(work):
            group.start_soon(run, index, item)
    if errors:
        raise errors[0]
    return tuple(results[index] for index in range(len(work)))
