"""Old images of this project taken away, on the builder's engine and on the nodes (S25). Nothing else's."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from devloop import state_file
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import Listed
from devloop.adapters.docker.labels import PROJECT
from devloop.adapters.nodes.claims import Claims
from devloop.adapters.nodes.routes import Route
from devloop.adapters.nodes.stores import EngineStore, Store
from devloop.concurrency import gather
from devloop.errors import DevloopError, PlatformError
from devloop.image_refs import same

LEFTOVER_SECONDS = 3600.0  # how long images of failed and superseded trips stay
MOST_NODES = 50
MOST_SEEN = 2000  # images of nodes whose first sight is remembered
_SEEN = state_file.by_name(state_file.by_name(state_file.seconds))


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays, by reference: named by a ReplicaSet or pod, live of late, a parent, of a running trip.

    `lived` are references that were live once: when they are not in `refs` they go at once, all others
    only after an hour.
    """

    refs: frozenset[str]
    lived: frozenset[str] = frozenset()

    def wants(self, ref: str) -> bool:
        return any(same(ref, kept) for kept in self.refs)

    def lived_once(self, ref: str) -> bool:
        return any(same(ref, live) for live in self.lived)


class FirstSeen:
    """Since when images are on nodes that do not tell it, kept in a file of the state directory."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._seen: dict[str, dict[str, float]] = {}
        if file is not None:
            self._seen = state_file.read(file, _SEEN, {})

    def since(self, node: str, refs: Sequence[str], now: float) -> dict[str, float]:
        """When each was there for the first time. What is not there any more is forgotten."""
        known = self._seen.get(node, {})
        found = {ref: min(known.get(ref, now), now) for ref in refs[-MOST_SEEN:]}
        if found != known:
            self._seen = {**dict([*self._seen.items()][-MOST_NODES:]), node: found}
            if self._file is not None:
                with suppress(OSError):  # a full disk costs an hour more
                    state_file.write(self._file, json.dumps(self._seen).encode())
        return found


class Collector:
    """Takes one project's old images. `keep` is asked again before each removal: trips go on meanwhile."""

    def __init__(
        self,
        builder: Engine,
        project: str,
        keep: Callable[[], Keep],
        *,
        claims: Claims | None = None,
        seen: FirstSeen | None = None,
        repositories: Sequence[str] = (),
    ) -> None:
        self._builder = builder
        self._project = project
        self._keep = keep
        self._claims = claims or Claims()
        self._seen = seen or FirstSeen()
        self._repositories = repositories

    async def collect(self, route: Route, now: float) -> tuple[str, ...]:
        """The references that were removed, "node: ref" for those on nodes. `now` in seconds since the epoch.

        An engine that is away keeps its images until the next time.
        """
        engines = {id(self._builder): ("", self._builder)}
        others: list[Store] = []
        for store in route.stores:
            if isinstance(store, EngineStore):
                engines.setdefault(id(store.engine), (f"{store.node}: ", store.engine))
            else:
                others.append(store)
        removed = [
            *await gather(lambda named: self._on_engine(named[0], named[1], now), engines.values()),
            *await gather(lambda store: self._on_node(store, now), others),
        ]
        return tuple(ref for refs in removed for ref in refs)

    async def _on_engine(self, prefix: str, engine: Engine, now: float) -> Sequence[str]:
        removed: list[str] = []
        with suppress(PlatformError, EngineRefusedError):
            for ref in await self._old(engine, now):
                removed += [f"{prefix}{ref}"] if await self._remove(ref, engine.remove) else []
            await engine.remove_old_containers(now - LEFTOVER_SECONDS)
        return removed

    async def _on_node(self, store: Store, now: float) -> Sequence[str]:
        """A node without a Docker API, or a registry."""
        removed: list[str] = []
        with suppress(DevloopError):
            held = sorted(
                await store.own(self._project, self._repositories), key=lambda one: (one.id, one.ref)
            )
            since = self._seen.since(store.node, [one.ref for one in held], now)
            keep = self._keep()
            # A runtime may remove all names of an image together.
            kept = {one.id for one in held if keep.wants(one.ref)}
            for one in held:
                late = keep.lived_once(one.ref) or now - since[one.ref] > LEFTOVER_SECONDS
                if late and one.id not in kept and await self._remove(one.ref, store.remove):
                    removed.append(f"{store.node}: {one.ref}")
        return removed

    async def _remove(self, ref: str, remove: Callable[[str], Awaitable[bool]]) -> bool:
        with self._claims.removing(ref) as free:
            return free and not self._keep().wants(ref) and await remove(ref)

    async def _old(self, engine: Engine, now: float) -> Sequence[str]:
        """What may go from an engine: references, and the Ids of images that lost their tags."""
        keep = self._keep()
        found: list[str] = []
        try:
            for image in await engine.images(f"{PROJECT}={self._project}"):
                refs = [ref for ref in image.refs if not keep.wants(ref)]
                if not image.refs and not await self._is_parent(engine, image):
                    refs = [image.id]
                lived = [ref for ref in refs if keep.lived_once(ref)]
                late = len(lived) < len(refs) and now - await _touched(engine, image) > LEFTOVER_SECONDS
                found += refs if late else lived
        except PlatformError:
            return found
        return found

    async def _is_parent(self, engine: Engine, image: Listed) -> bool:
        """Whether an untagged image is a kept one under another name: then its Id is not to be removed."""
        for ref in self._keep().refs:
            facts = await engine.inspect(ref)
            if facts is not None and facts.id == image.id:
                return True
        return False


async def _touched(engine: Engine, image: Listed) -> float:
    """When an image got its tag. `created` may be old: a build from the cache keeps the time of the first."""
    facts = await engine.inspect(image.id)
    if facts is None:
        return float(image.created)
    try:
        tagged = datetime.fromisoformat(facts.tagged_at)
    except ValueError:
        return float(image.created)
    return max(tagged.timestamp(), float(image.created))
