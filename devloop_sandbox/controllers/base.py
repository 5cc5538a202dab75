"""A controller: keys in a queue, one level-triggered step per key, again when it says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import ClassVar

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.options import Options
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Event, Store

Key = tuple[str, str]  # namespace, name
FIRST_RETRY, LAST_RETRY = 0.005, 60.0  # seconds, doubling per failure of the same key

logger = logging.getLogger(__name__)


class Controller:
    """Subclasses say which keys an event touches and what one step does."""

    component: ClassVar[str] = "controller-manager"  # the source of its events

    def __init__(self, store: Store, options: Options) -> None:
        self.store = store
        self.options = options
        self.record = Recorder(store, self.component)
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def initial(self) -> Iterable[Key]:
        """What to look at when the process starts."""
        raise NotImplementedError

    def keys(self, event: Event) -> Iterable[Key]:
        """What has to be looked at because of this change."""
        raise NotImplementedError

    def sync(self, key: Key) -> float | None:
        """One step towards what is wanted; the seconds after which to look again in any case."""
        raise NotImplementedError

    def add(self, key: Key) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def run(self) -> None:
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            try:
                again = self.sync(key)
                self._failures.pop(key, None)
            except ApiError as error:
                logger.debug("%s %s: %s", type(self).__name__, key, error)
                again = self._retry_after(key)
            except (LookupError, TypeError, ValueError, AttributeError):
                # an object nobody foresaw must not stop the others
                logger.exception("%s %s", type(self).__name__, key)
                again = self._retry_after(key)
            if timer := self._timers.pop(key, None):
                timer.cancel()
            if again is not None:
                self._timers[key] = asyncio.get_running_loop().call_later(again, self.add, key)
            await asyncio.sleep(0)  # the API server and the other controllers have their turn

    def _retry_after(self, key: Key) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return float(min(FIRST_RETRY * 2**count, LAST_RETRY))


def key_of(obj: Obj) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
