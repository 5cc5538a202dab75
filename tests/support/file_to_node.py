"""Everything from a saved file to a node's engine, for one service."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.build.context import FingerprintedTree
from devloop.adapters.build.sent_contexts import SentContexts
from devloop.adapters.delta.builder import DeltaBuilder
from devloop.adapters.delta.keeper import ParentKeeper
from devloop.adapters.delta.loader import DeltaLoader
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.bases import EngineBases
from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.routes import Route
from devloop.errors import LayersMissingError
from devloop.events import DeltaFallback
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Change, Fingerprint, Image, LoadedImage, NodeFacts, Service

if TYPE_CHECKING:  # conftest makes one
    from tests.adapters.conftest import Bench


DOCKERFILE = 'FROM {tiny}\nRUN echo once > /made\nWORKDIR /app\nCOPY src src\nCMD ["sh"]\n'


@dataclass
class Pipeline:
    """Everything from a saved file to the node's engine, for one service."""

    bench: Bench
    service: Service
    state: Path
    route: Route
    fingerprinters: list[TreeFingerprinter] = field(default_factory=list)

    def start(self) -> None:
        """A devloop that knows nothing but its state directory."""
        bench = self.bench
        environment = bench.environment

        async def platform() -> str:
            return "linux/amd64"

        async def nodes() -> tuple[NodeFacts, ...]:
            return (NodeFacts("node", "amd64", "docker://20.10.24"),)

        async def choose(facts: tuple[NodeFacts, ...]) -> Route:
            return self.route

        bases = EngineBases(bench.engine, bench.digests, bench.events.append, environment)
        self.fingerprinter = TreeFingerprinter(bases, StatCache(self.state / "stat.sqlite"), platform)
        self.fingerprinters.append(self.fingerprinter)
        tree = FingerprintedTree(self.fingerprinter)
        full = ImageBuilder(
            bench.engine,
            bench.digests,
            tree,
            bench.project,
            bench.events.append,
            environment,
            SentContexts(self.state / "contexts"),
        )
        store = ParentStore(self.state / "parents", bench.digests.blobs)
        keeper = ParentKeeper(full, bench.engine, store, lambda name: "", again=0.0)
        self.builder = DeltaBuilder(full, bench.engine, store, keeper, bench.events.append)
        inner = ClusterLoader(bench.engine, bench.digests, nodes, choose, bench.events.append)
        self.loader = DeltaLoader(inner, self.builder)

    async def fingerprint(self, *paths: str) -> Fingerprint:
        now = time.time()
        changed = frozenset(self.service.build.context / path for path in paths)
        return await self.fingerprinter.take(self.service, Change(changed, now, now))

    async def trip(self, *paths: str) -> LoadedImage:
        """One trip as far as the node, and what happens in the background after it."""
        taken = await self.fingerprint(*paths)
        image = await self.loader.find(self.service, taken)
        loaded = await self.load(image or await self.builder.build(self.service, taken))
        while self.builder.keeper._to_learn:
            await self.builder.keeper.learn(await self.builder.keeper.to_learn(), self.loader._inner.load)
        return loaded

    async def load(self, image: Image) -> LoadedImage:
        """As a trip does it: a delta whose layers are gone is built in full."""
        try:
            return await self.loader.load(image)
        except LayersMissingError:
            return await self.loader.load(await self.builder.build_full(self.service, image.fingerprint))

    def write(self, path: str, text: str) -> None:
        target = self.service.build.context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.bench.events if isinstance(event, DeltaFallback)]


async def shown(bench: Bench, image: Image, line: str) -> str:
    done = await anyio.run_process(
        ["docker", "run", "--rm", "--network", "none", image.ref, "sh", "-c", line]
    )
    return done.stdout.decode().strip()
