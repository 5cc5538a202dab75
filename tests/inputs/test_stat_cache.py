"""The stat cache: what is trusted, what is read again, and what survives (S7)."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from devloop.inputs import stat_cache as statcache
from devloop.inputs.stat_cache import StatCache, identity, is_settled


def no_check() -> None:
    pass


def settle(*paths: Path) -> None:
    """Wait until the files are older than a tick, by the clock that the cache looks at."""
    while not all(is_settled(identity(path.stat()), time.time_ns()) for path in paths):
        time.sleep(0.001)


def digest(cache: StatCache, path: Path, *, fresh: bool = False) -> str:
    look = cache.look(os.fspath(path.parent))
    return look.digest(os.fspath(path), path.lstat(), fresh=fresh, check=no_check)[0]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    settle(path)
    return path


def test_s7_an_untouched_file_is_read_once(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "stats.db")
    assert [digest(cache, file) for _ in range(3)] == [sha256("one")] * 3
    assert cache.reads == 1


def test_s7_a_warm_start_reads_nothing(tmp_path: Path, file: Path) -> None:
    first = StatCache(tmp_path / "stats.db")
    digest(first, file)
    first.save()
    second = StatCache(tmp_path / "stats.db")
    assert digest(second, file) == sha256("one")
    assert second.reads == 0


def test_s7_same_size_and_mtime_with_another_ctime_is_read_again(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "stats.db")
    digest(cache, file)
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest(cache, file) == sha256("two")


def test_s7_another_inode_is_read_again(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "stats.db")
    digest(cache, file)
    other = tmp_path / "other"
    other.write_text("two")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert digest(cache, file) == sha256("two")


def test_s7_a_file_written_in_the_tick_of_its_reading_is_read_again(tmp_path: Path, file: Path) -> None:
    """Git's racy rule: with a clock that stands still, a second write in the same tick shows in nothing."""
    stat = file.stat()
    cache = StatCache(tmp_path / "stats.db", now_ns=lambda: stat.st_ctime_ns + 1_000_000)
    assert [digest(cache, file), digest(cache, file)] == [sha256("one")] * 2
    assert cache.reads == 2


def test_s7_whole_second_stamps_need_two_seconds(tmp_path: Path) -> None:
    whole = (1_000_000_000, 1_000_000_000, 1, 1)
    assert not is_settled(whole, 2_500_000_000)
    assert is_settled(whole, 3_100_000_000)


def test_s7_a_path_named_by_an_event_is_always_read(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "stats.db")
    digest(cache, file)
    digest(cache, file, fresh=True)
    assert cache.reads == 2


@pytest.mark.parametrize("rubbish", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_s7_a_corrupt_cache_is_empty_and_reported_once(tmp_path: Path, file: Path, rubbish: bytes) -> None:
    warnings: list[str] = []
    (tmp_path / "stats.db").write_bytes(rubbish)
    cache = StatCache(tmp_path / "stats.db", warn=warnings.append)
    assert digest(cache, file) == sha256("one")
    cache.save()
    assert len(warnings) == 1
    assert "stats.db is unreadable" in warnings[0]
    assert digest(StatCache(tmp_path / "stats.db", warn=warnings.append), file) == sha256("one")
    assert len(warnings) == 1


def test_s7_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, file: Path) -> None:
    warnings: list[str] = []
    (tmp_path / "blocker").write_text("")
    cache = StatCache(tmp_path / "blocker" / "stats.db", warn=warnings.append)
    digest(cache, file)
    cache.save()
    assert len(warnings) == 1


def test_s7_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe")
    path.write_text("x")
    settle(path)
    first = StatCache(tmp_path / "stats.db")
    digest(first, path)
    first.save()
    second = StatCache(tmp_path / "stats.db")
    digest(second, path)
    assert second.reads == 0


def test_a_file_that_grows_while_it_is_read_is_not_remembered(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "stats.db")

    def write_meanwhile() -> None:
        with file.open("a") as opened:
            opened.write("more")

    _, settled = cache.look().digest(os.fspath(file), file.lstat(), fresh=False, check=write_meanwhile)
    assert not settled
    reads = cache.reads
    digest(cache, file)
    assert cache.reads == reads + 1


def rows_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("SELECT count(*) FROM files").fetchone()[0])


def bundles(cache: StatCache, folder: Path, first: int, count: int, *, keep: bool = False) -> None:
    """As a bundler does it: each build writes files of new names, and the old ones go."""
    for number in range(first, first + count):
        path = folder / f"app.{number:08x}.js"
        path.write_text(str(number))
        cache.read(os.fspath(path), no_check)
        if not keep:
            path.unlink()
        cache.save_if_many()


def test_s7_files_that_are_gone_are_forgotten_in_memory_and_on_disk(tmp_path: Path) -> None:
    file, later = tmp_path / "stats.db", time.time_ns() + 10_000_000_000
    (tmp_path / "c").mkdir()
    cache = StatCache(file, now_ns=lambda: later)
    bundles(cache, tmp_path / "c", 0, 50, keep=True)
    bundles(cache, tmp_path / "c", 50, 3500)
    assert len(cache._unsaved) < 1000  # what is not written yet
    cache.save()
    assert rows_of(file) < 1200
    again = StatCache(file, now_ns=lambda: later)
    bundles(again, tmp_path / "c", 10_000, 2500)
    again.save()
    assert rows_of(file) < 1200
    third = StatCache(file, now_ns=lambda: later)
    for number in range(50):  # what is there is still known
        digest(third, tmp_path / "c" / f"app.{number:08x}.js")
    assert third.reads == 0


def test_s7_there_is_a_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statcache, "MOST", 300)
    (tmp_path / "c").mkdir()
    later = time.time_ns() + 10_000_000_000
    cache = StatCache(tmp_path / "stats.db", now_ns=lambda: later)
    bundles(cache, tmp_path / "c", 0, 2000, keep=True)
    cache.save()
    assert rows_of(tmp_path / "stats.db") <= 2 * 300 + 1000
