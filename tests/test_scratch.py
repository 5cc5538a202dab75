"""What a killed devloop left in TMPDIR goes at the next start, and nothing else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devloop import scratch

HOLDING = (
    "import sys\nfrom devloop import scratch\n"
    "with scratch.folder() as folder:\n"
    "    (folder / 'context').mkdir()\n    (folder / 'context' / 'file').write_text('a copy')\n"
    "    print(folder, flush=True)\n    sys.stdin.read()\n"
)
LATER = 10_000_000_000.0


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_s27_a_copy_that_a_killed_devloop_left_is_removed_by_the_next(
    running: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = running
    assert (folder / "context" / "file").exists()
    assert scratch.remove_leftovers(LATER) == 0  # it lives
    assert (folder / "context" / "file").exists()
    process.kill()
    process.wait()
    assert folder.exists()  # nobody cleaned up
    assert scratch.remove_leftovers() == 0  # too young: it may be about to be locked
    assert scratch.remove_leftovers(LATER) == 1
    assert not folder.parent.exists()


def test_one_that_ends_leaves_nothing(running: tuple[subprocess.Popen[str], Path], temporary: Path) -> None:
    process, _ = running
    process.communicate("")
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_what_is_not_devloops_own_stays(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / scratch.LOCK).write_text("")
    elsewhere.chmod(0o700)
    made = []
    for name, mode in (("plain", 0o700), ("open", 0o777)):
        folder = temporary / f"{scratch.PREFIX}{name}"
        folder.mkdir()
        folder.chmod(mode)
        made.append(folder)
    (made[1] / scratch.LOCK).write_text("")  # anybody could have put it there
    fifo = temporary / f"{scratch.PREFIX}fifo"
    fifo.mkdir(mode=0o700)
    os.mkfifo(fifo / scratch.LOCK)
    (temporary / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{scratch.PREFIX}file").write_text("")
    before = sorted(temporary.iterdir())
    assert scratch.remove_leftovers(LATER) == 0
    assert sorted(temporary.iterdir()) == before
    assert (elsewhere / scratch.LOCK).exists()


def test_a_folder_that_somebody_swept_away_is_made_again(temporary: Path) -> None:
    with scratch.folder() as first:
        root = first.parent
    shutil.rmtree(root)
    with scratch.folder() as second:
        assert second.is_dir()
        assert second.stat().st_mode & 0o777 == 0o700
