"""One watch: what matches now or since a version, then every change, as JSON lines."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import BY_PLURAL, Obj
from devloop_sandbox.objects.selectors import Test
from devloop_sandbox.store.store import Event, Store, Subscription

_BOOKMARK_EVERY = 60.0  # seconds
View = Callable[[Obj], Obj]  # the form an object is sent in, when it is not the object itself


@dataclass(frozen=True, slots=True)
class Watch:
    """`version` None starts with everything that is there; `view` turns objects into table rows."""

    resource: str
    namespace: str
    test: Test | None
    version: int | None
    bookmarks: bool
    initial_end: bool
    timeout: float | None
    view: View | None

    async def lines(self, store: Store) -> AsyncIterator[bytes]:
        """Encoded events until the timeout; a version too old is an ERROR event with code 410."""
        with store.subscribe() as changes:
            try:
                for line in self._backlog(store):
                    yield line
            except errors.ApiError as error:
                yield _line("ERROR", error.status_object())
                return
            async for line in self._follow(store, changes):
                yield line

    def _backlog(self, store: Store) -> Iterator[bytes]:
        if self.version is not None:
            yield from (line for event in store.since(self.version) if (line := self._seen(event)))
            return
        version = str(store.resource_version)
        for obj in store.list(self.resource, self.namespace, self.test):
            yield self._encode("ADDED", obj, store.raw(self.resource, obj))
        if self.initial_end:
            yield self._bookmark(version, initial=True)

    async def _follow(self, store: Store, changes: Subscription) -> AsyncIterator[bytes]:
        ends = time.monotonic() + (self.timeout or random.uniform(1800, 3600))
        while (left := ends - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(_BOOKMARK_EVERY, left)):
                    line = None
                    while line is None:
                        line = self._seen(await anext(changes))
                yield line
            except TimeoutError:
                if self.bookmarks:
                    yield self._bookmark(str(store.resource_version))

    def _seen(self, event: Event) -> bytes | None:
        """The event as this watcher sees it: entering its selection is ADDED, leaving it DELETED."""
        if event.resource != self.resource:
            return None
        if self.namespace and event.obj["metadata"].get("namespace") != self.namespace:
            return None
        if self.test is None:
            return self._encode(event.type, event.obj, event.raw)
        now, before = self.test(event.obj), event.old is not None and self.test(event.old)
        if event.type == "DELETED":
            return self._encode("DELETED", event.obj, event.raw) if now or before else None
        if now:
            return self._encode("MODIFIED" if before else "ADDED", event.obj, event.raw)
        return self._encode("DELETED", event.obj, event.raw) if before else None

    def _encode(self, kind: str, obj: Obj, raw: bytes) -> bytes:
        if self.view is None and raw:
            return b'{"type":"%s","object":%s}\n' % (kind.encode(), raw)
        return _line(kind, self.view(obj) if self.view else obj)

    def _bookmark(self, version: str, *, initial: bool = False) -> bytes:
        kind = BY_PLURAL[self.resource]
        meta: Obj = {"resourceVersion": version}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        mark = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
        return _line("BOOKMARK", mark)


def _line(kind: str, obj: Obj) -> bytes:
    body = {"type": kind, "object": obj}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
