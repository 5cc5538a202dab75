"""What lies in the state directory is its owner's alone (S30), and whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devloop import state_file
from devloop.adapters.delta.parent_files import ParentFiles
from devloop.adapters.docker.blob_index import Blobs
from devloop.clock import Clock
from devloop.delta.delta import Parent
from devloop.delta.layer_index import Layer, Layers
from devloop.events import Notice, TripEnded
from devloop.inputs import rebuild_salt
from devloop.inputs.stat_cache import StatCache
from devloop.model import Timing, Unchanged
from devloop.sinks.journal import Journal
from devloop.sinks.live_images import History
from tests.support.trips import FINGERPRINT


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _history(state: Path) -> None:
    History(state / "lived.json")(TripEnded("a", 1, 0.0, Unchanged(FINGERPRINT, "a:1", Timing(0.0, 1.0, ()))))


def _journal(state: Path) -> None:
    with Journal(state, Clock()) as journal:
        journal(Notice("", "info", "x"))


def _cache(state: Path) -> None:
    cache = StatCache(state / "stat.sqlite", now_ns=lambda: time.time_ns() + 10_000_000_000)
    file = state.parent / "read.txt"
    file.write_text("x")
    cache.read(str(file), lambda: None)
    cache.save()


def _parents(state: Path) -> None:
    digest = f"sha256:{64 * 'a'}"
    ParentFiles(state / "parents").write("a", "f", Parent("r", b"{}", (digest,), Layers((Layer({}, ()),)), 1))


def _rebuild_salt(state: Path) -> None:
    rebuild_salt.RebuildSalts(state).renew(["a"], "x")


def _blobs(state: Path) -> None:
    Blobs(state / "blobs.json").name("a", "b")


WRITERS = [_history, _journal, _cache, _parents, _rebuild_salt, _blobs]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_s30_what_is_written_is_private_whatever_the_umask(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    write(state)
    made = [path for path in state.rglob("*") if path.is_file()]
    assert made
    for path in made:
        assert path.stat().st_mode & 0o777 == 0o600, path
        path.chmod(0o666)
    for folder in (state, *filter(Path.is_dir, state.rglob("*"))):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    write(state)  # over one of another mode; the journal looks at its folder when it is opened
    state_file.make_private(state)
    for path in (state, *state.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_s30_a_folder_that_was_open_is_closed_and_links_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    state = tmp_path / "state"
    (state / "parents").mkdir(parents=True, mode=0o755)
    (state / "parents" / "a.json").write_text("{}")
    (state / "link").symlink_to(outside)
    state_file.make_private(state)
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "parents").stat().st_mode & 0o777 == 0o700
    assert (state / "parents" / "a.json").stat().st_mode & 0o777 == 0o600
    assert outside.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    state_file.write(file, b"before")
    (tmp_path / "a.new").mkdir()
    with pytest.raises(OSError):
        state_file.write(file, b"after")
    assert file.read_bytes() == b"before"
    (tmp_path / "a.new").rmdir()
    (tmp_path / "a.new").symlink_to(tmp_path / "elsewhere")  # is not written through
    state_file.write(file, json.dumps([1]).encode())
    assert file.read_bytes() == b"[1]"
    assert not (tmp_path / "elsewhere").exists()
