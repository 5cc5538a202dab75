"""One resource of one namespace, kept current: list once, watch from there, list again when that is lost."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import anyio

from devloop.adapters.kubernetes.api.access import Access
from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.api.shapes import wrong_shape
from devloop.clock import Clock
from devloop.errors import ConfigError, DevloopError, PlatformError
from devloop.events import API_SERVER, Emit, Outage
from devloop.fault_reports import error_of

WATCH_SECONDS = 55  # the server ends a watch after this; 10 s more without a byte, and it is half-open
SILENCE_SECONDS = 65.0
BACKOFF = (0.1, 0.25, 0.5, 1.0, 2.0)
REFUSED_SECONDS = 30.0
NEWEST = 300  # events kept
NEEDED = ("resourceVersion", "name", "uid")  # texts in the metadata of each object


class ObjectListener(Protocol):
    def __call__(self, old: Json | None, new: Json | None, at: float, *, live: bool) -> None:
        """One object changed; `live` False = found by a list, so the arrival says nothing of when."""
        ...


class Health:
    """Tells once that the API server is gone, and once that it is back, whoever notices."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.error: DevloopError | None = None
        self.on_back: list[Callable[[], None]] = []

    def lost(self, error: DevloopError) -> None:
        if self.error is None:
            self._emit(Outage(API_SERVER, over=False, message=error.message, hint=error.hint))
        self.error = error

    def back(self) -> None:
        if self.error is not None:
            self.error = None
            self._emit(Outage(API_SERVER, over=True))
            for call in self.on_back:
                call()


class ExpiredError(Exception):
    """The server's history no longer reaches back to our version (410)."""


class Informer:
    """`objects` by name. With `newest` only what arrives from now on is kept, and only so many."""

    def __init__(
        self,
        client: Client,
        path: str,
        clock: Clock,
        health: Health,
        listener: ObjectListener,
        *,
        newest: int = 0,
    ) -> None:
        self.path = path
        self.objects: dict[str, Json] = {}
        self.synced = anyio.Event()
        self.failure: DevloopError | None = None
        self._client = client
        self._clock = clock
        self._health = health
        self._listener = listener
        self._newest = newest
        self._version = ""
        self._attempt = 0
        self._tried = anyio.Event()  # set, and replaced, after each attempt, whether it went well or not
        self.scope = anyio.CancelScope()

    async def first_list(self, *, patient: bool) -> None:
        """Wait for the first list; if `patient`, also for a server that does not answer yet.

        Raises what it failed with: PlatformError or ConfigError.
        """
        while not self.synced.is_set():
            if isinstance(self.failure, ApiRefusedError):
                message = f"listing {self.path}: {self.failure.message}"
                raise PlatformError(message, reason=self.failure.reason) from self.failure
            if self.failure is not None and not (patient and isinstance(self.failure, ApiUnreachableError)):
                raise self.failure
            await self._tried.wait()

    async def run(self) -> None:
        """Until `scope` is cancelled."""
        with self.scope:
            while True:
                access = self._client.access
                try:
                    if not self._version:
                        await self._list()
                    await self._watch()
                except ExpiredError:
                    self._version = ""
                except ApiRefusedError as error:
                    if error.status == 410:
                        self._version = ""
                        continue
                    self._fail(error)
                    await anyio.sleep(REFUSED_SECONDS if self.synced.is_set() else 1.0)
                except (PlatformError, ConfigError) as error:
                    self._fail(error)
                    if self._attempt:  # one cut connection is no outage
                        self._health.lost(error)
                    await self._pause(access)
                except Exception as cause:  # noqa: BLE001 - the last net: many services live of one informer
                    known = error_of(f"the watch of {self.path}", cause)
                    self._fail(known)
                    self._health.lost(known)
                    await self._pause(access)

    def _fail(self, error: DevloopError) -> None:
        # After an outage the server may be another one (a recreated cluster): never resume, list.
        self._version = ""
        self.failure = error
        self._tried.set()
        self._tried = anyio.Event()

    async def _pause(self, access: Access) -> None:
        """Jittered back-off, then the kubeconfig once more, unless another informer has read it since
        `access`: ports move when a cluster restarts (S13)."""
        wait = BACKOFF[min(self._attempt, len(BACKOFF) - 1)]
        self._attempt += 1
        await anyio.sleep(wait * random.uniform(0.5, 1.0))
        try:
            await self._client.renew(access)
        except (PlatformError, ConfigError) as error:
            self._health.lost(error)

    async def _list(self) -> None:
        params = {"limit": "1"} if self._newest else {}
        data = await self._client.get(self.path, params)
        at = self._clock.now()
        kind = str(data.get("kind", "")).removesuffix("List")
        items = data.get("items") or ()
        wrong = _lacking(data, NEEDED[:1]) or next(filter(None, (_lacking(one, NEEDED) for one in items)), "")
        if wrong:
            raise PlatformError(f"list {self.path}: {wrong}", reason="BrokenAnswer")
        if not self._newest:
            self._take([{"kind": kind, **item} for item in items], at)
        self._version = str(data["metadata"]["resourceVersion"])
        self._attempt = 0
        self.failure = None
        self._health.back()
        self.synced.set()
        self._tried.set()
        self._tried = anyio.Event()

    def _take(self, items: list[Json], at: float) -> None:
        found = {item["metadata"]["name"]: item for item in items}
        for name in [name for name in self.objects if name not in found]:
            self._listener(self.objects[name], None, at, live=False)
            del self.objects[name]
        for name, item in found.items():
            old = self.objects.get(name)
            if old is None or _version(old) != _version(item):
                self._listener(old, item, at, live=False)
                self.objects[name] = item  # after: what the listener did not take, the next list brings again

    async def _watch(self) -> None:
        """Changes from our version on, until the server ends the watch in good order."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._client.lines(self.path, params, silence=SILENCE_SECONDS) as lines:
            self._health.back()
            async for line in lines:
                if line.strip():
                    self._receive(_decode(line, self.path), self._clock.now())
                    self._attempt = 0

    def _receive(self, event: dict[str, Any], at: float) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            if item.get("code") == 410:
                raise ExpiredError
            raise PlatformError(f"watch {self.path}: {item.get('message')}", reason=str(item.get("reason")))
        self._version = _version(item)
        if kind == "BOOKMARK":
            return
        name = item["metadata"]["name"]
        old = self.objects.get(name)
        if kind == "DELETED":
            self._listener(old or item, None, at, live=True)
        else:
            self._listener(old, item, at, live=True)
        self.objects.pop(name, None)
        if kind == "DELETED":
            return
        self.objects[name] = item  # at the end: the dict is in order of arrival
        if self._newest and len(self.objects) > self._newest:
            del self.objects[next(iter(self.objects))]


def _decode(line: bytes, path: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
        kind, item = str(event["type"]), event["object"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlatformError(f"watch {path}: a broken line: {error!r}", reason="BrokenAnswer") from error
    wrong = wrong_shape(item, path, may_be_status=kind == "ERROR")
    if not wrong and kind != "ERROR":
        wrong = _lacking(item, ("resourceVersion",) if kind == "BOOKMARK" else NEEDED)
    if wrong:
        raise PlatformError(f"watch {path}: {wrong}", reason="BrokenAnswer")
    return {"type": kind, "object": item}


def _lacking(item: Json, keys: Sequence[str]) -> str:
    """Which text an object's metadata should have and has not."""
    meta = item.get("metadata") or {}
    missing = [key for key in keys if not isinstance(meta.get(key), str)]
    return f"an object without metadata.{missing[0]}" if missing else ""


def _version(item: Json) -> str:
    return str(item["metadata"]["resourceVersion"])
