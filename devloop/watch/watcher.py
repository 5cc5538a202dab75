"""From file events to changes: who is concerned, when it is quiet enough, and that nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from devloop.clock import Clock
from devloop.concurrency import FirstStart
from devloop.events import Emit, Notice, WatchBatch, WatchOverflow
from devloop.files import is_there
from devloop.model import Change
from devloop.watch.debounce import ASIDE, Burst, git_folder
from devloop.watch.editor_files import ignore_pattern
from devloop.watch.listener import Listener
from devloop.watch.plan import Interest, WatchPlan, plan
from devloop.watch.source import Backend, Batch, WatchRoots

__all__ = ["Interest", "Watcher"]

MOUNTING = 1.0  # seconds until mounts are looked at: a container makes several at once
MOST_TURNS = 5  # times that watches are set again in a row because a link turned meanwhile

Deliver = Callable[[str, Change], None]


class Watcher:
    """Watches the files of all services at once and delivers changes, each to its service.

    One save is delivered at once, a burst when it is over. A lost event, a root that was recreated or
    a moved tree become a change with no paths: look at everything.
    """

    def __init__(self, interests: Sequence[Interest], clock: Clock, emit: Emit, backend: Backend) -> None:
        self._clock, self._emit, self._backend = clock, emit, backend
        self._interests: dict[str, Listener] = {}
        self._take_interests(interests)
        self._group: TaskGroup | None = None
        self._sources: anyio.CancelScope | None = None
        self._wake = anyio.Event()
        self._arming = anyio.Lock()
        self._reported: set[Path] = set()
        self._watched = WatchPlan({}, frozenset(), {})
        self._turns_at: frozenset[Path] = frozenset()
        self._turned = False  # a link may lead elsewhere than when the watches were set
        self._relinked = False  # there may be new links that somebody goes through

    async def run(
        self, deliver: Deliver, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver until cancelled; started once every change from now on will be seen."""
        async with anyio.create_task_group() as group:
            self._group = group
            await group.start(self._follow_mounts)
            await self._arm()
            task_status.started()
            await self._deliver_when_quiet(deliver)

    async def reconfigure(self, interests: Sequence[Interest]) -> None:
        """Watch for these from now on (S28); nothing is missed in between."""
        self._take_interests(interests)
        if self._group is not None:
            await self._arm()

    def _take_interests(self, interests: Sequence[Interest]) -> None:
        before = self._interests
        self._interests = {
            interest.service: Listener(
                interest,
                before[interest.service].burst if interest.service in before else Burst(),
            )
            for interest in interests
        }

    # --- sources --------------------------------------------------------------------------------

    async def _arm(self) -> None:
        """Start sources for the interests of now, then end the ones before: events overlap, none is lost."""
        assert self._group is not None
        async with self._arming:
            for _ in range(MOST_TURNS):
                before = self._sources
                self._sources = await self._group.start(self._serve)
                if before is not None:
                    before.cancel()
                if await anyio.to_thread.run_sync(self._watched.still_leads):
                    return
            self._turned = True

    async def _follow_mounts(self, *, task_status: TaskStatus[None]) -> None:
        """What is mounted on a watched folder, or below or above it, makes no file event."""
        with self._backend.mount_alarm() as alarm:
            roots = await anyio.to_thread.run_sync(self._real_folders)
            known = self._backend.mounts_at(roots)
            task_status.started()
            while True:
                await alarm.wait()
                await anyio.sleep(MOUNTING)
                now = self._backend.mounts_at(roots)
                if now != known:
                    await self._arm()
                    self._seen(Batch(0, {}, self._folders()))
                    roots = await anyio.to_thread.run_sync(self._real_folders)
                known = now

    def _real_folders(self) -> list[str]:
        return [os.path.realpath(folder) for folder in self._folders()]

    def _folders(self) -> frozenset[Path]:
        asked = (folder for ear in self._interests.values() for folder in ear.interest.folders)
        return frozenset((*asked, *self._watched.folders))

    async def _serve(self, *, task_status: TaskStatus[anyio.CancelScope]) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                sources = await anyio.to_thread.run_sync(self._plan)
                for path, kind in sources.silent.items():
                    self._tell_silent(path, kind)
                for roots, polled in sources.sources:
                    await group.start(self._follow, roots, polled)
                task_status.started(scope)

    def _plan(self) -> _WatchPlan:
        """All that is watched, split by whether it has to be polled; looks at the file system."""
        for ear in self._interests.values():
            ear.git = tuple(found for root in ear.interest.folders if (found := git_folder(root)) is not None)
        watched = plan(ear.interest for ear in self._interests.values())
        self._watched, self._turns_at = watched, watched.turns_at
        types = {path: self._backend.silent_type(path) for path in watched.turns_at}
        silent = {path: kind for path, kind in types.items() if kind is not None}
        watched, silent = _with_mounts(watched, silent, self._backend.silent_below)
        sources = []
        for polling in (False, True):
            roots = watched.roots(lambda path, polling=polling: (path in silent) is polling)  # type: ignore[misc]
            if roots is not None:
                sources.append((roots, polling))
        return _WatchPlan(sources, silent)

    def _tell_silent(self, path: Path, kind: str) -> None:
        if path not in self._reported:
            self._reported.add(path)
            message = f"{path} lies on {kind}, which does not report changes; polling it instead"
            self._emit(Notice("", "info", message, "changes on a local disk are seen at once"))

    def _tell_temporary(self, service: str, change: Change) -> None:
        """Once for each kind: such files count because whoever reads the folder takes them."""
        for path in sorted(change.paths):
            kind = ignore_pattern(path.name)
            if Path(kind) not in self._reported and is_there(path):
                self._reported.add(Path(kind))
                message = (
                    f"{path} looks like an editor's temporary file, but lies in the build context and stays:"
                    f" building with it, after {ASIDE:.0f} s"
                )
                self._emit(Notice(service, "info", message, f"to leave it out: {kind} in .dockerignore"))

    async def _follow(self, roots: WatchRoots, polled: bool, *, task_status: TaskStatus[None]) -> None:
        """The best source for these roots; polling when the kernel has no watch left."""
        started = FirstStart(task_status)
        if not polled:
            limit = await self._backend.native(roots).run(self._seen, task_status=started)
            message = f"file watching: {limit.reason}; polling the tree instead"
            self._emit(Notice("", "warning", message, f"raise it, then start devloop again: {limit.remedy}"))
        again = started.done
        group_status = started if not again else FirstStart(anyio.TASK_STATUS_IGNORED)
        async with anyio.create_task_group() as group:
            await group.start(self._backend.polling(roots).run, self._seen)
            group_status.started()
            if again:
                self._seen(Batch(0, {}, frozenset(), "the watcher was replaced by polling"))

    # --- from events to changes -----------------------------------------------------------------

    def _seen(self, batch: Batch) -> None:
        now = self._clock.ticks()
        batch = self._named(batch)
        self._emit(WatchBatch(batch.events, frozenset(batch.paths)))
        if batch.lost is not None:
            self._emit(WatchOverflow(batch.lost))
            self._turned = True
        for ear in self._interests.values():
            ear.hear(batch, now)
        self._wake.set()

    def _named(self, batch: Batch) -> Batch:
        """With what happened at the place of a link, or where one leads, under the names that are watched."""
        if not self._relinked:
            self._relinked = any(ear.new_link(batch) for ear in self._interests.values())
        at = [path for path in (*batch.paths, *batch.fresh) if path in self._turns_at]
        if not at:
            return batch
        self._turned = True
        paths, fresh = dict(batch.paths), set(batch.fresh)
        for place in at:
            for name in self._watched.places.get(place, ()):
                if name in self._watched.folders:
                    fresh.add(name)
                else:
                    paths[name] = batch.paths.get(place, True)
        return replace(batch, paths=paths, fresh=frozenset(fresh))

    async def _deliver_when_quiet(self, deliver: Deliver) -> None:
        while True:
            self._wake = anyio.Event()
            if self._turned or self._relinked:
                self._turned = False
                if self._relinked or not await anyio.to_thread.run_sync(self._watched.still_leads):
                    self._relinked = False
                    await self._arm()
            now = self._clock.ticks()
            soonest = float("inf")
            for service, ear in tuple(self._interests.items()):
                if not ear.burst.waiting:
                    continue
                due = ear.due(now, self._clock.now())
                if due > now:
                    soonest = min(soonest, due)
                    continue
                alone = not ear.burst.pressing
                change = ear.burst.take(now, self._clock.now(), ear.matters)
                if change is None:
                    continue
                if alone:
                    self._tell_temporary(service, change)
                if any(path.name.endswith(".dockerignore") for path in change.paths):
                    await self._arm()  # other folders may count now
                deliver(service, change)
            with anyio.move_on_after(soonest - self._clock.ticks()):
                await self._wake.wait()


@dataclass(frozen=True, slots=True)
class _WatchPlan:
    """What to watch and whether by polling; `silent`: what has to be polled, and its file system."""

    sources: list[tuple[WatchRoots, bool]]
    silent: Mapping[Path, str]


def _with_mounts(
    watched: WatchPlan, silent: dict[Path, str], silent_below: Callable[[Path], Mapping[Path, str]]
) -> tuple[WatchPlan, dict[Path, str]]:
    """With the folders below watched ones that have to be polled."""
    folders, kinds = dict(watched.folders), dict(silent)
    for root, enters in watched.folders.items():
        for point, kind in silent_below(root).items() if root not in silent else ():
            if enters(point):
                folders[point], kinds[point] = enters, kind
    return replace(watched, folders=folders), kinds
