"""The project's folder, and whoever saves in it; file events reach devloop late, or not at all.

The files are real (on a file system in memory); each write has a time of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import yaml
from anyio.abc import TaskStatus

from devloop.watch.source import Backend, Batch, Limit, WatchRoots
from tests.simulation.clock import START
from tests.simulation.faults import Faults
from tests.simulation.node import Content

WORDS = frozenset({"crash", "slow", "never", "deaf", "broken"})  # in a file: how an image of it behaves


def content_of(files: Mapping[str, bytes]) -> Content:
    """What an image with these files holds."""
    total = hashlib.sha256()
    words: set[str] = set()
    for path, data in sorted(files.items()):
        total.update(f"{path}\0{len(data)}\0".encode() + data)
        words |= WORDS & set(data.decode(errors="replace").split())
    return Content(total.hexdigest(), frozenset(words), files)


class Tree:
    """`root` holds config.yaml, manifests and a folder per service. `history`: by service, (time, what an
    image of it should hold, None where there can be none) at each moment at which that changed."""

    def __init__(self, root: Path, faults: Faults) -> None:
        self.root, self._faults = root, faults
        self.history: dict[str, list[tuple[float, Content | None]]] = {}
        self.delivered: dict[str, list[tuple[float, float]]] = {}  # service -> (saved, delivered)
        self.on_heard: Callable[[str, float], None] = lambda service, moment: None
        self._sources: list[_Source] = []
        self._writes = 0
        self._last = 0.0  # loop time at which the newest event is delivered

    # --- changes

    def write(self, path: str, text: str) -> None:
        """As an editor does: another file takes the place."""
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        fresh = full.with_name(f".{full.name}.new")
        fresh.write_text(text)
        self._date(fresh)
        fresh.replace(full)
        self._date(full.parent)
        self._changed({full: True})

    def remove(self, path: str) -> None:
        full = self.root / path
        if full.is_dir():
            shutil.rmtree(full)
            self._changed({full: True}, frozenset({full}))
        elif full.exists():
            full.unlink()
            self._changed({full: True})

    def rename(self, old: str, new: str) -> None:
        before, after = self.root / old, self.root / new
        if not before.exists() or after.exists():
            return
        after.parent.mkdir(parents=True, exist_ok=True)
        before.rename(after)
        self._date(after.parent)
        fresh = frozenset({before, after}) if after.is_dir() else frozenset[Path]()
        self._changed({before: True, after: True}, fresh)

    def _date(self, path: Path) -> None:
        self._writes += 1
        moment = int((START + asyncio.get_running_loop().time()) * 1e9) + self._writes
        os.utime(path, ns=(moment, moment))

    def _changed(self, paths: dict[Path, bool], fresh: frozenset[Path] = frozenset()) -> None:
        moment = asyncio.get_running_loop().time()
        self.look(paths)
        faults = self._faults
        delay = faults.delay(0.0, 5.0 if faults.on("events late") else 0.02)
        lost = "the queue overflowed" if faults.on("events lost") else None
        batch = Batch(len(paths), {}, frozenset(), lost) if lost else Batch(len(paths), paths, fresh)
        self._last = max(moment + delay, self._last + 1e-6)  # late, but in order: so the kernel delivers them
        asyncio.get_running_loop().call_at(self._last, self._deliver, batch, moment, paths)

    def _deliver(self, batch: Batch, moment: float, paths: Mapping[Path, bool]) -> None:
        for source in list(self._sources):
            source.report(batch)
        for service in self.history if self._sources else ():
            folder = self.root / service
            if any(path.is_relative_to(folder) for path in paths):
                self.delivered.setdefault(service, []).append((moment, asyncio.get_running_loop().time()))
                self.on_heard(service, moment)

    # --- what is true

    def look(self, paths: Iterable[Path]) -> None:
        """Note what the images should hold now that something happened at these paths."""
        moment = asyncio.get_running_loop().time()
        for service, history in self.history.items():
            if not any(path.is_relative_to(self.root / service) for path in paths):
                continue
            now = self.wanted(service)
            if not history or history[-1][1] != now:
                history.append((moment, now))

    def wanted(self, service: str) -> Content | None:
        folder = self.root / service
        dockerfile = folder / "Dockerfile"
        if not dockerfile.is_file():
            return None
        files = {"Dockerfile": dockerfile.read_bytes()}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.endswith(".log"):
                files[name] = path.read_bytes()
        return content_of(files)

    def setting(self, service: str) -> str:
        """What the service's manifest gives to its container."""
        manifest = yaml.safe_load((self.root / "k8s" / f"{service}.yaml").read_text())
        return str(manifest["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])

    def since(self, service: str, moment: float) -> list[Content | None]:
        """All that the service's tree was from this moment on."""
        history = self.history[service]
        first = max((index for index, (at, _) in enumerate(history) if at <= moment), default=0)
        return [content for _, content in history[first:]]

    # --- devloop's side

    def backend(self) -> Backend:
        def source(roots: WatchRoots) -> _Source:
            return _Source(roots, self._sources)

        @contextmanager
        def quiet() -> Iterator[_NoAlarm]:
            yield _NoAlarm()

        return Backend(source, source, lambda _: None, lambda _: {}, lambda _: frozenset(), quiet)

    def deafen(self) -> None:
        """devloop was killed: nobody listens."""
        self._sources.clear()


class _Source:
    """Reports what lies below the folders that it was asked for, and the files."""

    def __init__(self, roots: WatchRoots, sources: list[_Source]) -> None:
        self._roots, self._sources = roots, sources
        self._seen: Callable[[Batch], None]

    async def run(self, seen: Callable[[Batch], None], *, task_status: TaskStatus[None]) -> Limit:
        self._seen = seen
        self._sources.append(self)
        try:
            await anyio.lowlevel.checkpoint()
            task_status.started()
            await anyio.sleep_forever()
        finally:
            if self in self._sources:
                self._sources.remove(self)
        raise AssertionError

    def report(self, batch: Batch) -> None:
        paths = {path: closed for path, closed in batch.paths.items() if self._is_watched(path)}
        fresh = frozenset(path for path in batch.fresh if self._is_watched(path))
        if paths or fresh or batch.lost:
            self._seen(Batch(len(paths), paths, fresh, batch.lost))

    def _is_watched(self, path: Path) -> bool:
        return path in self._roots.files or any(path.is_relative_to(root) for root in self._roots.folders)


class _NoAlarm:
    async def wait(self) -> None:
        await anyio.sleep_forever()
