"""The journal: whole lines, rotated, surviving a crash and a full disk, without secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from devloop.clock import Clock
from devloop.errors import BuildError
from devloop.events import Notice, Output, PodExited, PodLog
from devloop.sinks.journal import FILE_NAME, Journal
from tests.support.trips import failed_trip, live_trip


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def test_s27_events_are_json_lines_in_the_state_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "devloop"
    with Journal(folder, Clock()) as journal:
        outcome = live_trip(journal, Clock())
    written = lines(folder)
    ended = next(line for line in written if line["event"] == "trip_ended")
    assert ended["outcome"] == "live"
    assert ended["seconds"] == {
        "before_build": None,
        "sync": None,
        "depends_on": None,
        **outcome.timing.seconds(),
    }
    assert all("time" in line for line in written)
    assert (folder / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_s27_it_is_rotated(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock(), largest=5000) as journal:
        for number in range(200):
            journal(Notice("", "info", f"notice {number}"))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [FILE_NAME, f"{FILE_NAME}.1"]
    assert all((tmp_path / name).stat().st_size <= 5000 for name in files)
    assert lines(tmp_path)[-1]["message"] == "notice 199"


def test_s30_nothing_that_builds_or_containers_print(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock()) as journal:
        failed_trip(journal, Clock(), error=BuildError("no", evidence=("printed as evidence",)))
        journal(PodExited("backend", "pod", "app", 1, "Error", ("printed before it died",)))
        journal(Output("backend", "build", "printed by a build"))
        journal(PodLog("backend", "pod", "app", "printed by a pod"))
    text = (tmp_path / FILE_NAME).read_text()
    assert "printed" not in text


def test_a_line_that_a_crash_cut_short_stays_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'{"time": 1, "ev')
    with Journal(tmp_path, Clock()) as journal:
        journal(Notice("", "info", "after the crash"))
    cut, whole = (tmp_path / FILE_NAME).read_bytes().splitlines()
    assert cut == b'{"time": 1, "ev'
    assert json.loads(whole)["message"] == "after the crash"


def test_kill_9_leaves_whole_lines(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from devloop.events import Notice\n"
        "from devloop.clock import Clock\nfrom devloop.sinks.journal import Journal\n"
        "with Journal(Path(sys.argv[1]), Clock()) as journal:\n"
        "    while True:\n        journal(Notice('', 'info', 'x' * 500))\n        print('.', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(50):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    *whole, _ = (tmp_path / FILE_NAME).read_bytes().split(b"\n")  # the kernel may cut the last write
    assert [json.loads(line)["message"] for line in whole] == ["x" * 500] * len(whole)
    assert len(whole) >= 50
    with Journal(tmp_path, Clock()) as journal:
        journal(Notice("", "info", "after"))
    assert json.loads((tmp_path / FILE_NAME).read_bytes().splitlines()[-1])["message"] == "after"


def test_a_full_disk_stops_the_journal_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to("/dev/full")
    with Journal(tmp_path, Clock()) as journal:
        journal(Notice("", "info", "x"))
        assert journal.trouble is not None
        assert journal.trouble.errno == 28
        journal(Notice("", "info", "y"))


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    with Journal(tmp_path, Clock()) as journal:
        live_trip(journal, Clock(), paths=frozenset({tmp_path / os.fsdecode(b"caf\xe9")}))
    assert any("caf" in str(line) for line in lines(tmp_path))
