"""How images reach nodes: nothing to do, engine to engine, or a product's own command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol, TypeVar

from devloop.adapters.archive.delta_load import deliver, refused, send_delta
from devloop.adapters.archive.docker_archive import Tally, ThinSave, chain_ids
from devloop.adapters.docker.blob_index import Blob
from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.engine_facts import ImageFacts
from devloop.adapters.nodes.stores import EngineStore, Store
from devloop.adapters.process import Finished
from devloop.concurrency import gather
from devloop.errors import LoadError
from devloop.model import Image

S = TypeVar("S", bound=Store)
ReportBytes = Callable[[int], None]  # bytes read so far, of one node


class Route(Protocol):
    """How an image reaches all nodes of a cluster."""

    @property
    def how(self) -> str: ...

    @property
    def stores(self) -> Sequence[Store]: ...

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        """Bring the image to these nodes; the caller verifies. Raises LoadError, PlatformError."""
        ...


class SharedRoute:
    """The nodes run on the builder's own engine: what was built is there. Only a delta has to be sent."""

    how = "shared"

    def __init__(self, builder: Engine, stores: Sequence[EngineStore]) -> None:
        self._builder = builder
        self.stores = stores

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        tally = Tally()
        if image.archive is None:
            raise LoadError(
                f"load of {image.ref}: the engine that the nodes share does not have it",
                reason="ImageMissing",
                hint="was it pruned? devloop once --rebuild builds it again",
            )
        await send_delta(self._builder, image, tally, self.stores[0].digests)
        report(tally.sent)
        return tally


class EngineRoute:
    """Each node has a Docker engine of its own: the builder's `docker save` streams into it, thinned."""

    def __init__(self, how: str, builder: Engine, digests: Digests, stores: Sequence[EngineStore]) -> None:
        """`digests` of the builder."""
        self.how = how
        self._builder = builder
        self._digests = digests
        self.stores = stores
        self._layers: dict[str, dict[str, frozenset[str]]] = {store.node: {} for store in stores}

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        own = [store for store in stores if isinstance(store, EngineStore)]
        return await send_to_each(own, partial(self._to, image), report)

    async def _to(self, image: Image, store: EngineStore, total: Tally, report: Callable[[], None]) -> None:
        if image.archive is not None:
            try:
                await send_delta(store.engine, image, total, store.digests)
            except LoadError as error:
                if error.reason == "DiskFull":
                    raise
                # A layer below is gone from the node: all of it, then.
                await complete(self._builder, self._digests, image)
            else:
                return
        known = await self._chains(store)
        try:
            await self._stream(store, image, known, total, report)
        except LoadError as error:
            if not known or error.reason == "DiskFull":
                raise
            self._layers[store.node].clear()  # a layer vanished behind our back: all of it, then
            await self._stream(store, image, frozenset(), total, report)

    async def _stream(
        self,
        store: EngineStore,
        image: Image,
        known: frozenset[str],
        total: Tally,
        report: Callable[[], None],
    ) -> None:
        facts, blobs = await built(self._builder, self._digests, image.ref)
        thin = ThinSave(facts.diff_ids, known, total, blobs)

        async def body() -> AsyncIterator[bytes]:
            try:
                async with aclosing(thin.filter(archive)) as pieces:
                    async for piece in pieces:
                        report()
                        yield piece
            except ValueError as error:
                raise LoadError(f"docker save {image.ref}: {error}", reason="BrokenArchive") from error

        try:
            async with self._builder.save(image.ref) as archive:
                await deliver(store.engine, body())
        except EngineRefusedError as refusal:
            raise refused(image, store.node, refusal) from refusal

    async def _chains(self, store: EngineStore) -> frozenset[str]:
        """The chain IDs of all layers on a node, by the images there: each is inspected once."""
        if (await store.engine.info()).containerd_store:
            return frozenset()  # it takes no Docker archive with a layer missing
        known = self._layers[store.node]
        present = {image.id for image in await store.engine.images()}
        for gone in known.keys() - present:
            del known[gone]

        async def look(image_id: str) -> None:
            facts = await store.engine.inspect(image_id)
            if facts is not None:
                known[image_id] = frozenset(chain_ids(facts.diff_ids))

        await gather(look, present - known.keys())
        return frozenset[str]().union(*known.values())


class CommandRoute:
    """A product's own command copies the image from the builder's engine to all nodes. It may exit 0 when it
    failed: verify. A delta is made whole on that engine first, where the command looks for it."""

    def __init__(
        self,
        how: str,
        builder: Engine,
        digests: Digests,
        stores: Sequence[Store],
        command: Callable[[Image], Awaitable[Finished]],
        hint: str,
    ) -> None:
        """`digests` of the builder."""
        self.how = how
        self._builder = builder
        self._digests = digests
        self.stores = stores
        self._command = command
        self._hint = hint

    async def send(self, image: Image, stores: Sequence[Store], report: ReportBytes) -> Tally:
        if image.archive is not None:
            await complete(self._builder, self._digests, image)
        finished = await self._command(image)
        if finished.code != 0:
            why = " ".join(finished.tail(1)) or "no output"
            raise LoadError(
                f"load of {image.ref} ({self.how}): exit code {finished.code}: {why}",
                reason="LoadCommandFailed",
                evidence=finished.tail(),
                hint=self._hint,
            )
        report(image.size)
        return Tally(sent=image.size * len(stores))


async def send_to_each(
    stores: Sequence[S], send: Callable[[S, Tally, Callable[[], None]], Awaitable[None]], report: ReportBytes
) -> Tally:
    """`send` for every store at once, with the bytes of all of them in one count."""
    total = Tally()
    await gather(lambda store: send(store, total, lambda: report(total.sent + total.skipped)), stores)
    return total


async def built(builder: Engine, digests: Digests, ref: str) -> tuple[ImageFacts, Mapping[str, Blob]]:
    """The image on the builder's engine, and its blobs there by diff_id. Raises LoadError, PlatformError."""
    facts = await builder.inspect(ref)
    if facts is None:
        raise LoadError(
            f"load of {ref}: the builder's engine no longer has it",
            reason="ImageMissing",
            hint="was it pruned? devloop once --rebuild builds it again",
        )
    return facts, await digests.layers(ref, facts)


async def complete(builder: Engine, digests: Digests, image: Image) -> None:
    """Make a delta whole on the builder's engine, which has the layers below it. Raises LoadError."""
    try:
        await send_delta(builder, image, Tally(), digests)
    except LoadError as error:
        raise LoadError(
            f"load of {image.ref}: neither the node nor the builder's engine has the layers below the delta: "
            f"{error.message}",
            reason="ParentMissing",
            hint="the next build is a full one",
        ) from error
