"""Delta images as the fast way of `ports.Builder`.

A delta stands on an image that the nodes hold: only what a load has verified becomes a parent. Doubt of any
kind, in the Dockerfile, the layers or the load, ends in a full build.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import anyio

from devloop.adapters.archive.oci_layout import sha256
from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.connection import EngineRefusal
from devloop.adapters.docker.engine import Engine
from devloop.concurrency import Check, in_thread
from devloop.delta.delta import Delta, NotProven, Parent, delta, recipe
from devloop.delta.from_base import first, stands_on
from devloop.delta.from_run import RUN_AFTER, Continuation, continuation, rest
from devloop.delta.layer_writer import LARGEST_LAYER
from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.plan import Plan
from devloop.errors import BuildError, DevloopError, LoadError, TreeMovedError
from devloop.events import DeltaFallback, Emit, Notice
from devloop.inputs.archive import read_dockerfile
from devloop.model import Fingerprint, Image, Inputs, LoadedImage, Service

FOLD_AFTER = 20  # deltas on one full build
FOLD_SHARE = 0.25  # of the image's size
UNVERIFIED = 8  # deltas that were made and not loaded yet
_FROM_THE_BASE = ("NoParent", "RecipeChanged", "TooManyLayers")  # doubts that do not touch the base
AGAIN_SECONDS = 60.0  # an edit that no delta can carry is likely followed by its like
BASE = "-base"  # what a folded image's tag ends in (S3)
TRIED_IN_VAIN = 2  # times that builds of one Dockerfile go on from a RUN and fail, where full ones do not
FAILED = "FasterWayFailed"  # the reason of a full build after a way that saves work has failed
BELOW = "-below"  # that of the image that a build goes on from


Result = TypeVar("Result")


class Plans(Protocol):
    """What the fingerprinter knows of a service's Dockerfile."""

    def plan_of(self, service: Service) -> Plan | None: ...

    def rules_of(self, service: Service) -> IgnoreRules: ...


@dataclass(slots=True)
class _Standing:
    """The image that the nodes hold and that is known in every layer: the next delta's parent."""

    inputs: Inputs
    parent: Parent
    added: int = 0  # bytes of deltas since the full build
    size: int = 0  # of the image, bytes
    ref: str = ""  # what keeps the layers on the nodes


class DeltaBuilder:
    """`ports.Builder`: a delta on what the nodes hold where that is proven, else a full build."""

    def __init__(
        self,
        full: ImageBuilder,
        engine: Engine,
        plans: Plans,
        store: ParentStore,
        salts: Callable[[str], str],
        emit: Emit,
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._full = full
        self._again = again
        self._engine = engine
        self._plans = plans
        self._store = store
        self._salts = salts
        self._emit = emit
        self._services: dict[str, Service] = {}
        self._standing: dict[str, _Standing] = {}
        self._made: dict[str, Parent] = {}  # by id, of deltas that no load has verified yet
        self._told: set[tuple[str, str, int]] = set()
        self._in_vain: dict[str, tuple[str, int]] = {}  # by service: a recipe, and how often going on failed
        self._stopped: set[str] = set()  # services whose last edit a line of the Dockerfile stopped
        self._to_learn: dict[str, tuple[Image, float]] = {}  # and from when on, in the event loop's seconds
        self._something = anyio.Event()

    async def build(self, service: Service, fingerprint: Fingerprint) -> Image:
        self._services[service.name] = service
        made = await _or_doubt(self._delta(service, fingerprint))
        below = self._standing[service.name].size if service.name in self._standing else 0
        if isinstance(made, NotProven) and made.reason in _FROM_THE_BASE and not self._salts(service.name):
            first = await _or_doubt(self._first(service, fingerprint, made))
            made, below = (first, 0) if isinstance(first, NotProven) else first
        if isinstance(made, NotProven) and made.reason == RUN_AFTER:
            continued = await _or_doubt(self._continued(service, fingerprint, made))
            if isinstance(continued, Image):
                self._stopped.discard(service.name)
                self._in_vain.pop(service.name, None)
                return continued
            if continued.reason == FAILED:
                made = replace(continued, line=made.line)
        if isinstance(made, Delta):
            self._made[made.id] = made.parent
            for old in list(self._made)[:-UNVERIFIED]:  # of trips that were superseded
                del self._made[old]
            size = below + made.archive.size
            ref = service.ref(fingerprint)
            return Image(service.name, fingerprint, ref, made.id, "delta", size, made.archive)
        self._fall_back(service, made)
        again = made.line or made.reason == "TooLarge"
        (self._stopped.add if again else self._stopped.discard)(service.name)
        return await self._full_after(made, service, fingerprint)

    async def _full_after(self, why: NotProven, service: Service, fingerprint: Fingerprint) -> Image:
        """The full build. What failed before it is told only if it fails as well."""
        try:
            image = await self._full.build(service, fingerprint)
        except BuildError as error:
            if why.reason == FAILED and why.message != error.message:
                self._emit(Notice(service.name, "info", f"a faster build failed before: {why.message}"))
            raise
        if why.reason == FAILED:
            recipe, failures = self._in_vain.get(service.name, ("", 0))
            now = self._recipe(service, fingerprint)
            self._in_vain[service.name] = now, 1 + (failures if recipe == now else 0)
        return image

    async def build_full(self, image: Image) -> Image:
        """The full build of a delta that could not be loaded; its parent is forgotten."""
        service = self._services[image.service]
        self._standing.pop(service.name, None)
        self._fall_back(service, NotProven("LoadFailed", "a layer below the delta is gone from the node"))
        return await self._full.build(service, image.fingerprint)

    async def landed(self, image: Image) -> None:
        """A load has verified the image on every node: deltas may stand on it."""
        if image.how == "continued":
            return  # the next one stands on the same full build
        digest = image.fingerprint.digest
        made = self._made.pop(image.id, None)
        if made is not None:
            below = self._standing.get(image.service)
            assert image.archive is not None
            added = (below.added if below else 0) + image.archive.size
            if made.full == len(made.diff_ids):  # it stands on its base alone: nothing to fold
                added = 0
            self._standing[image.service] = _Standing(
                image.fingerprint.inputs, made, added, image.size, image.ref
            )
            await self._store.put_late(image.service, digest, made)
            if len(made.diff_ids) - made.full >= FOLD_AFTER or added > FOLD_SHARE * max(image.size, 1):
                self._ask(image)
            return
        known = await self._store.get(image.service, digest)
        if known is not None and known.diff_ids and _is_of(known, image):
            self._standing[image.service] = _Standing(
                image.fingerprint.inputs, known, 0, image.size, image.ref
            )
        elif image.service not in self._standing or image.how != "reused":
            self._standing.pop(image.service, None)
            self._ask(image, self._again if image.service in self._stopped else 0.0)

    def parents(self) -> frozenset[str]:
        """The references whose layers the next deltas stand on (S25)."""
        return frozenset(one.ref for one in self._standing.values())

    async def to_learn(self) -> Image:
        """The next image that is to become a parent, as soon as there is one whose time has come."""
        while True:
            name, (image, due) = min(self._to_learn.items(), key=_due, default=("", (None, math.inf)))
            if image is not None and due <= anyio.current_time():
                del self._to_learn[name]
                return image
            self._something = anyio.Event()
            with anyio.CancelScope(deadline=due):
                await self._something.wait()

    def note(self, service: Service) -> None:
        """A service is about to be looked at: its name will be asked for."""
        self._services[service.name] = service

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

        Raises StageError, PlatformError, EngineRefusal: the next full build tries again.
        """
        service = self._services.get(image.service)
        if service is None:
            return
        whole = image
        folded = image.how == "delta"
        if folded:
            whole = await self._full.build(service, image.fingerprint, suffix=BASE)
            await load(whole)
        known = await self._store.learn(self._engine, whole, self._recipe(service, image.fingerprint))
        if known is None:
            return
        now = self._standing.get(service.name)
        if now is None or folded:  # else a newer image landed meanwhile
            inputs = image.fingerprint.inputs
            self._standing[service.name] = _Standing(inputs, known, 0, whole.size, whole.ref)
        if not folded:
            await self._store.put(service.name, image.fingerprint.digest, known)

    def _recipe(self, service: Service, fingerprint: Fingerprint) -> str:
        return recipe(service.build, fingerprint.inputs, self._salts(service.name))

    async def _delta(self, service: Service, fingerprint: Fingerprint) -> Delta | NotProven:
        standing, plan = self._standing.get(service.name), self._plans.plan_of(service)
        if standing is None or plan is None:
            return NotProven("NoParent", "no image is known yet that a delta could stand on")
        labels = self._full.labels(service, fingerprint)
        rules, salt = self._plans.rules_of(service), self._salts(service.name)

        def make(check: Check) -> Delta | NotProven:
            before, after = standing.inputs, fingerprint.inputs
            return delta(service, standing.parent, before, after, plan, rules, labels, salt=salt, check=check)

        return await in_thread(make)

    async def _continued(
        self, service: Service, fingerprint: Fingerprint, why: NotProven
    ) -> Image | NotProven:
        """The image by a build that goes on from the RUN that `why` names."""
        standing, plan = self._standing[service.name], self._plans.plan_of(service)
        if plan is None or not await self._full.continues(service):
            return why
        if self._in_vain.get(service.name) == (self._recipe(service, fingerprint), TRIED_IN_VAIN):
            return why
        labels, ref = self._full.labels(service, fingerprint), service.ref(fingerprint) + BELOW
        rules, salt = self._plans.rules_of(service), self._salts(service.name)
        inputs, parent = fingerprint.inputs, standing.parent

        def make(check: Check) -> tuple[Continuation, bytes] | NotProven:
            text = read_dockerfile(service.build.dockerfile, inputs).decode(errors="surrogateescape")
            made = continuation(
                service, parent, standing.inputs, inputs, plan, rules, labels, why, salt=salt, check=check
            )
            if isinstance(made, NotProven):
                return made
            return made, rest(text, plan, made.line, ref).encode(errors="surrogateescape")

        made = await in_thread(make)
        if isinstance(made, NotProven):
            return made
        archive = made[0].below.archive
        below = Image(service.name, fingerprint, ref, made[0].below.id, "delta", archive.size, archive)
        self._tell(service, why, "builds go on from")
        try:
            return await self._full.build_on(below, service, made[1])
        except LoadError as error:
            return NotProven("ParentMissing", error.message)

    async def _first(
        self, service: Service, fingerprint: Fingerprint, why: NotProven
    ) -> tuple[Delta | NotProven, int]:
        """The image on its base where no build is needed for it, and the base's size; else `why`."""
        plan, inputs = self._plans.plan_of(service), fingerprint.inputs
        ref = stands_on(plan, inputs) if plan is not None else None
        if plan is None or ref is None or sum(e.size for e in inputs.files.values()) > LARGEST_LAYER:
            return why, 0
        try:
            found = next(base for base in inputs.bases if base.ref == ref)
            base = await self._store.base(self._engine, found)
            facts = await self._engine.inspect(ref)
        except (EngineRefusal, LoadError):
            return why, 0
        if base is None or facts is None:
            return why, 0
        known, rules = base, self._plans.rules_of(service)
        labels = self._full.labels(service, fingerprint)
        made = await in_thread(lambda check: first(service, known, inputs, plan, rules, labels, check=check))
        return (made, facts.size) if isinstance(made, Delta) else (why, 0)

    def _tell(self, service: Service, why: NotProven, what: str) -> bool:
        """Each reason is told once; whether it was told now."""
        key = service.name, why.reason, why.line
        first = key not in self._told
        self._told.add(key)
        if first and why.reason not in ("NoParent", FAILED):
            where = f"Dockerfile:{why.line}: " if why.line else ""
            self._emit(Notice(service.name, "info", f"{what} {where}{why.message}", why.advice or None))
        return first

    def _fall_back(self, service: Service, why: NotProven) -> None:
        """Count it, and tell each reason once."""
        first = self._tell(service, why, "full build:")
        self._emit(DeltaFallback(service.name, why.reason, why.message, why.line, why.advice, first))


async def _or_doubt(work: Awaitable[Result]) -> Result | NotProven:
    """What a way that saves work finds; where it fails, for whatever reason, the full build is the judge."""
    try:
        return await work
    except TreeMovedError:
        raise
    except DevloopError as error:
        return NotProven(FAILED, error.message)
    except Exception as error:  # noqa: BLE001 - no fault of a short cut may cost more than the short cut
        return NotProven(FAILED, f"internal error: {type(error).__name__}: {error}")


def _due(waiting: tuple[str, tuple[Image, float]]) -> float:
    return waiting[1][1]


def _is_of(parent: Parent, image: Image) -> bool:
    """Whether a remembered parent is this very image."""
    return sha256(parent.config) == image.id
