"""The fingerprint of a service: a digest of everything that can change its image (S5 to S8)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.concurrency import Check, in_thread
from devloop.dockerfile.dockerignore import candidates
from devloop.dockerfile.plan import BaseRef, Plan
from devloop.dockerfile.planner import plan
from devloop.errors import BuildError, FingerprintError
from devloop.inputs.recipe import Recipe, read_recipe
from devloop.inputs.selection import Selection
from devloop.inputs.snapshot import Tree, read
from devloop.inputs.stat_cache import StatCache
from devloop.inputs.tree_look import TreeLook, changed_paths
from devloop.model import Base, BuildSpec, Change, Fingerprint, Inputs, Service
from devloop.ports import Bases

_FORMAT = 1  # changes every fingerprint; raise it when the encoding changes
Platform = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the last look at a service found. `recipe_key`: what decides which files are read."""

    recipe: Recipe
    bases: tuple[Base, ...]
    plan: Plan
    recipe_key: tuple[object, ...]
    real_context: Path  # with links followed, as some watchers name it
    tree: Tree
    fingerprint: Fingerprint


@dataclass(slots=True)
class _Memory:
    """Of one service: what is known, and which paths changed since. `changed` None = look at everything.
    `taking`: one looks at a time, or an older look would take the place of a newer one."""

    known: _Known | None = None
    changed: frozenset[Path] | None = None
    recipe: Recipe | None = None
    spec: BuildSpec | None = None
    taking: anyio.Lock = field(default_factory=anyio.Lock)

    def note(self, changed: frozenset[Path] | None) -> None:
        if self.changed is not None:
            self.changed = None if changed is None else self.changed | changed


class TreeFingerprinter:
    """Implements `ports.Fingerprinter`. One per process; services may be taken side by side."""

    def __init__(
        self,
        bases: Bases,
        cache: StatCache,
        platform: Platform,
        *,
        build_platform: str = "",
        rebuild_salts: Mapping[str, str] | None = None,
    ) -> None:
        """`platform`: the nodes' ("linux/amd64"), asked where `build.platform` says nothing (S6);
        `build_platform`: the engine's, "" = the same; `rebuild_salts`: by service (S3)."""
        self._bases, self._cache, self._platform = bases, cache, platform
        self._build_platform = build_platform
        self._rebuild_salts = {} if rebuild_salts is None else rebuild_salts  # one may come later
        self._memories: dict[str, _Memory] = {}

    async def take(self, service: Service, change: Change) -> Fingerprint:
        """Digest of the tree as it is now. With `change.paths` only those are looked at again.

        Cancelling abandons the hashing within milliseconds; nothing of the change is forgotten then.
        Raises FingerprintError, BuildError (bases, or a Dockerfile that cannot be read), PlatformError.
        """
        memory = self._memory(service)
        memory.note(change.paths or None)
        async with memory.taking:
            return (await self._take(service, memory, whole=False)).fingerprint

    async def look(self, service: Service) -> TreeLook:
        """As `take`, of everything, and whether that is news to whoever took the last one."""
        memory = self._memory(service)
        async with memory.taking:
            before = memory.known
            now = await self._take(service, memory, whole=True)
        digest = now.fingerprint.digest
        if before is None or before.fingerprint.digest == digest:
            return TreeLook(digest, before is None)
        old, new = before.fingerprint.inputs, now.fingerprint.inputs
        return TreeLook(digest, True, await in_thread(lambda _: changed_paths(service.build, old, new)))

    async def _take(self, service: Service, memory: _Memory, *, whole: bool) -> _Known:
        changed = memory.changed  # what is noted from here on is for the next one
        memory.changed = frozenset()
        try:
            memory.recipe = recipe = await in_thread(lambda _: read_recipe(service.build, memory.recipe))
            platform = service.build.platform or await self._platform()
            known = memory.known
            planned, bases = await self._plan(service, recipe, platform, known)
            memory.known = now = await in_thread(
                lambda check: self._look(
                    service, recipe, planned, bases, platform, known, changed, check, whole=whole
                )
            )
        except BaseException:
            memory.note(changed)
            raise
        return now

    async def still_matches(self, service: Service, fingerprint: Fingerprint) -> bool:
        """Do the inputs look, by stat, as they did when this fingerprint was taken (S8)? Asked after a
        build whose context somebody else read. False as well if another one was taken since."""
        known = self._memory(service).known
        if known is None or known.fingerprint != fingerprint:
            return False
        same = await self._looks_like(service, known)
        if not same:
            self._memory(service).changed = None  # something moved unheard: which file, nobody knows
        return same

    async def _looks_like(self, service: Service, known: _Known) -> bool:
        try:
            recipe = await in_thread(lambda _: read_recipe(service.build, known.recipe))
            return recipe is known.recipe and await in_thread(known.tree.unchanged)
        except (FingerprintError, BuildError):
            return False

    def paths_of_interest(self, service: Service) -> frozenset[Path]:
        """The directories to watch with all below them: the context, and the Dockerfile's if outside."""
        context, home = service.build.context, service.build.dockerfile.parent
        return frozenset({context} if home.is_relative_to(context) else {context, home})

    def concerns(self, service: Service, path: Path) -> bool:
        """Can this path change the image? Cheap, reads nothing. In doubt, as before the first take: yes."""
        spec = service.build
        if path == spec.dockerfile or path in candidates(spec.context, spec.dockerfile):
            return True
        known = self._memory(service).known
        inside = _inside((spec.context, known.real_context) if known else (spec.context,), path)
        if inside is None:
            return any(parent == path for parent in (*spec.context.parents, *spec.dockerfile.parents))
        return inside == "" or known is None or known.tree.selection.concerns(inside)

    def counts(self, service: Service, path: Path) -> bool:
        """Is this path an input of the last fingerprint? In doubt, as before the first: yes."""
        known = self._memory(service).known
        inside = _inside((service.build.context, known.real_context), path) if known else None
        return known is None or inside in known.tree.files

    async def looks_the_same(self, service: Service) -> bool:
        """Do the inputs look, by stat, as when they were last read? Yes where they never were."""
        known = self._memory(service).known
        return known is None or await self.still_matches(service, known.fingerprint)

    async def close(self) -> None:
        """Keep what was hashed for the next start."""
        await anyio.to_thread.run_sync(self._cache.save)

    # --- steps

    def _memory(self, service: Service) -> _Memory:
        memory = self._memories.setdefault(service.name, _Memory())
        if memory.spec != service.build:
            memory = self._memories[service.name] = _Memory(spec=service.build)
        return memory

    async def _plan(
        self, service: Service, recipe: Recipe, platform: str, known: _Known | None
    ) -> tuple[Plan, tuple[Base, ...]]:
        """The plan with its bases resolved; ONBUILD lines of a base may bring further ones."""
        bases: tuple[Base, ...] = ()
        made = self._make_plan(service, recipe, platform, bases)
        while True:
            resolved = await self._resolve(service, made.bases, platform)
            if resolved == bases:
                return made, bases
            if (
                known
                and known.recipe is recipe
                and known.bases == resolved
                and known.fingerprint.inputs.platform == platform
            ):
                return known.plan, resolved
            bases = resolved
            made = self._make_plan(service, recipe, platform, bases)

    def _make_plan(self, service: Service, recipe: Recipe, platform: str, bases: tuple[Base, ...]) -> Plan:
        return plan(
            recipe.dockerfile,
            target=service.build.target,
            args=service.build.args,
            platform=platform,
            build_platform=self._build_platform,
            bases=bases,
        )

    async def _resolve(self, service: Service, refs: Iterable[BaseRef], platform: str) -> tuple[Base, ...]:
        by_platform: dict[str, list[str]] = {}
        for ref in refs:
            by_platform.setdefault(ref.platform or platform, []).append(ref.ref)
        found: list[Base] = []
        for wanted, names in by_platform.items():
            found += await self._bases.resolve(service, names, wanted)
        return tuple(found)

    def _look(
        self,
        service: Service,
        recipe: Recipe,
        planned: Plan,
        bases: tuple[Base, ...],
        platform: str,
        known: _Known | None,
        changed: frozenset[Path] | None,
        check: Check,
        *,
        whole: bool,
    ) -> _Known:
        """In a worker thread: bring the tree up to date and add everything up."""
        context = service.build.context
        key = (planned.reads, recipe.ignore_digest)
        real = Path(os.path.realpath(context))
        paths = {_inside((context, real), path) for path in changed or ()} - {None}
        fresh = {path for path in paths if path}
        tree = None
        few = changed is not None and not whole and "" not in paths
        if known and known.recipe_key == key and few:
            tree = known.tree.updated(fresh, self._cache, check)
        if tree is None:
            before = known.tree if known and known.tree.context == context else None
            selection = Selection.of(planned.reads, recipe.rules)
            tree = read(context, selection, fresh, self._cache, check, before)
        self._cache.save_if_many()
        inputs = Inputs(tree.files, bases, platform, recipe.dockerfile_digest, recipe.ignore_digest)
        digest = _digest(service.build, inputs, tree.digest, self._rebuild_salts.get(service.name, ""))
        return _Known(
            recipe, bases, planned, key, real, tree, Fingerprint(digest, inputs, planned, recipe.rules)
        )


def _digest(spec: BuildSpec, inputs: Inputs, files: bytes, rebuild_salt: str) -> str:
    """16 hex digits of everything in S5. Values of secrets are no part of it, those of args are."""
    everything = [
        _FORMAT,
        inputs.dockerfile_digest,
        inputs.ignore_digest,
        spec.target,
        sorted(spec.args.items()),
        inputs.platform,
        sorted(secret.id for secret in spec.secrets),
        [[base.ref, base.id, list(base.onbuild)] for base in inputs.bases],
        files.hex(),
        rebuild_salt,
    ]
    return hashlib.sha256(json.dumps(everything, ensure_ascii=True).encode()).hexdigest()[:16]


def _inside(contexts: Iterable[Path], path: Path) -> str | None:
    """The path relative to the context, "" for the context itself, None outside."""
    full = os.fspath(path)
    for root in map(os.fspath, contexts):
        if full == root:
            return ""
        if full.startswith(root + "/"):
            return full[len(root) + 1 :]
    return None
