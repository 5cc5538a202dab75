"""The manifests of config.yaml: applied with the live tags put in, again when they change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from devloop import state_file
from devloop.deploy.kustomization import sources
from devloop.deploy.releases import POLL_SECONDS
from devloop.errors import DevloopError, PrerequisiteError
from devloop.events import Applied, Emit, Notice
from devloop.files import is_folder, read_bytes
from devloop.model import Service, Trouble
from devloop.ports import Cluster

WHOSE = "manifests"
MOST_PLACES = 100  # clusters and namespaces of which it is known what was applied last
Files = Callable[[], Sequence[Path]]
Step = Callable[[], Awaitable[bool]]
Live = Callable[[Sequence[Service]], Awaitable[Mapping[str, str]]]


class Manifests:
    """Knows which images are loaded, and holds back every object whose image is not.

    `services` are those that this session works for, `every` all of config.yaml: the others keep what they
    run, which `live` returns (image -> reference), and what was never brought is not made without an image.
    `memory` is a file in the state directory that says what was applied last to `where` (server and
    namespace): what did not change is not applied again, so that hand-made changes stay.
    """

    def __init__(
        self,
        files: Files,
        services: Callable[[], Sequence[Service]],
        cluster: Cluster,
        emit: Emit,
        memory: Path,
        where: str,
        every: Callable[[], Sequence[Service]] = tuple,
        live: Live | None = None,
    ) -> None:
        self._files, self._cluster, self._emit = files, cluster, emit
        self._memory, self._where = memory, where
        self._services, self._every, self._live = services, every, live
        self._refs: dict[str, str] = {}
        self._lock = anyio.Lock()
        self._tried: tuple[str, frozenset[str]] | None = None  # content of the files, what was withheld
        self._troubles: tuple[Trouble, ...] = ()  # what this try could not apply
        self._names: Set[tuple[str, str]] = frozenset()  # of the objects that it could read
        self._lacking: PrerequisiteError | None = None  # what it waits for
        self._whose: dict[str, frozenset[str]] = {}  # message -> under whose names it was reported
        self._affected: set[str] = set()
        self.blocked = False  # something that must be there beforehand is not
        self.held = anyio.Event()  # set while blocked

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        """As in the port; also applies what another service's image held back. Of what is refused
        only that of the service's own workloads is raised."""
        self._refs[service.image] = ref
        if not missing and self._lacking is None and await self._is_done(service):
            return False
        async with self._lock:
            changed = await self._apply(service, missing=missing)
            self._affected.discard(service.name)  # this trip is its own
            for trouble in self._troubles:
                if self._blames(trouble, service, missing=missing):
                    raise self._reported_as(service.name, trouble.error)
            if self._lacking is not None:
                own = await self._cluster.prerequisite(service.image)
                if own is not None:
                    self._reported_as(service.name, self._lacking)
                    raise own
                self._report("", self._lacking)  # another's: no reason to hold up this service
            return changed

    async def settle(self, *, missing: bool = False, trips_follow: bool = False) -> bool:
        """Apply if the files changed since the last time, or if something is known to be `missing`.
        `trips_follow`: the trips of `affected` services report what is theirs.

        Raises ConfigError, PatchError, PlatformError for what is no service's own; PrerequisiteError, once
        all else is applied.
        """
        async with self._lock:
            changed = await self._apply(None, missing=missing, trips_follow=trips_follow)
            own = [trouble.error for trouble in self._troubles if not self._has_service(trouble)]
            for error in own[1:]:
                self._report("", error)
            if own:
                raise self._reported_as("", own[0])
            if self._lacking is not None:
                raise self._reported_as("", self._lacking)
            return changed

    def affected(self) -> Set[str]:
        """The services whose trouble has come, gone or changed in no trip of their own since they were asked
        for last: each needs one, to report it or to go on."""
        found, self._affected = self._affected, set()
        return found

    def _troubled(self) -> Mapping[str, str]:
        """The services of which an object could not be applied, with the reason."""
        return {
            service.name: trouble.error.message
            for service in self._services()
            for trouble in self._troubles
            if trouble.concerns(service)
        }

    async def is_applied(self) -> bool:
        """Whether the files as they are now have been applied, by whichever devloop of this project."""
        files = tuple(self._files())
        return not files or self._applied()[0] == await anyio.to_thread.run_sync(_digest, files)

    async def _is_done(self, service: Service) -> bool:
        """Nothing is left to do for this service: no reason to wait for an object that hangs for another."""
        files = tuple(self._files())
        digest = await anyio.to_thread.run_sync(_digest, files)
        applied, left_out = self._applied()
        if not files or (applied == digest and not left_out):
            return True
        withheld = self._withheld(await self._known_refs())
        if applied == digest and left_out <= withheld:
            return True
        tried = self._tried == (digest, withheld)
        return tried and not any(trouble.concerns(service) for trouble in self._troubles)

    async def _apply(self, service: Service | None, *, missing: bool, trips_follow: bool = False) -> bool:
        """Everything, or what is left of it: the service's own, with None everybody's. True if it changed
        anything."""
        files = tuple(self._files())
        if not files:
            self._tried = None
            self._take((), frozenset(), None)
            return False
        digest = await anyio.to_thread.run_sync(_digest, files)
        applied, left_out = self._applied()
        if not missing and applied == digest and not left_out:
            return False
        refs = await self._known_refs()
        withheld = self._withheld(refs)
        if not missing and applied == digest and left_out <= withheld:
            return False
        again: tuple[Trouble, ...] | None = None
        if not missing and self._tried == (digest, withheld):
            again = tuple(t for t in self._troubles if service is None or t.concerns(service))
            if not again and self._lacking is None:
                return False
        if (
            applied != digest
        ):  # from here on the cluster may hold some of these: what was applied before is over
            self._remember("", ())
        done = await self._cluster.apply(files, tuple(refs.values()), tuple(withheld), again)
        if done.changed:
            self._emit(Applied("manifests", done.changed))
        # Files are read each time: what of them cannot be is in `done` again.
        others = () if again is None else tuple(t for t in self._troubles if not (t in again or t.unread))
        self._take((*others, *done.troubles), done.names, await self._cluster.prerequisite())
        self._tried = digest, withheld
        self._report_others(service, missing=missing, trips_follow=trips_follow)
        if not (self._troubles or self._lacking):
            self._remember(digest, withheld)
        return bool(done.changed)

    def _take(
        self, troubles: tuple[Trouble, ...], names: Set[tuple[str, str]], lacking: PrerequisiteError | None
    ) -> None:
        """What stands in the way from now on; that nothing does any more is reported once, under the name
        that the trouble was reported under."""
        before = self._troubled()
        self._troubles, self._names, self._lacking = troubles, names, lacking
        self._affected |= {name for name, _ in before.items() ^ self._troubled().items()}
        self._block(lacking is not None)
        for error in self._standing():
            error.about = WHOSE
        standing = {error.message: self._whose.get(error.message) for error in self._standing()}
        over = {name for message, names in self._whose.items() if message not in standing for name in names}
        self._whose = {message: names for message, names in standing.items() if names}
        for name in sorted(over - self._in_trouble()):
            rest = "the trouble with them is over" if standing else "all of them are applied"
            text = "its manifests are applied" if name else rest
            self._emit(Notice(name, "info", text, about="" if name else WHOSE))

    def _in_trouble(self) -> set[str]:
        """Under whose names there is something to report: a service's, or "" for the project's own."""
        found = {name for names in self._whose.values() for name in names}
        for trouble in self._troubles:
            named = [one.name for one in self._services() if trouble.concerns(one)]
            found |= set(named) or (set() if trouble.error.message in self._whose else {""})
        return found

    def _reported_as(self, name: str, error: DevloopError) -> DevloopError:
        """Keeps under whose name an error is reported, "" for the project's own; the error."""
        self._whose[error.message] = self._whose.get(error.message, frozenset()) | {name}
        return error

    def _report_others(self, service: Service | None, *, missing: bool, trips_follow: bool) -> None:
        """What the caller does not raise: in a service's trip the project's own, else the services'."""
        for trouble in self._troubles:
            names = [one.name for one in self._services() if trouble.concerns(one)]
            if service is not None and not names:
                if not self._blames(trouble, service, missing=missing):
                    self._report("", trouble.error)
            elif service is None and names and not trips_follow:
                self._report(names[0], trouble.error)

    def _report(self, name: str, error: DevloopError) -> None:
        if name not in self._whose.get(error.message, ()):
            self._reported_as(name, error)
            self._emit(Notice(name, "error", error.message, error.hint, "" if name else WHOSE))

    def _standing(self) -> list[DevloopError]:
        """What stands in the way now."""
        return [*(trouble.error for trouble in self._troubles), *([self._lacking] if self._lacking else [])]

    def _blames(self, trouble: Trouble, service: Service, *, missing: bool) -> bool:
        """Whether it is the service's own. A workload that is `missing`, and is not among what could be read,
        may be in a file that could not."""
        lacks = any((str(target), target.namespace) not in self._names for target in service.targets)
        return trouble.concerns(service) or (missing and trouble.unread and lacks)

    def _has_service(self, trouble: Trouble) -> bool:
        return any(trouble.concerns(service) for service in self._services())

    async def _known_refs(self) -> dict[str, str]:
        """Image -> reference: what was loaded, and what services run that others work for."""
        return {**await self._live_refs(), **self._refs}

    def _withheld(self, refs: Mapping[str, str]) -> frozenset[str]:
        """The images whose objects are held back: none of theirs is known yet."""
        return frozenset(self._images() - refs.keys())

    def _images(self) -> set[str]:
        return {service.image for service in (*self._services(), *self._every())}

    async def _live_refs(self) -> Mapping[str, str]:
        """What the services run that this session does not work for."""
        ours = {service.image for service in self._services()}
        others = [service for service in self._every() if service.image not in ours]
        return await self._live(others) if others and self._live is not None else {}

    async def unblocked(self) -> None:
        """Wait until what was missing is there. Raises PlatformError."""
        while self.blocked:
            await anyio.sleep(POLL_SECONDS)
            self._block(await self._cluster.prerequisite() is not None)

    def _block(self, blocked: bool) -> None:
        self.blocked = blocked
        if blocked:
            self.held.set()
        elif self.held.is_set():
            self.held = anyio.Event()

    def forget(self) -> None:
        """They were deleted: what is to come is applied whether it changed or not."""
        self._tried = None
        self._remember("", ())

    def _applied(self) -> tuple[str, set[str]]:
        """What was applied last, and the images whose objects were left out of it."""
        digest, *left_out = self._read().get(self._where, "").split(" ")
        return digest, set(left_out)

    def _read(self) -> dict[str, str]:
        return state_file.read(self._memory, state_file.by_name(state_file.text), {})

    def _remember(self, digest: str, left_out: Iterable[str]) -> None:
        others = {where: known for where, known in self._read().items() if where != self._where}
        applied = " ".join((digest, *sorted(left_out)))
        known = {**dict([*others.items()][-MOST_PLACES:]), self._where: applied}
        with suppress(OSError):  # a full disk costs one more time of applying, not a trip
            state_file.write(self._memory, json.dumps(known).encode())


def _digest(files: Sequence[Path]) -> str:
    """Of files; a kustomization's folder counts by all that rendering it reads."""
    total = hashlib.sha256()
    for entry in files:
        for file in sources(entry) if is_folder(entry) else (entry,):
            total.update(str(file).encode(errors="surrogateescape") + b"\0")
            total.update(hashlib.sha256(_content(file)).digest())
    return total.hexdigest()


def _content(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except OSError:
        return b""  # gone, or yet to come: reading it for real reports what is wrong
