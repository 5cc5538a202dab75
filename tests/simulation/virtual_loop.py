"""An event loop with virtual time and a seeded order of ready tasks; what was killed never runs.

An hour of loop time takes as long as the work in it: where nothing is ready, time jumps to the next timer.
Everything runs in this one thread: worker threads are calls (`inline`).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

LIFE: contextvars.ContextVar[int] = contextvars.ContextVar("life", default=0)  # 0 = the world's own tasks
BUSY_STEPS = 200_000  # turns of the loop without any time passing: somebody spins
Result = TypeVar("Result")


class BusyLoopError(AssertionError):
    """Tasks are ready for ever, and no time passes."""


class _Selector(selectors.BaseSelector):
    """No file is ever ready; asking for it with a time-out lets the time pass."""

    def __init__(self) -> None:
        self.loop: VirtualLoop
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._keys[number] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.turn(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


_ages: dict[int, tuple[int, object]] = {}  # of this run: by address; what is in it is not collected


def numbered(one: object) -> int:
    """A hash by age: sets of tasks and scopes have the same order in each run, whatever their addresses."""
    return _ages.setdefault(id(one), (len(_ages), one))[0]


class _Task(asyncio.Task[Any]):
    __hash__ = numbered


class VirtualLoop(asyncio.SelectorEventLoop):
    """`seed` decides which of the tasks that are ready at one moment goes first."""

    def __init__(self, seed: int) -> None:
        self._virtual = 0.0
        _ages.clear()
        self._order = random.Random(seed)
        self._dead: set[int] = set()
        self._still = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_task_factory(lambda loop, coroutine, **given: _Task(coroutine, loop=loop, **given))

    def time(self) -> float:
        return self._virtual

    def kill(self, life: int) -> None:
        """Nothing of this life runs again, no `finally` and no callback: what kill -9 does."""
        self._dead.add(life)
        for timer in list(self._scheduled):  # type: ignore[attr-defined]
            if self._is_dead(timer) and not timer.cancelled():
                timer.cancel()

    def turn(self, timeout: float | None) -> None:
        """Between two turns: drop what is dead, mix what is ready, or let time pass to the next timer."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        if self._dead:
            alive = [handle for handle in ready if not self._is_dead(handle)]
            ready.clear()
            ready.extend(alive)
        if ready:
            self._mix(ready)
        elif timeout is None:
            raise AssertionError("nothing is ready, and nothing will ever be")
        elif self._virtual + timeout > self._virtual:
            self._still = 0
            self._virtual += timeout
            return
        self._still += 1
        if self._still > BUSY_STEPS:
            raise BusyLoopError(f"{BUSY_STEPS} turns at {self._virtual:.3f} s: {list(ready)[:5]}")

    def _mix(self, ready: deque[asyncio.Handle]) -> None:
        """Another order of the tasks' steps; other callbacks keep their places."""
        places = [index for index, handle in enumerate(ready) if _is_step(handle)]
        if len(places) < 2:
            return
        handles = [ready[index] for index in places]
        self._order.shuffle(handles)
        for index, handle in zip(places, handles, strict=True):
            ready[index] = handle

    def _is_dead(self, handle: asyncio.Handle) -> bool:
        context: contextvars.Context = handle._context  # type: ignore[attr-defined]
        return context.get(LIFE, 0) in self._dead


def _is_step(handle: asyncio.Handle) -> bool:
    """Whether it lets a task go on."""
    callback = handle._callback  # type: ignore[attr-defined]
    return (
        isinstance(getattr(callback, "__self__", None), asyncio.Task) or "TaskStep" in type(callback).__name__
    )


class Inline:
    """In the place of `anyio.to_thread.run_sync`: the call takes some virtual time and happens at once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def __call__(self, function: Callable[..., Result], *arguments: Any, **_: Any) -> Result:
        await anyio.sleep(self._rng.choice((0.0, 0.0005, 0.002)))
        result = function(*arguments)
        await anyio.lowlevel.checkpoint()
        return result
