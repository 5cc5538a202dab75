"""Where nobody reads, and how a terminal that is gone ends a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A command that says something every few milliseconds, and does not end by itself if it is `endless`.
TALKS = """
import sys, anyio
from contextlib import ExitStack
from devloop.clock import Clock
from devloop.commands.exit import last_net
from devloop.commands.frame import run
from devloop.commands.output import show
from devloop.config.load import load
from devloop.events import Notice
from devloop.sinks.fan import Fan
from pathlib import Path

endless = sys.argv[1] == "endless"
fan, config = Fan(), load(Path("config.yaml"))

async def work():
    try:
        for number in range(10**6 if endless else 200):
            fan(Notice("", "info", f"line {number}"))
            await anyio.sleep(0.005)
    finally:
        Path("cleaned-up").touch()
    Path("done").touch()

with last_net(), ExitStack() as stack:
    show(stack, fan, config, (), Clock(), log_format="text", machine=False, logs=False, endless=endless)
    run(work)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("version: 1\nservices: {a: {image: a, build: {context: .}}}\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "talks.py").write_text(TALKS)
    return tmp_path


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("TALKS", f"{sys.executable} talks.py")],
        cwd=folder, env=environ(folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def environ(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONPATH": root}


def test_what_never_ends_by_itself_ends_when_nobody_reads_any_more(folder: Path) -> None:
    """`devloop watch | head -1` went on for ever. It ends as by SIGPIPE, cleaned up and without a word."""
    done = shell(folder, "TALKS endless | head -1; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("line 0\n141\n", "")
    assert (folder / "cleaned-up").exists()


def test_what_ends_by_itself_does_its_work_though_nobody_reads(folder: Path) -> None:
    """`devloop once | head -1` leaves no half-done roll out behind."""
    done = shell(folder, "TALKS once | head -1; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("line 0\n0\n", "")
    assert (folder / "done").exists()


def test_a_full_disk_under_the_output_ends_nothing(folder: Path) -> None:
    done = shell(folder, "TALKS once > /dev/full; echo $?")
    assert (folder / "done").exists(), done.stderr


@pytest.mark.parametrize(("ignored", "ends"), [(False, True), (True, False)])
def test_a_terminal_that_is_closed_ends_it_as_ctrl_c_does(folder: Path, ignored: bool, ends: bool) -> None:
    """SIGHUP: cleaned up. Under nohup, which ignores it, nothing ends."""
    # Whoever runs the tests may ignore it.
    prefix = ("nohup",) if ignored else ("env", "--default-signal=HUP")
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            (*prefix, sys.executable, "talks.py", "endless"), cwd=folder, env=environ(folder),
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        _until_it_talks(folder / "out", "line 3\n")
        process.send_signal(signal.SIGHUP)
        if ends:
            assert process.wait(30) == 130
            assert (folder / "cleaned-up").exists()
        else:
            _until_it_talks(folder / "out", "line 90\n")
            assert process.poll() is None
    finally:
        process.kill()
        process.wait(30)


def _until_it_talks(file: Path, line: str) -> None:
    deadline = time.monotonic() + 60
    while line not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.02)
