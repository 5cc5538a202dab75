"""Changes that make no event where the watcher looks: other names, mounts, and what only a look finds."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from devloop.adapters.watch.mounts import KernelMountAlarm, silent_below
from devloop.clock import Clock
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.stat_cache import StatCache
from devloop.model import Base, BuildSpec, Change, Service, Superseded, Timing, Unchanged
from devloop.trip.reconciler import ServiceState
from devloop.trip.sharing import Sharing
from devloop.trip.worker import Worker
from devloop.watch.rescan import Rescan
from tests.support.fakes import FakeWorld, fingerprint
from tests.watch.test_watcher import interest, watching

EVERYTHING = Change(frozenset(), 0.0, 0.0)


@contextmanager
def mounted(point: Path) -> Iterator[None]:
    """A file system of its own; needs root."""
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", point], check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text("one")
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /app/\n")
    return root


# --- other names ---------------------------------------------------------------------------------


async def test_a_write_through_another_hard_link_is_delivered(root: Path, tmp_path: Path) -> None:
    os.link(root / "main.py", tmp_path / "other")
    async with watching(interest(root)) as ears:
        (tmp_path / "other").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
        ears.forget()
        (root / "new").write_text("three")
        (root / "new").replace(root / "main.py")
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
        ears.forget()
        (tmp_path / "other").write_text("nobody reads it any more")
        await ears.settled()
        assert not ears.heard(root / "main.py")


async def test_a_single_file_with_another_name_is_heard_of_by_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "config.yaml"
    file.write_text("one")
    os.link(file, tmp_path / "other")
    async with watching(interest(files=frozenset({file}))) as ears:
        (tmp_path / "other").write_text("two")
        await ears.until(lambda: ears.heard(file))


# --- mounts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["app/data", "app", "."])
async def test_what_is_mounted_at_below_or_above_a_root_is_looked_at_and_watched(
    root: Path, tmp_path: Path, place: str
) -> None:
    """Mounts are looked at a second after the kernel tells of them: a save then may be part of that look."""
    point = tmp_path / place
    (root / "data").mkdir()
    async with watching(interest(root)) as ears:
        with mounted(point):
            await ears.until(ears.looks_at_all)
            await ears.settled()
            ears.forget()
            (root / "data").mkdir(parents=True, exist_ok=True)
            await ears.settled()
            ears.forget()
            (root / "data" / "new").write_text("x")
            await ears.until(lambda: ears.looks_at_all() or ears.heard(root / "data" / "new"))
            await ears.settled()
            ears.forget()
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.looks_at_all() or ears.heard(root / "main.py"))


async def test_a_mount_elsewhere_starts_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with watching(interest(root)) as ears:
        with KernelMountAlarm() as alarm:
            async with anyio.create_task_group() as group:
                group.start_soon(alarm.wait)
                await anyio.lowlevel.checkpoint()
                with mounted(tmp_path / "elsewhere"):
                    pass
        await ears.settled()
        assert ears.changes == []


def test_silent_file_systems_below_a_folder_are_found(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    app = tmp_path / "my app"
    (tmp_path / "link").symlink_to("my app")
    escaped = str(app).replace(" ", r"\040")
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {escaped}/data rw shared:1 - nfs4 server:/x rw\n"
        f"3 1 0:5 / {escaped}2 rw - nfs4 server:/x rw\n"
        f"4 1 0:5 / {escaped}/tmp rw - tmpfs none rw\n"
    )
    assert silent_below(tmp_path / "link", table) == {tmp_path / "link" / "data": "nfs4"}


# --- what only a look finds ----------------------------------------------------------------------


class NoBases:
    async def resolve(self, service: str, refs: Sequence[str], platform: str) -> tuple[Base, ...]:
        return tuple(Base(ref, f"sha256:{ref}") for ref in refs)


async def amd64() -> str:
    return "linux/amd64"


def service_of(root: Path) -> Service:
    return Service("app", "app", BuildSpec(root, root / "Dockerfile"), ())


@pytest.fixture
def trees(tmp_path: Path) -> TreeFingerprinter:
    return TreeFingerprinter(NoBases(), StatCache(tmp_path / "stat.sqlite"), amd64)


def by_another_name(root: Path) -> None:
    (root.parent / "other").write_text("twice as long")


def by_mmap(root: Path) -> None:
    with (root / "main.py").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0:3] = b"two"
        memory.flush()


def a_removed_input(root: Path) -> None:
    (root / ".main.py.swp").unlink()


def a_new_input(root: Path) -> None:
    (root / "new").touch()


def a_mode(root: Path) -> None:
    (root / "main.py").chmod(0o755)


def the_recipe(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM scratch\nCOPY main.py /\n")


def no_recipe(root: Path) -> None:
    (root / "Dockerfile").unlink()


CHANGES = [by_another_name, by_mmap, a_removed_input, a_new_input, a_mode, the_recipe, no_recipe]


@pytest.mark.parametrize("change", CHANGES)
async def test_s8_a_change_without_an_event_is_found_and_the_next_take_looks_at_all(
    root: Path, trees: TreeFingerprinter, change: Callable[[Path], None]
) -> None:
    os.link(root / "main.py", root.parent / "other")
    (root / ".main.py.swp").write_bytes(b"b0VIM")
    service = service_of(root)
    assert await trees.looks_the_same(service)  # nothing is known yet
    before = await trees.take(service, EVERYTHING)
    assert await trees.looks_the_same(service)
    change(root)
    assert not await trees.looks_the_same(service)
    if change is no_recipe:
        return
    (root / "unrelated").touch()
    after = await trees.take(service, Change(frozenset({root / "unrelated"}), 0.0, 0.0))
    cold = TreeFingerprinter(NoBases(), StatCache(root.parent / "other.sqlite"), amd64)
    assert after.digest == (await cold.take(service, EVERYTHING)).digest != before.digest
    assert await trees.looks_the_same(service)


async def test_s8_a_build_that_finds_the_tree_moved_makes_the_next_take_look_at_all(
    root: Path, trees: TreeFingerprinter
) -> None:
    service = service_of(root)
    first = await trees.take(service, EVERYTHING)
    (root / "unheard").touch()
    assert not await trees.still_matches(service, first)
    again = await trees.take(service, Change(frozenset({root / "main.py"}), 0.0, 0.0))
    assert "unheard" in again.inputs.files
    assert await trees.still_matches(service, again)


class Looks:
    """A tree that looks the same, or not."""

    def __init__(self) -> None:
        self.same = True
        self.asked = 0
        self._more = anyio.Event()

    async def looks_the_same(self, service: Service) -> bool:
        self.asked += 1
        self._more.set()
        await anyio.lowlevel.checkpoint()
        return self.same

    async def several(self) -> None:
        with anyio.fail_after(10):
            for _ in range(3):
                self._more = anyio.Event()
                await self._more.wait()


def at_rest(world: FakeWorld) -> Worker:
    worker = Worker(service_of(Path("/src")), world.world(), Sharing(), ())
    worker._state = ServiceState(Unchanged(fingerprint("v1"), "ref", Timing(0.0, 0.0, (), {})))
    return worker


async def test_s8_a_change_without_an_event_starts_a_trip() -> None:
    looks, worker = Looks(), at_rest(FakeWorld())
    rescan = Rescan(looks, Clock(), shortest=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(rescan.follow, worker)
        await looks.several()
        looks.same = False
        with anyio.fail_after(10):
            change = await worker.inbox.take()
        group.cancel_scope.cancel()
    assert (change.paths, change.why) == (frozenset(), "a change without a file event")


async def test_nobody_looks_while_a_trip_does() -> None:
    looks, worker = Looks(), at_rest(FakeWorld())
    rescan = Rescan(looks, Clock(), shortest=0.001)
    rescan.begun(worker.service)
    async with anyio.create_task_group() as group:
        group.start_soon(rescan.follow, worker)
        await anyio.sleep(0.05)
        assert looks.asked == 0
        rescan.ended(worker.service, Superseded("build", Timing(0.0, 0.0, (), {})))
        await looks.several()
        group.cancel_scope.cancel()


async def test_s8_what_is_collected_for_a_paused_service_is_no_news() -> None:
    looks, worker = Looks(), at_rest(FakeWorld())
    looks.same = False
    worker.inbox.pause()
    worker.inbox.put(Change(frozenset({Path("/src/a.py")}), 1.0, 1.0))
    rescan = Rescan(looks, Clock(), shortest=0.001)
    async with anyio.create_task_group() as group:
        group.start_soon(rescan.follow, worker)
        for _ in range(20):
            await anyio.sleep(0.001)
        worker.inbox.resume(2.0)
        change = await worker.inbox.take()
        group.cancel_scope.cancel()
    assert (change.why, change.paths) == ("saved", {Path("/src/a.py")})
    assert looks.asked == 0
