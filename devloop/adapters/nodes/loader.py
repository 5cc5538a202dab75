"""Images into the cluster: finds them, sends what is missing, believes nothing but the nodes (S2, S12)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from devloop import activity
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.labels import FINGERPRINT
from devloop.adapters.nodes.claims import Claims
from devloop.adapters.nodes.containers import Containers
from devloop.adapters.nodes.facts import Nodes
from devloop.adapters.nodes.routes import Route
from devloop.adapters.nodes.stores import Store, names
from devloop.concurrency import gather
from devloop.errors import LoadError, PlatformError
from devloop.events import Emit, Progress
from devloop.model import Fingerprint, Image, LoadedImage, NodeFacts, Service

Choose = Callable[[tuple[NodeFacts, ...]], Awaitable[Route]]


class ClusterLoader:
    """`ports.Loader`: one route to all nodes, chosen by the nodes' facts, and again when it fails (S13)."""

    def __init__(
        self,
        builder: Engine,
        digests: Digests,
        nodes: Nodes,
        choose: Choose,
        emit: Emit,
        claims: Claims | None = None,
    ) -> None:
        self._builder = builder
        self._digests = digests
        self._nodes = nodes
        self._choose = choose
        self._emit = emit
        self._claims = claims or Claims()
        self._facts: tuple[NodeFacts, ...] = ()
        self._chosen: Route | None = None
        self._choosing = anyio.Lock()
        self._absent: set[str] = set()  # references that no node had when `find` asked, until they are loaded

    async def route(self) -> Route:
        """How images reach the nodes, as they are now. Raises LoadError (none is known), PlatformError."""
        async with self._choosing:
            try:
                facts = await self._nodes()
            except PlatformError:
                if self._chosen is None:
                    raise
                return self._chosen  # the API server is away; the nodes need not be
            if self._chosen is None or facts != self._facts:
                self._chosen = await self._choose(facts)
                self._facts = facts
            return self._chosen

    async def find(self, service: Service, fingerprint: Fingerprint) -> Image | None:
        """The image if all nodes have it under one id, else if the builder's engine has it (S12)."""
        ref = service.ref(fingerprint)
        await self._claims.claim(service.name, ref)  # what is found here must not vanish before it is loaded
        route = await self.route()
        found = await gather(lambda store: store.look(ref), route.stores)
        facts = await self._builder.inspect(ref)
        if facts is not None and facts.labels.get(FINGERPRINT) == fingerprint.digest:
            digest = await self._digests.of(ref, facts)
            return Image(service.name, fingerprint, ref, digest, "reused", facts.size)
        held = set(found)
        if len(held) == 1 and None not in held:
            return Image(service.name, fingerprint, ref, str(found[0]), "reused")
        if held == {None}:
            self._absent = {ref for ref in self._absent if not ref.startswith(f"{service.image}:")} | {ref}
        return None

    async def load(self, image: Image) -> LoadedImage:
        """Send the image to the nodes that lack it, all at once, and verify it on each by id.

        A route that breaks is chosen again once (S13). Raises LoadError, PlatformError.
        """
        try:
            return await self._load(image, await self.route())
        except PlatformError:
            self._chosen = None
            return await self._load(image, await self.route())

    async def end(self, node: str, instance: str, *, deaf: bool) -> bool:
        """Only where the node's runtime is reached; elsewhere its grace period ends it."""
        runtime, _, container = instance.partition("://")
        try:
            route = await self.route()
            store = next((one for one in route.stores if one.node == node), None)
            return store is not None and await store.end(runtime, container, deaf=deaf)
        except (LoadError, PlatformError):
            return False

    async def containers(self, node: str, instance: str) -> tuple[Containers, str] | None:
        """Where a container runs, and its id there; None where nothing can be written into it from here.
        Raises LoadError, PlatformError."""
        runtime, _, container = instance.partition("://")
        route = await self.route()
        store = next((one for one in route.stores if one.node == node), None)
        found = store.containers(runtime) if store is not None else None
        return (found, container) if found is not None else None

    async def _load(self, image: Image, route: Route) -> LoadedImage:
        nodes = names(route.stores)
        # What `find` has just asked is not asked again for a delta: no engine has one before it is sent.
        new = image.archive is not None and image.ref in self._absent
        self._absent.discard(image.ref)
        lacking = tuple(route.stores) if new else await self._lacking(route.stores, image)
        if not lacking:
            return LoadedImage(image, nodes, route.how, 0, image.size * len(nodes))
        shown = -1

        def report(done: int) -> None:
            nonlocal shown
            activity.note()
            total = image.size * len(lacking)
            percent = done * 100 // total if total else 0
            if percent != shown:
                shown = percent
                self._emit(Progress(image.service, "load", min(done, total), total, "bytes", route.how))

        tally = await route.send(image, lacking, report)
        left = await self._lacking(lacking, image)
        if left:
            raise LoadError(
                f"load of {image.ref} ({route.how}): it reported success, but {', '.join(names(left))} "
                f"{'does' if len(left) == 1 else 'do'} not have {image.id[:19]}",
                reason="NotOnNode",
                evidence=tuple(
                    f"{node}: {digest or 'no such image'}" for node, digest in await self._held(left, image)
                ),
                hint="look at the node's disk (df -h /var) and its runtime; cluster.load in config.yaml "
                "selects another method",
            )
        skipped = tally.skipped + image.size * (len(nodes) - len(lacking))
        return LoadedImage(image, nodes, route.how, tally.sent, skipped)

    async def _lacking(self, stores: Sequence[Store], image: Image) -> tuple[Store, ...]:
        found = await self._digests_on(stores, image.ref)
        return tuple(store for store, digest in zip(stores, found, strict=True) if digest != image.id)

    async def _held(self, stores: Sequence[Store], image: Image) -> list[tuple[str, str | None]]:
        found = await self._digests_on(stores, image.ref)
        return list(zip(names(stores), found, strict=True))

    async def _digests_on(self, stores: Sequence[Store], ref: str) -> tuple[str | None, ...]:
        async def ask(store: Store) -> str | None:
            return await store.digest(ref)

        return await gather(ask, stores)
