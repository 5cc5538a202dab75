"""Structured concurrency that hands back values: what escapes is the first expected error itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from devloop.errors import DevloopError

Item = TypeVar("Item")
Result = TypeVar("Result")


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
