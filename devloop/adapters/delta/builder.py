"""Delta images where they are proven, full builds elsewhere: `ports.Builder`.

A delta stands on an image that the nodes hold: only what a load has verified becomes a parent. Doubt of any
kind, in the Dockerfile, the layers or the load, ends in a full build.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from devloop.adapters.build.builder import ImageBuilder
from devloop.adapters.delta.keeper import ParentImage, ParentKeeper
from devloop.adapters.delta.parents import ParentStore
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.concurrency import Check, in_thread
from devloop.delta.delta import Delta, NotProven, Parent, delta
from devloop.delta.from_base import first
from devloop.delta.from_run import RUN_AFTER, Continuation, continuation, rest
from devloop.delta.from_stage import IN_A_STAGE, Export, built, exporting
from devloop.delta.layer_writer import LARGEST_LAYER
from devloop.delta.plain_dockerfile import stands_on
from devloop.errors import BuildError, DevloopError, LoadError, TreeMovedError
from devloop.events import DeltaFallback, Emit, Notice
from devloop.inputs.archive import read_dockerfile
from devloop.model import Fingerprint, Image, Service

UNVERIFIED = 8  # deltas that were made and not loaded yet
_FROM_THE_BASE = ("NoParent", "RecipeChanged", "TooManyLayers")  # doubts that do not touch the base
TRIED_IN_VAIN = 2  # times that builds of one Dockerfile go on from a RUN and fail, where full ones do not
FAILED = "DeltaFailed"  # the reason of a full build after a delta, or a build from a RUN on, has failed
_A_RUN = re.compile(r"\[\S+ +\d+/\d+\] RUN ")  # how a builder names one, and its stage
BELOW = "-below"  # that of the image that a build goes on from


Result = TypeVar("Result")


class DeltaBuilder:
    """`ports.Builder`: a delta on what the nodes hold where that is proven, else a full build."""

    def __init__(
        self,
        full: ImageBuilder,
        engine: Engine,
        store: ParentStore,
        keeper: ParentKeeper,
        emit: Emit,
    ) -> None:
        self._full = full
        self._engine = engine
        self._store = store
        self.keeper = keeper
        self._emit = emit
        # By id, of deltas that no load has verified yet; with the bytes that they add.
        self._made: dict[str, tuple[Parent, int]] = {}
        self._reported: set[tuple[str, str, int]] = set()
        self._in_vain: dict[str, tuple[str, int]] = {}  # by service: a recipe, and how often going on failed
        self._stopped: set[str] = set()  # services whose last edit a line of the Dockerfile stopped
        # By service, the delta that was made last, with what it stands on and its fingerprint.
        self._last: dict[str, tuple[ParentImage, str, Delta | NotProven]] = {}

    async def build(self, service: Service, fingerprint: Fingerprint) -> Image:
        self.keeper.note(service)
        await self.keeper.awaited(service.name)
        standing = self.keeper.standing(service.name)
        made = await _or_doubt(self.delta_on(standing, service, fingerprint))
        self._last.pop(service.name, None)  # its bytes are needed no more
        below = standing.size if standing is not None else 0
        if (
            isinstance(made, NotProven)
            and made.reason in _FROM_THE_BASE
            and not self.keeper.rebuild_salt(service)
        ):
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
        if isinstance(made, NotProven) and made.reason in IN_A_STAGE:
            brought = await _or_doubt(self._built(service, fingerprint, made))
            if isinstance(brought, BuildError):
                raise brought
            if isinstance(brought, NotProven) and brought.reason == FAILED:
                brought = replace(brought, line=made.line)
            made = brought
        if isinstance(made, Delta):
            self._stopped.discard(service.name)
            self._made[made.id] = made.parent, made.archive.size
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
        """The full build. What failed before it is reported only if it fails as well."""
        try:
            image = await self._full.build(service, fingerprint)
        except BuildError as error:
            if why.reason == FAILED and why.message != error.message:
                self._emit(Notice(service.name, "info", f"a faster build failed before: {why.message}"))
            raise
        if why.reason == FAILED:
            recipe, failures = self._in_vain.get(service.name, ("", 0))
            now = self.keeper.recipe(service, fingerprint)
            self._in_vain[service.name] = now, 1 + (failures if recipe == now else 0)
        return image

    async def build_full(self, service: Service, fingerprint: Fingerprint) -> Image:
        """The full build of a delta that could not be loaded; its parent is forgotten."""
        self.keeper.forget(service.name)
        self._fall_back(service, NotProven("LoadFailed", "a layer below the delta is gone from the node"))
        return await self._full.build(service, fingerprint)

    async def loaded(self, image: Image) -> None:
        """A load has verified the image on every node: deltas may stand on it."""
        made, added = self._made.pop(image.id, (None, 0))
        await self.keeper.loaded(image, made, added, stopped=image.service in self._stopped)

    async def delta_on(
        self, standing: ParentImage | None, service: Service, fingerprint: Fingerprint
    ) -> Delta | NotProven:
        """The delta to this tree from an image that `standing` describes. Made once for two who ask for it.

        Raises TreeMovedError (S8).
        """
        plan = fingerprint.plan
        if standing is None or plan is None:
            return NotProven("NoParent", "no image is known yet that a delta could stand on")
        last = self._last.pop(service.name, None)
        if last is not None and last[0] is standing and last[1] == fingerprint.digest:
            return last[2]
        labels = self._full.labels(service, fingerprint)
        rules, rebuild_salt = fingerprint.rules, self.keeper.rebuild_salt(service)

        def make(check: Check) -> Delta | NotProven:
            before, after = standing.inputs, fingerprint.inputs
            return delta(
                service,
                standing.parent,
                before,
                after,
                plan,
                rules,
                labels,
                rebuild_salt=rebuild_salt,
                check=check,
            )

        made = await in_thread(make)
        self._last[service.name] = standing, fingerprint.digest, made
        return made

    async def _continued(
        self, service: Service, fingerprint: Fingerprint, why: NotProven
    ) -> Image | NotProven:
        """The image by a build that goes on from the RUN that `why` names."""
        standing, plan = self.keeper.standing(service.name), fingerprint.plan
        if plan is None or standing is None or not await self._full.continues(service):
            return why
        if self._in_vain.get(service.name) == (self.keeper.recipe(service, fingerprint), TRIED_IN_VAIN):
            return why
        labels, ref = self._full.labels(service, fingerprint), service.ref(fingerprint) + BELOW
        rules, rebuild_salt = fingerprint.rules, self.keeper.rebuild_salt(service)
        inputs, parent = fingerprint.inputs, standing.parent

        def make(check: Check) -> tuple[Continuation, bytes] | NotProven:
            text = read_dockerfile(service.build.dockerfile, inputs).decode(errors="surrogateescape")
            made = continuation(
                service,
                parent,
                standing.inputs,
                inputs,
                plan,
                rules,
                labels,
                why,
                rebuild_salt=rebuild_salt,
                check=check,
            )
            if isinstance(made, NotProven):
                return made
            return made, rest(text, plan, made.line, ref).encode(errors="surrogateescape")

        made = await in_thread(make)
        if isinstance(made, NotProven):
            return made
        archive = made[0].below.archive
        below = Image(service.name, fingerprint, ref, made[0].below.id, "delta", archive.size, archive)
        self._report(service, why, "builds go on from")
        try:
            return await self._full.build_on(below, service, made[1])
        except LoadError as error:
            return NotProven("ParentMissing", error.message)

    async def _built(
        self, service: Service, fingerprint: Fingerprint, why: NotProven
    ) -> Delta | NotProven | BuildError:
        """A delta of what the stages bring that read what changed; they are built, without the last stage.

        The error of a RUN is an answer too: those that are built are the user's, and would fail so again.
        """
        standing, plan = self.keeper.standing(service.name), fingerprint.plan
        if plan is None or standing is None or not await self._full.continues(service):
            return why
        if self._in_vain.get(service.name) == (self.keeper.recipe(service, fingerprint), TRIED_IN_VAIN):
            return why
        rules, rebuild_salt = fingerprint.rules, self.keeper.rebuild_salt(service)
        before, after, parent = standing.inputs, fingerprint.inputs, standing.parent

        def ask(_: Check) -> Export | NotProven:
            text = read_dockerfile(service.build.dockerfile, after).decode(errors="surrogateescape")
            return exporting(service, parent, before, after, plan, text, rebuild_salt=rebuild_salt)

        export = await in_thread(ask)
        if isinstance(export, NotProven):
            return export
        labels = self._full.labels(service, fingerprint)
        dockerfile = export.dockerfile.encode(errors="surrogateescape")
        try:
            async with self._full.exported(service, fingerprint, dockerfile, export.places, export.known) as (
                layers,
                ran,
            ):
                return await in_thread(
                    lambda check: built(
                        service, export, layers, ran, parent, before, after, plan, rules, labels, check=check
                    )
                )
        except BuildError as error:
            if error.outside_tree or not error.evidence or not _A_RUN.match(error.evidence[0]):
                raise
            return error

    async def _first(
        self, service: Service, fingerprint: Fingerprint, why: NotProven
    ) -> tuple[Delta | NotProven, int]:
        """The image on its base where no build is needed for it, and the base's size; else `why`."""
        plan, inputs = fingerprint.plan, fingerprint.inputs
        ref = stands_on(plan, inputs) if plan is not None else None
        if plan is None or ref is None or sum(e.size for e in inputs.files.values()) > LARGEST_LAYER:
            return why, 0
        try:
            found = next(base for base in inputs.bases if base.ref == ref)
            base = await self._store.base(self._engine, found)
            facts = await self._engine.inspect(ref)
        except (EngineRefusedError, LoadError):
            return why, 0
        if base is None or facts is None:
            return why, 0
        known, rules = base, fingerprint.rules
        labels = self._full.labels(service, fingerprint)
        made = await in_thread(lambda check: first(service, known, inputs, plan, rules, labels, check=check))
        return (made, facts.size) if isinstance(made, Delta) else (why, 0)

    def _report(self, service: Service, why: NotProven, what: str) -> bool:
        """Each reason is reported once; whether it was reported now."""
        key = service.name, why.reason, why.line
        first = key not in self._reported
        self._reported.add(key)
        if first and why.reason not in ("NoParent", FAILED):
            where = f"Dockerfile:{why.line}: " if why.line else ""
            self._emit(Notice(service.name, "info", f"{what} {where}{why.message}", why.advice or None))
        return first

    def _fall_back(self, service: Service, why: NotProven) -> None:
        """Count it, and report each reason once."""
        first = self._report(service, why, "full build:")
        self._emit(DeltaFallback(service.name, why.reason, why.message, why.line, why.advice, first))


async def _or_doubt(work: Awaitable[Result]) -> Result | NotProven:
    """What a short cut finds; where it fails, for whatever reason, the full build is the judge."""
    try:
        return await work
    except TreeMovedError:
        raise
    except DevloopError as error:
        return NotProven(FAILED, error.message)
    except Exception as error:  # noqa: BLE001 - no fault of a short cut may cost more than the short cut
        return NotProven(FAILED, f"internal error: {type(error).__name__}: {error}")
