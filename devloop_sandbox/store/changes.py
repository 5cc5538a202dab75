"""What changed in the store, in order: to every subscriber, and kept for watches that come late."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj

HISTORY = 2000  # events kept for watches that start from an older version
Change = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `raw` is `obj` as JSON, encoded once for the disk and all watchers."""

    type: Change
    resource: str
    obj: Obj
    old: Obj | None
    version: int = 0
    raw: bytes = field(default=b"", repr=False)


class Subscription:
    """Every event from `subscribe()` on: `with store.subscribe() as events: async for …`."""

    def __init__(self, leave: Callable[[Subscription], None]) -> None:
        self._leave = leave
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(self)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()


class Stream:
    """The one order of changes; `start` is the version before the first event it will carry."""

    def __init__(self, start: int) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscribers: list[Subscription] = []
        self._oldest = start  # watches may start from this version or a later one

    def publish(self, event: Event) -> None:
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(event)
        for subscriber in self._subscribers:
            subscriber.put(event)

    def subscribe(self) -> Subscription:
        subscription = Subscription(self._subscribers.remove)
        self._subscribers.append(subscription)
        return subscription

    def since(self, version: int) -> list[Event]:
        """Events after `version`; 410 Expired when the history does not reach back that far."""
        if version < self._oldest:
            raise errors.expired(version, self._oldest)
        return [event for event in self._history if event.version > version]
