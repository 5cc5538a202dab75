"""Old images of this project taken away, on the builder's engine and on the nodes (S25). Nothing else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from devloop.adapters.builder import PROJECT
from devloop.adapters.engine import Engine, Listed
from devloop.adapters.routes import Route
from devloop.adapters.stores import EngineStore, Store
from devloop.errors import PlatformError
from devloop.references import same
from devloop.tasks import gather

LEFTOVER_SECONDS = 3600.0  # how long images of failed and superseded trips stay


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


class Collector:
    """Takes one project's old images. `keep` is asked again before each removal: trips go on meanwhile."""

    def __init__(self, builder: Engine, project: str, keep: Callable[[], Keep]) -> None:
        self._builder = builder
        self._project = project
        self._keep = keep

    async def collect(self, route: Route, now: float) -> tuple[str, ...]:
        """The references that were removed, "node: ref" for those on nodes. `now` in seconds since the epoch.

        An engine that is away keeps its images until the next time.
        """
        engines = {id(self._builder): ("", self._builder)}
        shells: list[Store] = []
        for store in route.stores:
            if isinstance(store, EngineStore):
                engines.setdefault(id(store.engine), (f"{store.node}: ", store.engine))
            else:
                shells.append(store)
        old = await self._old(self._builder, now)
        removed = await gather(lambda named: self._on_engine(named[0], named[1], now), engines.values())
        return (*(ref for refs in removed for ref in refs), *await self._on_shells(shells, old))

    async def _on_engine(self, prefix: str, engine: Engine, now: float) -> Sequence[str]:
        try:
            return [
                f"{prefix}{ref}"
                for ref in await self._old(engine, now)
                if not self._keep().wants(ref) and await engine.remove(ref)
            ]
        except PlatformError:
            return []

    async def _on_shells(self, stores: Sequence[Store], refs: Sequence[str]) -> Sequence[str]:
        """Nodes without an engine's labels: they lose what the builder's engine loses."""
        removed = []
        for store in stores:
            try:
                removed += [
                    f"{store.node}: {ref}"
                    for ref in refs
                    if not self._keep().wants(ref) and await store.remove(ref)
                ]
            except PlatformError:
                continue
        return removed

    async def _old(self, engine: Engine, now: float) -> Sequence[str]:
        """What may go from an engine: references, and the Ids of images that lost their tags."""
        keep = self._keep()
        found: list[str] = []
        try:
            for image in await engine.images(f"{PROJECT}={self._project}"):
                refs = [ref for ref in image.refs if not keep.wants(ref)]
                if not image.refs and not await self._is_parent(engine, image):
                    refs = [image.id]
                lived = [ref for ref in refs if any(same(ref, live) for live in keep.lived)]
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
