"""The watcher on real file systems and the real kernel: what it delivers, and that nothing gets lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from devloop.adapters.watch import backend
from devloop.adapters.watch.inotify import Inotify
from devloop.adapters.watch.polling import Polling
from devloop.adapters.watch.watchfiles import Watchfiles
from devloop.clock import Clock
from devloop.events import Event, Notice, WatchBatch, WatchOverflow
from devloop.model import Change, Removed
from devloop.sinks.changes import what_changed
from devloop.watch import debounce as burst
from devloop.watch.debounce import git_folder, saved_at
from devloop.watch.source import Batch, Limit, WatchRoots
from devloop.watch.watcher import Interest, Watcher

QUIET = 0.4  # longer than the watcher waits after any burst of these tests
INOTIFY = Path("/proc/sys/fs/inotify")


def everything(path: Path) -> bool:
    return True


class Ears:
    """What a watcher delivered, and how to wait for it."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Change]] = []
        self.events: list[Event] = []
        self.watcher: Watcher | None = None
        self._news = anyio.Event()

    def deliver(self, service: str, change: Change) -> None:
        self.changes.append((service, change))
        self._news.set()
        self._news = anyio.Event()

    def heard(self, path: Path, service: str = "app") -> bool:
        return any(name == service and path in change.paths for name, change in self.changes)

    def looks_at_all(self, service: str = "app") -> bool:
        return any(name == service and not change.paths for name, change in self.changes)

    async def until(self, met: Callable[[], bool], seconds: float = 15) -> None:
        with anyio.fail_after(seconds):
            while not met():
                news = self._news
                with anyio.move_on_after(0.05):
                    await news.wait()

    async def settled(self) -> None:
        """Nothing was delivered for a while."""
        while True:
            count = len(self.changes)
            with anyio.move_on_after(QUIET):
                await self._news.wait()
            if count == len(self.changes):
                return

    def forget(self) -> None:
        self.changes.clear()
        self.events.clear()


def interest(
    *folders: Path,
    service: str = "app",
    files: frozenset[Path] = frozenset(),
    concerns: Callable[[Path], bool] = everything,
    enters: Callable[[Path], bool] = everything,
    follows: Callable[[Path], bool] | None = None,
    counts: Callable[[Path], bool] = everything,
) -> Interest:
    return Interest(service, folders, files, concerns, enters, follows, counts)


@asynccontextmanager
async def watching(*interests: Interest, clock: Clock | None = None) -> AsyncIterator[Ears]:
    ears = Ears()
    ears.watcher = Watcher(interests, clock or Clock(), ears.events.append, backend.local_backend())
    async with anyio.create_task_group() as group:
        await group.start(ears.watcher.run, ears.deliver)
        yield ears
        group.cancel_scope.cancel()


@contextmanager
def kernel_limit(name: str, value: int) -> Iterator[None]:
    """One of the kernel's inotify limits, lowered (needs root) and put back."""
    limit = INOTIFY / name
    before = limit.read_text()
    limit.write_text(str(value))
    try:
        yield
    finally:
        limit.write_text(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    root.mkdir()
    (root / "main.py").write_text("one")
    return root


def nothing(path: Path) -> bool:
    return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors' temporary files wait for a shorter time."""
    monkeypatch.setattr(burst, "ASIDE", QUIET)


# --- one save ------------------------------------------------------------------------------------


async def test_a_save_is_delivered_with_its_path(root: Path) -> None:
    async with watching(interest(root)) as ears:
        (root / "main.py").write_text("two")
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
    assert [change.paths for _, change in ears.changes] == [frozenset({root / "main.py"})]


async def test_s32_detect_runs_from_the_mtime_of_the_saved_file(root: Path) -> None:
    file = root / "main.py"
    async with watching(interest(root)) as ears:
        file.write_text("two")
        await ears.until(lambda: bool(ears.changes))
    change = ears.changes[0][1]
    mtime = file.stat().st_mtime
    # The kernel stamps files with a clock that ticks every few milliseconds; ours runs between ticks.
    assert change.saved_at in (mtime, change.seen_at)
    assert change.saved_at <= change.seen_at


@pytest.mark.parametrize(("age", "counts"), [(0.5, True), (1.9, True), (2.5, False), (-5.0, False)], ids=str)
def test_s32_an_mtime_counts_only_if_at_most_two_seconds_old(root: Path, age: float, counts: bool) -> None:
    seen_at = time.time()
    os.utime(root / "main.py", (seen_at - age, seen_at - age))
    found = saved_at(frozenset({root / "main.py", root / "deleted"}), seen_at)
    assert found == pytest.approx(seen_at - age if counts else seen_at, abs=1e-3)


async def test_an_atomic_save_delivers_the_target(root: Path) -> None:
    async with watching(interest(root)) as ears:
        for number in range(3):
            temporary = root / f".main.py.{number}.tmp"
            temporary.write_text(f"new {number}")
            temporary.replace(root / "main.py")
            await ears.until(lambda: ears.heard(root / "main.py"))
            await ears.settled()
            ears.forget()


async def test_an_atomic_save_is_a_save_and_no_rename(root: Path) -> None:
    async with watching(interest(root)) as ears:
        temporary = root / "main.py.tmp.1"
        temporary.write_text("new")
        temporary.replace(root / "main.py")
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
    assert [what_changed(change, root) for _, change in ears.changes] == ["saved: main.py"]


@pytest.mark.parametrize("source", [Inotify, Polling], ids=["inotify", "polling"])
async def test_a_deletion_and_a_rename_are_called_that(
    root: Path, source: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "b.py"):
        (root / name).write_text(name)
    monkeypatch.setattr(backend, "_native", source)
    async with watching(interest(root)) as ears:
        (root / "a.py").rename(root / "c.py")
        await ears.until(lambda: ears.heard(root / "c.py"))
        (root / "b.py").unlink()
        await ears.until(lambda: ears.heard(root / "b.py"))
        await ears.settled()
        (root / "b.py").write_text("again")
        (root / "main.py").unlink()
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
    shown = [what_changed(change, root) for _, change in ears.changes]
    assert shown[:2] == ["renamed: a.py -> c.py", "deleted: b.py"]
    assert "saved: b.py" in "; ".join(shown[2:])
    assert "deleted: main.py" in "; ".join(shown[2:])


def test_changes_that_wait_together_show_what_is_gone_in_the_end() -> None:
    a, b, c = (Path("/p", name) for name in "abc")
    renamed = Change(frozenset({a, b}), 0, 0, removed=Removed(moved={a: b}))
    deleted = Change(frozenset({c}), 0, 0, removed=Removed(frozenset({c})))
    back = Change(frozenset({a}), 0, 0)
    assert what_changed(renamed.merged(deleted), Path("/p")) == "deleted: c; renamed: a -> b"
    assert what_changed(renamed.merged(back), Path("/p")) == "saved: a, b"
    assert what_changed(deleted.merged(Change(frozenset({c}), 0, 0)), Path("/p")) == "saved: c"


async def test_a_vim_save_with_a_backup_delivers_the_target_and_what_stays(root: Path) -> None:
    """vim: 4913 probe, rename to file~, write again, unlink file~, with a swap file all along."""
    async with watching(interest(root, counts=nothing)) as ears:
        (root / ".main.py.swp").write_bytes(b"b0VIM")
        (root / "4913").touch()
        (root / "4913").unlink()
        (root / "main.py").rename(root / "main.py~")
        (root / "main.py").write_text("two")
        (root / "main.py~").unlink()
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
    # The swap file lies in the context: a build takes it, so it counts (S5).
    assert [change.paths for _, change in ears.changes] == [
        frozenset({root / "main.py", root / ".main.py.swp"})
    ]


async def test_editors_temporary_files_that_vanish_start_nothing(root: Path, impatient: None) -> None:
    temporaries = [root / name for name in (".main.py.swp", "main.py~", "#main.py#", "4913")]
    async with watching(interest(root, counts=nothing)) as ears:
        for file in temporaries:
            file.write_text("x")
        (root / ".#main.py").symlink_to("user@host.1")
        for file in (*temporaries, root / ".#main.py"):
            file.unlink()
        await ears.settled()
        await ears.settled()
    assert ears.changes == []


async def test_s5_editors_temporary_files_that_stay_are_delivered_after_a_rest(
    root: Path, impatient: None
) -> None:
    swap, lock = root / ".main.py.swp", root / ".#main.py"
    async with watching(interest(root, counts=nothing)) as ears:
        swap.write_bytes(b"b0VIM")
        lock.symlink_to("user@host.1")
        await ears.until(lambda: ears.heard(swap) and ears.heard(lock))
        messages = [event.message for event in ears.events if isinstance(event, Notice)]
        assert any(str(swap) in message for message in messages)
        ears.forget()
        swap.write_bytes(b"b0VIM again")
        await ears.until(lambda: ears.heard(swap))
        assert not [event for event in ears.events if isinstance(event, Notice)]


async def test_s5_a_temporary_file_that_was_an_input_is_reported_when_it_goes(
    root: Path, impatient: None
) -> None:
    swap = root / ".main.py.swp"
    swap.write_bytes(b"b0VIM")
    async with watching(interest(root, counts=swap.__eq__)) as ears:
        swap.unlink()
        await ears.until(lambda: ears.heard(swap))


async def test_a_temporary_file_does_not_hold_up_the_save_beside_it(root: Path) -> None:
    async with watching(interest(root, counts=nothing)) as ears:
        for _ in range(3):
            (root / ".main.py.swp").write_bytes(os.urandom(64))
            (root / "main.py").write_bytes(os.urandom(8))
            await ears.until(lambda: ears.heard(root / "main.py"), 5)
            await ears.settled()
            ears.forget()


async def test_a_temporary_file_that_never_rests_is_delivered_within_its_cap(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst, "LONGEST_ASIDE", 0.5)
    async with watching(interest(root, counts=nothing)) as ears:
        with anyio.fail_after(15):
            while not ears.heard(root / ".main.py.swp"):
                (root / ".main.py.swp").write_bytes(os.urandom(64))
                await anyio.sleep(0.05)


async def test_deletion_mode_and_link_changes_are_delivered(root: Path) -> None:
    async with watching(interest(root)) as ears:
        (root / "main.py").chmod(0o755)
        await ears.until(lambda: ears.heard(root / "main.py"))
        ears.forget()
        (root / "link").symlink_to("main.py")
        await ears.until(lambda: ears.heard(root / "link"))
        ears.forget()
        (root / "main.py").unlink()
        await ears.until(lambda: ears.heard(root / "main.py"))


async def test_a_file_written_and_kept_open_is_delivered(root: Path) -> None:
    async with watching(interest(root)) as ears:
        with (root / "app.db").open("wb", buffering=0) as file:
            await ears.until(lambda: ears.heard(root / "app.db"))
            ears.forget()
            file.write(b"page")
            await ears.until(lambda: ears.heard(root / "app.db"))


async def test_a_read_is_no_change(root: Path) -> None:
    async with watching(interest(root)) as ears:
        (root / "main.py").read_text()
        list(root.iterdir())
        await ears.settled()
    assert ears.changes == []
    assert ears.events == []


async def test_a_name_that_is_not_utf8_is_delivered_and_the_next_save_too(root: Path) -> None:
    strange = root / os.fsdecode(b"caf\xe9.txt")
    async with watching(interest(root)) as ears:
        strange.write_text("x")
        await ears.until(lambda: ears.heard(strange))
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))


# --- bursts --------------------------------------------------------------------------------------


async def test_a_burst_of_files_is_one_change(root: Path) -> None:
    async with watching(interest(root)) as ears:
        for number in range(500):
            (root / f"{number}.py").write_text("x")
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
    assert len(ears.changes) == 1
    assert len(ears.changes[0][1].paths) == 500


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


async def test_a_git_checkout_is_one_change(root: Path) -> None:
    git(root.parent, "init", "-q", "-b", "main")
    for number in range(200):
        (root / f"{number}.py").write_text("main")
    git(root.parent, "add", ".")
    git(root.parent, "commit", "-qm", "main")
    git(root.parent, "checkout", "-qb", "other")
    for number in range(200):
        (root / f"{number}.py").write_text("other")
    git(root.parent, "commit", "-qam", "other")
    async with watching(interest(root)) as ears:
        await anyio.to_thread.run_sync(git, root.parent, "checkout", "-q", "main")
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
    assert len(ears.changes) == 1
    assert len(ears.changes[0][1].paths) == 200


async def test_a_save_waits_for_a_fresh_index_lock_and_not_for_an_old_one(root: Path) -> None:
    git(root.parent, "init", "-q")
    lock = root.parent / ".git" / "index.lock"
    async with watching(interest(root)) as ears:
        lock.touch()
        (root / "main.py").write_text("two")
        with anyio.move_on_after(0.3):
            await ears.until(lambda: bool(ears.changes))
        assert ears.changes == []
        lock.unlink()
        await ears.until(lambda: bool(ears.changes))
        ears.forget()
        lock.touch()
        (root / "main.py").write_text("three")
        await ears.until(lambda: bool(ears.changes))  # left over: two seconds at most
        assert lock.exists()


async def test_writing_without_a_pause_is_delivered_within_the_cap(root: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.002):
            number += 1
            (root / f"{number % 50}.log").write_text(str(number))

    thread = threading.Thread(target=write)
    async with watching(interest(root)) as ears:
        thread.start()
        try:
            await ears.until(lambda: len(ears.changes) >= 2)
        finally:
            stop.set()
            thread.join()
    first, second = (change for _, change in ears.changes[:2])
    assert second.seen_at - first.seen_at <= 2.5


async def test_one_services_noise_does_not_delay_another(tmp_path: Path) -> None:
    noisy, calm = tmp_path / "noisy", tmp_path / "calm"
    noisy.mkdir()
    calm.mkdir()
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.001):
            (noisy / "a.log").write_text("a")
            (noisy / "b.log").write_text("b")
            (noisy / "c.log").write_text("c")

    thread = threading.Thread(target=write)
    async with watching(interest(noisy, service="noisy"), interest(calm, service="calm")) as ears:
        thread.start()
        try:
            (calm / "main.py").write_text("one")
            await ears.until(lambda: bool(ears.changes))
        finally:
            stop.set()
            thread.join()
    assert ears.changes[0][0] == "calm"


# --- who is concerned ----------------------------------------------------------------------------


async def test_each_service_hears_of_its_own_files(tmp_path: Path) -> None:
    for name in ("a", "b", "shared"):
        (tmp_path / name).mkdir()
    mine = {name: {tmp_path / name, tmp_path / "shared"} for name in ("a", "b")}
    interests = [
        interest(tmp_path, service=name, concerns=lambda path, name=name: path.parent in mine[name])
        for name in ("a", "b")
    ]
    async with watching(*interests) as ears:
        (tmp_path / "a" / "x").write_text("1")
        await ears.until(lambda: bool(ears.changes))
        await ears.settled()
        assert {service for service, _ in ears.changes} == {"a"}
        ears.forget()
        (tmp_path / "shared" / "x").write_text("1")
        await ears.until(lambda: len(ears.changes) == 2)
    assert {service for service, _ in ears.changes} == {"a", "b"}


async def test_a_single_file_outside_the_roots_survives_atomic_replacement(root: Path) -> None:
    dockerfile = root.parent / "docker" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text("FROM scratch")
    async with watching(interest(root, files=frozenset({dockerfile}))) as ears:
        for number in range(3):
            new = dockerfile.with_name("new")
            new.write_text(f"FROM base:{number}")
            new.replace(dockerfile)
            await ears.until(lambda: ears.heard(dockerfile))
            await ears.settled()
            assert not ears.heard(new)
            ears.forget()
        shutil.rmtree(dockerfile.parent)
        await ears.until(lambda: ears.heard(dockerfile))
        ears.forget()
        dockerfile.parent.mkdir()
        dockerfile.write_text("FROM scratch")
        await ears.until(lambda: ears.heard(dockerfile))


async def test_folders_that_nobody_enters_are_not_watched(root: Path) -> None:
    (root / "node_modules" / "x").mkdir(parents=True)
    async with watching(interest(root, enters=lambda path: path.name != "node_modules")) as ears:
        (root / "node_modules" / "x" / "index.js").write_text("1")
        (root / "main.py").write_text("two")
        await ears.until(lambda: bool(ears.changes))
    batches = [event for event in ears.events if isinstance(event, WatchBatch)]
    assert {path for batch in batches for path in batch.paths} == {root / "main.py"}


async def test_a_changed_ignore_file_opens_folders_that_were_left_out(root: Path) -> None:
    (root / "vendor").mkdir()
    ignored = {"vendor"}
    async with watching(interest(root, enters=lambda path: path.name not in ignored)) as ears:
        ignored.clear()
        (root / ".dockerignore").write_text("")
        await ears.until(lambda: ears.heard(root / ".dockerignore"))
        (root / "vendor" / "lib.py").write_text("1")
        await ears.until(lambda: ears.heard(root / "vendor" / "lib.py"))


async def test_s28_reconfiguring_misses_nothing_and_forgets_who_left(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    written = 0
    stop = anyio.Event()

    async with watching(interest(old, service="kept")) as ears:

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                written += 1
                (old / f"{written}.py").write_text("x")
                await anyio.sleep(0.002)

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            assert ears.watcher is not None
            for _ in range(5):
                await ears.watcher.reconfigure(
                    [interest(old, service="kept"), interest(new, service="added")]
                )
            stop.set()
        await ears.settled()
        heard = {path for service, change in ears.changes if service == "kept" for path in change.paths}
        assert heard == {old / f"{number}.py" for number in range(1, written + 1)}
        (new / "a.py").write_text("x")
        await ears.until(lambda: ears.heard(new / "a.py", "added"))
        await ears.watcher.reconfigure([interest(new, service="added")])
        ears.forget()
        (old / "late.py").write_text("x")
        await ears.settled()
    assert ears.changes == []


# --- trees that move -----------------------------------------------------------------------------


async def test_every_file_of_a_tree_made_at_once_is_delivered(root: Path) -> None:
    async with watching(interest(root)) as ears:
        for number in range(30):
            deep = root / str(number) / "a" / "b"
            deep.mkdir(parents=True)
            (deep / "file.py").write_text("x")
        wanted = {root / str(number) / "a" / "b" / "file.py" for number in range(30)}
        await ears.until(lambda: all(ears.heard(path) or ears.looks_at_all() for path in wanted))
        await ears.settled()
        ears.forget()
        for path in wanted:
            path.write_text("y")
        await ears.until(lambda: all(ears.heard(path) for path in wanted))


async def test_a_tree_moved_in_is_read_and_watched(root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file.py").write_text("x")
    async with watching(interest(root)) as ears:
        outside.rename(root / "inside")
        await ears.until(lambda: ears.heard(root / "inside" / "deep" / "file.py"))
        await ears.settled()
        ears.forget()
        (root / "inside" / "deep" / "file.py").write_text("y")
        await ears.until(lambda: ears.heard(root / "inside" / "deep" / "file.py"))


async def test_a_folder_renamed_within_the_tree_is_reported_under_its_new_name(root: Path) -> None:
    (root / "old").mkdir()
    (root / "old" / "file.py").write_text("x")
    async with watching(interest(root)) as ears:
        (root / "old").rename(root / "new")
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (root / "new" / "file.py").write_text("y")
        await ears.until(lambda: ears.heard(root / "new" / "file.py"))
        await ears.settled()
        assert not ears.heard(root / "old" / "file.py")


async def test_a_folder_moved_out_is_a_change_and_no_longer_watched(root: Path) -> None:
    (root / "part").mkdir()
    (root / "part" / "file.py").write_text("x")
    async with watching(interest(root)) as ears:
        (root / "part").rename(root.parent / "part")
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (root.parent / "part" / "file.py").write_text("y")
        await ears.settled()
    assert ears.changes == []


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_root_deleted_and_made_again_is_watched_again(tmp_path: Path, depth: int) -> None:
    """Also where folders above it went with it."""
    root = tmp_path / "a" / "b" / "src"
    root.mkdir(parents=True)
    gone = root if depth == 0 else root.parents[depth - 1]
    async with watching(interest(root)) as ears:
        for _ in range(2):
            shutil.rmtree(gone)
            await ears.until(ears.looks_at_all)
            await ears.settled()
            ears.forget()
            root.mkdir(parents=True)
            (root / "main.py").write_text("new")
            await ears.until(ears.looks_at_all)
            await ears.settled()
            ears.forget()
            (root / "main.py").write_text("newer")
            await ears.until(lambda: ears.heard(root / "main.py"))
            await ears.settled()
            ears.forget()


async def test_a_root_renamed_away_is_not_mistaken_for_the_root(root: Path) -> None:
    async with watching(interest(root)) as ears:
        root.rename(root.parent / "elsewhere")
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (root.parent / "elsewhere" / "main.py").write_text("two")
        await ears.settled()
        assert ears.changes == []
        (root.parent / "elsewhere").rename(root)
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (root / "main.py").write_text("three")
        await ears.until(lambda: ears.heard(root / "main.py"))


async def test_a_root_that_is_not_there_yet_is_watched_once_it_is(tmp_path: Path) -> None:
    root = tmp_path / "later" / "src"
    async with watching(interest(root)) as ears:
        root.mkdir(parents=True)
        (root / "main.py").write_text("one")
        await ears.until(ears.looks_at_all)


async def test_a_symlinked_root_keeps_its_path_and_follows_the_link_when_it_moves(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    root = tmp_path / "current"
    root.symlink_to("one")
    async with watching(interest(root)) as ears:
        (tmp_path / "one" / "main.py").write_text("1")
        await ears.until(lambda: ears.heard(root / "main.py"))
        await ears.settled()
        ears.forget()
        (tmp_path / "link").symlink_to("two")
        (tmp_path / "link").replace(root)
        await ears.until(ears.looks_at_all)
        await ears.settled()
        ears.forget()
        (tmp_path / "one" / "main.py").write_text("2")
        await ears.settled()
        assert ears.changes == []
        (tmp_path / "two" / "main.py").write_text("2")
        await ears.until(lambda: ears.heard(root / "main.py"))


async def test_one_folder_under_two_names_is_reported_to_both(tmp_path: Path) -> None:
    real, alias = tmp_path / "real", tmp_path / "alias"
    real.mkdir()
    alias.symlink_to("real")
    async with watching(interest(real, service="real"), interest(alias, service="alias")) as ears:
        (real / "main.py").write_text("1")
        await ears.until(
            lambda: ears.heard(real / "main.py", "real") and ears.heard(alias / "main.py", "alias")
        )


# --- losses and limits ---------------------------------------------------------------------------


@pytest.mark.alone
async def test_an_overflow_of_the_kernels_queue_becomes_a_look_at_everything(root: Path) -> None:
    with kernel_limit("max_queued_events", 16):
        async with watching(interest(root)) as ears:
            for number in range(200):  # no await: the queue is not read meanwhile
                (root / f"{number}.py").write_text("x")
                (root / f"d{number}").mkdir()
            await ears.until(ears.looks_at_all)
            await ears.settled()
            assert any(isinstance(event, WatchOverflow) for event in ears.events)
            ears.forget()
            # Folders whose creation was lost are watched.
            (root / "d199" / "file.py").write_text("x")
            await ears.until(lambda: ears.heard(root / "d199" / "file.py"))


@pytest.mark.alone
async def test_an_overflow_caused_by_moved_folders_leaves_no_stale_path(root: Path) -> None:
    (root / "old").mkdir()
    with kernel_limit("max_queued_events", 16):
        async with watching(interest(root)) as ears:
            for number in range(100):
                (root / f"{number}.py").write_text("x")
            (root / "old").rename(root / "new")
            await ears.until(ears.looks_at_all)
            await ears.settled()
            ears.forget()
            (root / "new" / "file.py").write_text("x")
            await ears.until(lambda: ears.heard(root / "new" / "file.py"))
            await ears.settled()
            assert not ears.heard(root / "old" / "file.py")


def watches_in_use() -> int:
    """All inotify watches of this user's processes: what the limit counts."""
    found = 0
    for info in Path("/proc").glob("[0-9]*/fdinfo/*"):
        try:
            found += info.read_text().count("inotify wd:")
        except OSError:
            continue
    return found


@pytest.mark.alone
@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_at_the_watch_limit_the_remedy_is_shown_and_the_tree_is_polled(root: Path, when: str) -> None:
    for number in range(60 if when == "at the start" else 2):
        (root / f"d{number}").mkdir()
    with kernel_limit("max_user_watches", watches_in_use() + 30):
        async with watching(interest(root)) as ears:
            if when == "later":
                for number in range(60):
                    (root / f"late{number}").mkdir()
                await ears.until(ears.looks_at_all)
            notices = [event for event in ears.events if isinstance(event, Notice)]
            assert [notice.level for notice in notices] == ["warning"]
            assert "fs.inotify.max_user_watches" in (notices[0].hint or "")
            await ears.settled()
            ears.forget()
            deep = root / ("d59" if when == "at the start" else "late59") / "file.py"
            deep.write_text("x")
            await ears.until(lambda: ears.heard(deep))


async def test_at_the_instance_limit_the_remedy_is_shown_and_the_tree_is_polled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(kernel: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("devloop.adapters.watch.inotify_watches.Kernel.init", refuse)
    async with watching(interest(root)) as ears:
        assert any("max_user_instances" in (e.hint or "") for e in ears.events if isinstance(e, Notice))
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))


async def test_polling_sees_two_saves_of_the_same_size_within_a_second(root: Path) -> None:
    batches: list[Batch] = []
    async with anyio.create_task_group() as group:

        async def start(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            await Polling(WatchRoots({root: everything})).run(batches.append, task_status=task_status)

        await group.start(start)
        for text in ("aaa", "bbb", "ccc"):
            before = len(batches)
            (root / "main.py").write_text(text)
            with anyio.fail_after(10):
                while len(batches) == before:
                    await anyio.sleep(0.01)
            assert root / "main.py" in batches[-1].paths
        group.cancel_scope.cancel()


async def test_a_tree_on_a_silent_file_system_is_polled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devloop.adapters.watch.backend.silent_type", lambda path: "9p")
    async with watching(interest(root)) as ears:
        assert any("9p" in event.message for event in ears.events if isinstance(event, Notice))
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))


async def test_a_folder_that_vanishes_while_arming_does_not_stop_the_rest(root: Path) -> None:
    (root / "gone").mkdir()
    doomed = {root / "gone"}

    def enters(path: Path) -> bool:
        if path in doomed:
            shutil.rmtree(path, ignore_errors=True)  # it vanishes between the listing and the watch
        return True

    async with watching(interest(root, enters=enters)) as ears:
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py") or ears.looks_at_all())


@pytest.mark.alone
async def test_roots_within_roots_keep_what_only_one_of_them_enters(tmp_path: Path) -> None:
    inner = tmp_path / "src" / "web"
    (inner / "docs").mkdir(parents=True)
    whole = interest(tmp_path / "src", service="whole")
    part = interest(inner, service="part", enters=lambda path: path.name != "docs")
    with kernel_limit("max_queued_events", 16):
        async with watching(whole, part) as ears:
            for number in range(100):
                (inner / f"{number}.py").write_text("x")
            await ears.until(lambda: ears.looks_at_all("whole") and ears.looks_at_all("part"))
            await ears.settled()
            (inner / "docs" / "a.md").write_text("x")
            await ears.until(lambda: ears.heard(inner / "docs" / "a.md", "whole"))
            shutil.rmtree(inner)
            (inner / "docs").mkdir(parents=True)
            await ears.settled()
            ears.forget()
            (inner / "docs" / "b.md").write_text("x")
            await ears.until(lambda: ears.heard(inner / "docs" / "b.md", "whole"))


# --- watchfiles, as on macOS ---------------------------------------------------------------------


@pytest.fixture
def as_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devloop.adapters.watch.backend._native", Watchfiles)


@pytest.mark.usefixtures("as_on_macos")
async def test_through_watchfiles_saves_are_delivered_and_cancelling_is_quick(root: Path) -> None:
    async with watching(interest(root)) as ears:
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py"))


@pytest.mark.usefixtures("as_on_macos")
async def test_through_watchfiles_a_broken_watcher_is_made_again(root: Path) -> None:
    """A name that is not UTF-8 makes its every later call fail."""
    async with watching(interest(root)) as ears:
        (root / os.fsdecode(b"caf\xe9.txt")).write_text("x")
        await ears.until(ears.looks_at_all)
        await ears.settled()
        (root / os.fsdecode(b"caf\xe9.txt")).unlink()
        await ears.settled()
        ears.forget()
        (root / "main.py").write_text("two")
        await ears.until(lambda: ears.heard(root / "main.py") or ears.looks_at_all())


@pytest.mark.usefixtures("as_on_macos")
async def test_through_watchfiles_a_root_made_again_is_watched_again(root: Path) -> None:
    async with watching(interest(root)) as ears:
        shutil.rmtree(root)
        await ears.until(ears.looks_at_all)
        await ears.settled()
        root.mkdir()
        await ears.settled()
        ears.forget()
        (root / "main.py").write_text("new")
        await ears.until(lambda: ears.heard(root / "main.py") or ears.looks_at_all())


# --- start and end -------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_cancelling_leaves_no_thread_and_no_descriptor(root: Path) -> None:
    async with watching(interest(root)):
        pass
    before, threads = open_descriptors(), threading.active_count()
    for _ in range(10):
        async with watching(interest(root)) as ears:
            (root / "main.py").write_text("two")
            await ears.until(lambda: bool(ears.changes))
    assert open_descriptors() == before
    assert threading.active_count() <= threads + 2  # idle ones of a pool that all rounds share


async def test_cancelling_in_the_middle_of_arming_ends_the_walk(root: Path) -> None:
    """Hazard A: a thread that does not hear of the cancellation would hold it up to its end."""
    for number in range(50):
        (root / str(number)).mkdir()
    asked = 0

    def slow(path: Path) -> bool:
        nonlocal asked
        asked += 1
        time.sleep(0.02)
        return True

    ears = Ears()
    watcher = Watcher([interest(root, enters=slow)], Clock(), ears.events.append, backend.local_backend())
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run, ears.deliver)
        with anyio.fail_after(5):
            while asked < 3:
                await anyio.sleep(0.005)
        group.cancel_scope.cancel()
    assert asked < 50


async def test_s21_every_write_of_a_long_series_reaches_the_last_change(root: Path) -> None:
    """The newest content is always followed by a delivery."""
    async with watching(interest(root)) as ears:
        for number in range(40):
            (root / "main.py").write_text(str(number))
            await anyio.sleep(0.02)
        last = (root / "main.py").stat().st_mtime
        await ears.settled()
    assert ears.changes[-1][1].seen_at >= last - 0.5
    assert ears.heard(root / "main.py")


def test_the_git_folder_of_a_linked_work_tree_is_found(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    git(tmp_path / "main", "init", "-q")
    git(tmp_path / "main", "commit", "-q", "--allow-empty", "-m", "one")
    git(tmp_path / "main", "worktree", "add", "-q", "../linked")
    assert git_folder(tmp_path / "main") == tmp_path / "main" / ".git"
    assert git_folder(tmp_path / "linked") == tmp_path / "main" / ".git" / "worktrees" / "linked"


@pytest.mark.alone
async def test_a_limit_names_what_to_raise(root: Path) -> None:
    with kernel_limit("max_user_watches", 1):
        limit: Limit | None = None

        async def start(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            nonlocal limit
            limit = await Inotify(WatchRoots({root: everything})).run(
                lambda batch: None, task_status=task_status
            )
            task_status.started()

        async with anyio.create_task_group() as group:
            await group.start(start)
    assert limit is not None
    assert "sysctl fs.inotify.max_user_watches" in limit.remedy
