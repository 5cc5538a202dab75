"""Which image the next delta stands on: learned after a load, folded when the chain grows long."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from devloop.adapters.archive.oci_layout import sha256
from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.engine import Engine
from devloop.delta.delta import Parent, recipe
from devloop.delta.parent import Carried
from devloop.model import Fingerprint, Image, Inputs, LoadedImage, Service

FOLD_AFTER = 20  # deltas on one full build
FOLD_SHARE = 0.25  # of the image's size
LONGEST_WAIT = 5.0  # seconds that an edit waits for a parent
AGAIN_SECONDS = 60.0  # an edit that no delta can carry is likely followed by its like
BASE = "-base"  # what a folded image's tag ends in (S3)


@dataclass(slots=True)
class ParentImage:
    """The image that the nodes hold and that is known in every layer: the next delta's parent."""

    inputs: Inputs
    parent: Parent
    added: int = 0  # bytes of deltas since the full build
    size: int = 0  # of the image, bytes
    ref: str = ""  # what keeps the layers on the nodes


class ParentKeeper:
    """The parents of the next deltas, by service: only what a load has verified becomes one."""

    def __init__(
        self,
        full: ImageBuilder,
        engine: Engine,
        store: ParentStore,
        rebuild_salt: Callable[[str], str],
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._full = full
        self._engine = engine
        self._store = store
        self._rebuild_salt = rebuild_salt
        self._again = again
        self._services: dict[str, Service] = {}
        self._standing: dict[str, ParentImage] = {}
        self._to_learn: dict[str, tuple[Image, float]] = {}  # and from when on, in the event loop's seconds
        self._something = anyio.Event()
        self._learning: dict[str, anyio.Event] = {}  # by service: set when a parent is learned, or given up
        self.learner = False  # does somebody ask for what is `to_learn`?

    def standing(self, service: str) -> ParentImage | None:
        """What the service's next delta stands on."""
        return self._standing.get(service)

    async def awaited(self, service: str) -> None:
        """Wait for a parent that is being learned, or is about to be: that takes less time than a full build
        and its load. Not for long."""
        waiting = self._to_learn.get(service)
        if service in self._standing or not self.learner:
            return
        if waiting is not None and waiting[1] <= anyio.current_time():
            self._to_learn[service] = waiting[0], -math.inf  # before others
        elif service not in self._learning:
            return
        with anyio.move_on_after(LONGEST_WAIT):
            await self._learning.setdefault(service, anyio.Event()).wait()

    def forget(self, service: str) -> None:
        """The nodes no longer have what it stood on."""
        self._standing.pop(service, None)

    def service(self, name: str) -> Service:
        """The service as it was last built."""
        return self._services[name]

    def note(self, service: Service) -> None:
        """A service is about to be looked at: its name will be asked for."""
        self._services[service.name] = service

    def parents(self) -> frozenset[str]:
        """The references whose layers the next deltas stand on (S25)."""
        return frozenset(one.ref for one in self._standing.values())

    async def loaded(self, image: Image, made: Parent | None, size: int = 0, *, stopped: bool) -> None:
        """A load has verified the image on every node: deltas may stand on it.

        `made`: its layers, of a delta that adds `size` bytes (it may have been found on the nodes, where the
        trip that loaded it was superseded); `stopped`: a line of the Dockerfile kept the last edit from
        being one.
        """
        digest = image.fingerprint.digest
        if image.how == "continued":  # the next one stands on the same full build, after a start too
            same = self._standing.get(image.service)
            if same is not None:
                carries = Carried(image.id, same.inputs, same.ref)
                await self._store.put_late(image.service, digest, replace(same.parent, carries=carries))
            return
        if made is not None:
            below = self._standing.get(image.service)
            added = (below.added if below else 0) + size
            if made.full == len(made.diff_ids):  # it stands on its base alone: nothing to fold
                added = 0
            self._standing[image.service] = ParentImage(
                image.fingerprint.inputs, made, added, image.size, image.ref
            )
            await self._store.put_late(image.service, digest, made)
            if len(made.diff_ids) - made.full >= FOLD_AFTER or added > FOLD_SHARE * max(image.size, 1):
                self._ask(image)
            return
        known = await self._known(image)
        if known is not None:
            self._standing[image.service] = known
        elif image.service not in self._standing or image.how != "reused":
            self._standing.pop(image.service, None)
            self._ask(image, self._again if stopped else 0.0)

    async def found(self, image: Image) -> None:
        """Nodes or engine have the tree's image already: the first edit after a start is a delta on it."""
        if image.service in self._standing or image.service in self._to_learn:
            return
        known = await self._known(image)
        if known is not None:
            self._standing[image.service] = known
        else:
            self._ask(image)

    async def _known(self, image: Image) -> ParentImage | None:
        """The image as a parent, if an earlier devloop has written down its layers."""
        known = await self._store.get(image.service, image.fingerprint.digest)
        if known is None or not known.diff_ids or not _is_of(known, image):
            return None
        if (of := known.carries) is not None:
            return ParentImage(of.inputs, replace(known, carries=None), 0, image.size, of.ref)
        return ParentImage(image.fingerprint.inputs, known, 0, image.size, image.ref)

    async def to_learn(self) -> Image:
        """The next image that is to become a parent, as soon as there is one whose time has come."""
        while True:
            name, (image, due) = min(self._to_learn.items(), key=_due, default=("", (None, math.inf)))
            if image is not None and due <= anyio.current_time():
                del self._to_learn[name]
                self._learning.setdefault(name, anyio.Event())
                return image
            self._something = anyio.Event()
            with anyio.CancelScope(deadline=due):
                await self._something.wait()

    def _ask(self, image: Image, rest: float = 0.0) -> None:
        """Have it learned after so many seconds: to read it keeps the engine busy."""
        bare = replace(image, archive=None)  # its bytes have been sent
        self._to_learn[image.service] = bare, anyio.current_time() + rest
        self._something.set()

    async def write(self) -> None:
        """Keeps what is known of parents in the state directory, until cancelled."""
        await self._store.write_late()

    async def learn(self, image: Image, load: Callable[[Image], Awaitable[LoadedImage]]) -> None:
        """Make the image a parent. One that is a delta is folded first: a full build under `…-base`.

        Raises StageError, PlatformError, EngineRefusedError: the next full build tries again.
        """
        self._learning.setdefault(image.service, anyio.Event())
        try:
            await self._learn(image, load)
        finally:
            self._learning.pop(image.service).set()

    async def _learn(self, image: Image, load: Callable[[Image], Awaitable[LoadedImage]]) -> None:
        service = self._services.get(image.service)
        if service is None:
            return
        whole = image
        folded = image.how == "delta"
        if folded:
            whole = await self._full.build(service, image.fingerprint, suffix=BASE)
            await load(whole)
        known = await self._store.learn(self._engine, whole, self.recipe(service, image.fingerprint))
        if known is None:
            return
        now = self._standing.get(service.name)
        if now is None or folded:  # else a newer image landed meanwhile
            inputs = image.fingerprint.inputs
            self._standing[service.name] = ParentImage(inputs, known, 0, whole.size, whole.ref)
        if not folded:
            await self._store.put(service.name, image.fingerprint.digest, known)

    def rebuild_salt(self, service: Service) -> str:
        """What a forced rebuild added to the fingerprint, "" without (S3)."""
        return self._rebuild_salt(service.name)

    def recipe(self, service: Service, fingerprint: Fingerprint) -> str:
        """All that makes the image beside the files of its context."""
        return recipe(service.build, fingerprint.inputs, self.rebuild_salt(service))


def _due(waiting: tuple[str, tuple[Image, float]]) -> float:
    return waiting[1][1]


def _is_of(parent: Parent, image: Image) -> bool:
    """Whether a remembered parent is this very image, or was remembered for it."""
    if parent.carries is not None:
        return parent.carries.id == image.id
    return sha256(parent.config) == image.id
