"""Helm releases as the `Installer` port: installed, upgraded where the tree changed, one writer (S22)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread

from devloop.deploy.helm_values import base_values, digest, with_images
from devloop.deploy.releaser import Releaser
from devloop.errors import PrerequisiteError, ReleaseError, ReleaseWaitsError
from devloop.events import Applied, Emit, Notice
from devloop.model import Failed, Held, Outcome, Release, ReleaseView, Service, Values

NOTE = "devloop {}"  # the description of a revision that devloop made: the digest of what it came from
POLL_SECONDS = 1.0  # between two looks for a Secret that somebody has to make
OUR_MANAGER = "devloop"


class Releases:
    """Brings every release to what config.yaml, chart and values say, with the tags that are live.

    A release that was never installed waits until each of its services has its image on the nodes. It
    observes trips: nobody waits for a service whose trip failed. `every` are the services of
    config.yaml, `services` those of them that this session works for.
    """

    def __init__(
        self,
        releases: Callable[[], Sequence[Release]],
        services: Callable[[], Sequence[Service]],
        every: Callable[[], Sequence[Service]],
        releaser: Releaser,
        emit: Emit,
        environ: Mapping[str, str],
    ) -> None:
        self._releases, self._services, self._every = releases, services, every
        self._releaser, self._emit, self._environ = releaser, emit, environ
        self._refs: dict[str, str] = {}  # service -> its newest loaded reference
        self._failed: dict[str, str] = {}  # service -> why its last trip brought no image
        self._moved = anyio.Event()  # set, and replaced, when one of these two changes
        self._locks: dict[str, anyio.Lock] = {}
        self._refused: dict[str, tuple[int, str, dict[str, str]]] = {}  # release -> what failed, and when
        self._blocked: dict[str, tuple[Release, Values]] = {}  # release -> what lacks something beforehand

    def begun(self, service: Service) -> None:
        """A trip of the service may bring its image."""
        self._failed.pop(service.name, None)

    def ended(self, service: Service, outcome: Outcome) -> None:
        """A trip that failed brings no image: nobody waits for it."""
        if isinstance(outcome, Failed):
            self._failed[service.name] = f"failed in {outcome.stage}"
        elif isinstance(outcome, Held):
            self._failed[service.name] = "is held"
        self._stir()

    @asynccontextmanager
    async def writing(self, service: Service) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for release in sorted(self._of(service), key=lambda release: release.name):
                await stack.enter_async_context(self._alone(release))
            yield

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As in the port. Raises ConfigError, PatchError, ReleaseWaitsError, PlatformError."""
        self._refs[service.name] = ref
        self._failed.pop(service.name, None)
        self._stir()
        changed = [
            await self._bring(release, missing=missing, wait=True)
            for release in self._releases()
            if not release.images or release in self._of(service)
        ]
        return any(changed)

    async def settle(self) -> bool:
        """Every release, as far as its images are there; the first error after all were tried."""
        changed = [await self._bring(release, missing=False, wait=False) for release in self._releases()]
        return any(changed)

    async def preview(self, release: Release) -> str:
        """The manifest that an upgrade would have now. Raises ConfigError, ReleaseError, PlatformError."""
        values = await anyio.to_thread.run_sync(base_values, release, self._environ)
        refs, _ = await self._live_refs(release)
        view = await self._releaser.find(release)
        values = await anyio.to_thread.run_sync(with_images, release, values, refs)
        return await self._releaser.render(release, values, upgrade=view is not None)

    async def make_namespaces(self) -> None:
        """The namespaces that `create_namespace` asks for."""
        for release in self._releases():
            if release.create_namespace is not None and await self._releaser.ensure_namespace(release):
                self._emit(Applied(str(release), (f"namespace/{release.namespace} created",)))

    @property
    def blocked(self) -> bool:
        """Whether a release lacks something that must be there beforehand."""
        return bool(self._blocked)

    async def unblocked(self) -> None:
        while self._blocked:
            await anyio.sleep(POLL_SECONDS)
            for release, values in list(self._blocked.values()):
                if await self._has_all(release, values):
                    return

    # --- one release ----------------------------------------------------------------------------

    async def _bring(self, release: Release, *, missing: bool, wait: bool) -> bool:
        values = await anyio.to_thread.run_sync(base_values, release, self._environ)
        note = NOTE.format(await anyio.to_thread.run_sync(digest, release, values))
        view = await self._releaser.find(release)
        if _done(view, note) and not missing:
            return False
        if view is None and not await self._all_loaded(release, wait=wait):
            return False
        async with self._alone(release), self._releaser.exclusive(release):
            return await self._write(release, values, note, missing=missing, retry=wait)

    async def _write(
        self, release: Release, values: Values, note: str, *, missing: bool, retry: bool
    ) -> bool:
        view = await self._settled_view(release)
        refs, absent = await self._live_refs(release)
        if _done(view, note) and not (missing and absent):
            return False
        revision = view.revision if view else 0
        if not retry and self._refused.get(release.name) == (revision, note, refs):
            return False  # refused before, and nothing has changed since
        values = await anyio.to_thread.run_sync(with_images, release, values, refs)
        await self._prepare(release, values, upgrade=view is not None)
        write = self._releaser.install if view is None else self._releaser.upgrade
        try:
            await write(release, values, note)
        except ReleaseError:
            after = await self._releaser.find(release)
            self._refused[release.name] = after.revision if after else 0, note, refs
            raise
        self._refused.pop(release.name, None)
        change = "installed" if view is None else f"upgraded from revision {revision}"
        self._emit(Applied(str(release), (change,)))
        return True

    async def _settled_view(self, release: Release) -> ReleaseView | None:
        """The newest revision, none of it pending: we hold its lock, so whoever made it is dead (S23)."""
        view = await self._releaser.find(release)
        if view is None or not view.pending:
            return view
        text = f"{release} was left {view.status} by a helm that was killed: going on from there"
        self._emit(Notice("", "warning", text))
        if view.status == "uninstalling":
            await self._releaser.uninstall(release)
            return None
        await self._releaser.give_up(release, view)
        return ReleaseView(view.revision, "failed")

    async def _live_refs(self, release: Release) -> tuple[dict[str, str], bool]:
        """(service -> the reference to upgrade with, whether a target is not there).

        What devloop PATCHed must stay as it is: another value would be a conflict for Helm 4. What Helm
        wrote last may go to the newest image at once.
        """
        refs: dict[str, str] = {}
        absent = False
        for service in self._every():
            if service.name not in release.images:
                continue
            newest = self._refs.get(service.name, "")
            found = await self._releaser.live(service.targets, service.image)
            absent = absent or any(one is None for one in found)
            running = next((one for one in found if one is not None and one.ref), None)
            keeps = running is not None and (not newest or not running.writer.startswith("helm"))
            ref = running.ref if keeps and running is not None else newest
            if ref:
                refs[service.name] = ref
        return refs, absent

    async def _prepare(self, release: Release, values: Values, *, upgrade: bool) -> None:
        try:
            await self._releaser.ensure_namespace(release)
            manifest = await self._releaser.render(release, values, upgrade=upgrade)
            await self._releaser.check_needs(release, manifest)
        except PrerequisiteError:
            self._blocked[release.name] = release, values
            raise
        self._blocked.pop(release.name, None)

    async def _has_all(self, release: Release, values: Values) -> bool:
        try:
            await self._prepare(release, values, upgrade=False)
        except PrerequisiteError:
            return False
        return True

    # --- waiting --------------------------------------------------------------------------------

    async def _all_loaded(self, release: Release, *, wait: bool) -> bool:
        """Whether every service of the release that this session works for has an image on the nodes."""
        while True:
            ours = [service.name for service in self._services() if service.name in release.images]
            lacking = [name for name in ours if name not in self._refs]
            if not lacking or not wait:
                return not lacking
            for name in lacking:
                if name in self._failed:
                    raise ReleaseWaitsError(
                        f"{release} is not installed yet: it waits for the image of {name}, "
                        f"which {self._failed[name]}",
                        hint=f"fix {name}: the release is installed as soon as its image is there",
                    )
            await self._moved.wait()

    def _stir(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    # --- locks ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, release: Release) -> AsyncIterator[None]:
        async with self._locks.setdefault(release.name, anyio.Lock()):
            yield

    def _of(self, service: Service) -> list[Release]:
        return [release for release in self._releases() if service.name in release.images]


def _done(view: ReleaseView | None, note: str) -> bool:
    return view is not None and view.status == "deployed" and view.note == note
