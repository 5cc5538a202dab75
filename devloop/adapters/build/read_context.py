"""Builds by the docker command over the user's own context: its files are compared as they are read (S8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

import anyio
import anyio.to_thread

from devloop.adapters.build.sent_contexts import SentContexts
from devloop.concurrency import gather
from devloop.errors import BuildError, TreeMovedError
from devloop.model import BuildSpec, Fingerprint, Service

# Builds the service as it is given, and calls the function as soon as the context has been read.
Work = Callable[[Service, Callable[[], None]], Awaitable[str]]


class ContextTree(Protocol):
    """The files of a service as its fingerprint saw them (S8)."""

    def archive(self, service: Service, fingerprint: Fingerprint) -> AsyncIterator[bytes]:
        """The context as a tar, Dockerfile included, each file compared as it is read: TreeMovedError."""
        ...

    def copy(self, service: Service, fingerprint: Fingerprint) -> AbstractAsyncContextManager[BuildSpec]:
        """The same build from a private copy of the inputs, compared as they are read: TreeMovedError."""
        ...

    async def complete(self, service: Service, fingerprint: Fingerprint) -> bool:
        """Whether that tar is all that the build needs: the Dockerfile lies in it (S9)."""
        ...

    async def still_matches(self, service: Service, fingerprint: Fingerprint) -> bool:
        """Whether the inputs on disk are still those of the fingerprint, by stat."""
        ...


class ContextReader:
    """Has the docker command read contexts so that what it read is known.

    A context goes to it under a name by which BuildKit can confuse no file with another (`sent`), and the
    files are looked at again as soon as it says that it has read them. Steady writing would fail that for
    ever: a build whose files moved is followed by builds from a copy that was checked.
    """

    def __init__(self, tree: ContextTree, sent: SentContexts) -> None:
        self._tree = tree
        self._sent = sent
        self._moved: set[str] = set()  # services whose files changed while docker read them

    async def build(self, service: Service, fingerprint: Fingerprint, work: Work) -> str:
        """What `work` gives. Raises TreeMovedError if it read something else, and what it raises."""
        if service.name in self._moved:
            async with self._tree.copy(service, fingerprint) as spec:
                made = await work(replace(service, build=spec), lambda: None)
            if await self._tree.still_matches(service, fingerprint):
                self._moved.discard(service.name)
            return made
        read, same = anyio.Event(), False
        made, failure = "", None

        async def build(named: Service) -> None:
            nonlocal made, failure
            try:
                made = await work(named, read.set)
            except BuildError as error:
                failure = error
            read.set()

        async def look() -> None:
            nonlocal same
            await read.wait()
            same = await self._tree.still_matches(service, fingerprint)

        name = await anyio.to_thread.run_sync(
            self._sent.take, service.name, service.build, fingerprint.inputs
        )
        try:
            named = replace(service, build=replace(service.build, context=name.link))
            await gather(lambda one: one(), (lambda: build(named), look))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(self._sent.done, name, read=same))
        if failure is not None:
            raise failure
        if not same:
            self._moved.add(service.name)
            raise TreeMovedError(f"{service.name}: files changed while docker read them")
        return made
