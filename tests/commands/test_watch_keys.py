"""Every key of `watch`, typed on a real pseudo-terminal, which in the end is as it was before."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devloop.commands.watch_keys import HELP, bottom_line, lines_of
from devloop.control.actions import Result
from tests.support.emulator import Emulator
from tests.support.terminal_program import CAUSE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds
ECHO_AND_LINES = termios.ECHO | termios.ICANON


class Session:
    """A program that has a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], controller: int, emulator: Emulator) -> None:
        self.process, self._controller, self.emulator = process, controller, emulator
        self.raw = ""

    def type(self, keys: str) -> None:
        os.write(self._controller, keys.encode())

    def read(self) -> None:
        try:
            while select.select([self._controller], [], [], 0.05)[0]:
                text = os.read(self._controller, 65536).decode("utf-8", "replace")
                self.raw += text
                self.emulator.feed(text)
        except OSError:
            pass  # nobody has the other end open any more

    def until(self, what: str, met: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < end, "\n".join((f"not {what}:", *self.emulator.history[-60:]))
            self.read()

    def shows(self, text: str) -> None:
        self.until(f"shown: {text}", lambda: any(text in row for row in self.emulator.screen))

    def resize(self, columns: int, lines: int) -> None:
        self.emulator.resize(columns, lines)
        set_size(self._controller, columns, lines)

    @property
    def flags(self) -> int:
        """ECHO and ICANON of the terminal, as they are now."""
        return int(termios.tcgetattr(self._controller)[3]) & ECHO_AND_LINES

    @property
    def rows(self) -> list[str]:
        """From the first living line on."""
        screen = self.emulator.screen
        first = next((n for n, row in enumerate(screen) if re.match(r"[●⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] ", row)), len(screen))
        return screen[first:]


def set_size(fd: int, columns: int, lines: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def running(
    *words: str, columns: int = 100, lines: int = 30, environ: dict[str, str] | None = None
) -> Iterator[Session]:
    controller, terminal = pty.openpty()
    set_size(terminal, columns, lines)
    environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.terminal_program", *words],
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", **(environ or {})},
        preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(terminal)
    session = Session(process, controller, Emulator(columns, lines))
    try:
        yield session
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def one() -> Iterator[Session]:
    """A watch of one service, which is live."""
    with running("1") as session:
        session.shows("● backend live in")
        session.shows("q quit")
        yield session


@pytest.fixture
def three() -> Iterator[Session]:
    with running("3") as session:
        session.shows("● backend    live in")
        session.shows("q quit")
        yield session


def test_r_rebuilds_the_one_service_without_a_question(one: Session) -> None:
    one.type("r")
    one.shows("backend: rebuilding")
    one.shows("| rebuild")


def test_r_asks_which_of_several_and_tab_completes(three: Session) -> None:
    three.type("r")
    three.shows("rebuild: ▏  Enter: all, Esc: back, Tab: backend, service-01, service-02")
    three.type("serv\t\t")
    three.shows("rebuild: service-02▏")
    three.type("\r")
    three.shows("service-02: rebuilding")
    three.type("r\r")
    three.shows("backend, service-01, service-02: rebuilding")


def test_a_name_that_is_none_asks_again_and_esc_gives_up(three: Session) -> None:
    three.type("rnope\r")
    three.shows("no such service")
    three.type("\x1b")
    three.shows("q quit")
    assert not any("rebuilding" in row for row in three.emulator.history)


def test_shift_r_restarts(one: Session) -> None:
    one.type("R")
    one.shows("backend: restarting")
    one.shows("| restart")


def test_p_pauses_and_p_again_resumes(three: Session) -> None:
    three.type("pbackend\r")
    three.shows("backend: paused")
    three.shows("● backend    paused")
    three.type("pbackend\r")
    three.shows("backend: resumed")
    three.shows("● backend    live")


def test_l_shows_the_logs_of_one_of_none_and_of_all(three: Session) -> None:
    three.shows("service-01 says")
    three.type("lbackend\r")
    three.shows("l logs: backend")
    three.until("none of the others", lambda: only(three, "says", "backend says"))
    three.type("l-\rc")
    three.shows("l logs: -")
    three.until("no logs", lambda: not any("says" in row for row in three.emulator.screen))
    three.type("l\r")
    three.shows("service-01 says")


def only(session: Session, text: str, wanted: str) -> bool:
    """Of the last lines with the one text, each has the other too."""
    lines = [row for row in session.emulator.history if text in row][-5:]
    return len(lines) == 5 and all(wanted in row for row in lines)


def test_f_filters_the_logs(three: Session) -> None:
    three.type("fVICE-02 S\r")
    three.shows("f filter: VICE-02 S")
    three.until("only that", lambda: only(three, "says", "service-02 says"))
    three.type("f\r")
    three.until("all again", lambda: not only(three, "says", "service-02 says"))


def test_o_opens_the_url_and_without_a_desktop_shows_it(one: Session, tmp_path: Path) -> None:
    one.type("o")
    one.shows("no browser here: http://127.0.0.1:30080")
    opened = tmp_path / "opened"
    browser = tmp_path / "xdg-open"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with running("1", environ={"DISPLAY": ":0", "PATH": path}) as session:
        session.shows("● backend live in")
        session.type("o")
        session.until("opened", opened.exists)
        session.shows("opening http://127.0.0.1:30080")
        assert opened.read_text() == "http://127.0.0.1:30080\n"


def test_d_shows_the_last_failure_whole(one: Session) -> None:
    one.type("d")
    one.shows("nothing has failed")
    with running("1", "fails", columns=140) as session:
        session.shows(f"● backend failed: {CAUSE}")
        session.type("l-\rc")
        session.until("cleared", lambda: not any("FAILED" in row for row in session.emulator.screen))
        session.type("d")
        session.shows("FAILED in build after")
        session.shows("|   | src/index.ts(3,7)")


def test_c_clears_the_screen_and_the_rows_stay(three: Session) -> None:
    three.shows("backend says")
    three.type("l-\rc")
    three.until("only the rows", lambda: len(three.emulator.screen) == 4)
    assert three.emulator.screen[0].startswith("● backend    live in")


def test_question_mark_lists_every_key(one: Session) -> None:
    one.type("l-\rc?")
    for key, _, text in HELP:
        one.shows(f"{key}  {text}")


def test_q_ends_it_well(one: Session) -> None:
    one.type("q")
    one.until("ended", lambda: one.process.poll() is not None)
    one.read()
    assert one.process.returncode == 0
    assert "ended well" in one.raw


def test_what_is_typed_is_not_echoed_and_sequences_are_no_keys(one: Session) -> None:
    one.type("xyz\x1b[A\x1b[15~\x1bOP\x1b[?62;c")
    one.type("?")
    one.shows("q  end devloop watch")
    shown = "\n".join(one.emulator.history)
    assert "xyz" not in shown
    assert "rebuilding" not in shown
    assert one.process.poll() is None


@pytest.mark.parametrize("ending", ["ctrl-c", "term", "hup", "q"])
def test_the_terminal_is_as_it_was_before_in_the_end(one: Session, ending: str) -> None:
    assert one.flags == 0
    if ending in ("ctrl-c", "q"):
        one.type("\x03" if ending == "ctrl-c" else "q")
    else:
        one.process.send_signal(signal.SIGTERM if ending == "term" else signal.SIGHUP)
    one.until("ended", lambda: one.process.poll() is not None)
    assert one.flags == ECHO_AND_LINES
    one.read()
    assert one.emulator.cursor


def test_a_crash_gives_the_terminal_back(tmp_path: Path) -> None:
    program = (
        "import sys, devloop.sinks.region as region\n"
        "def broken(*_, **__): raise RuntimeError('planted')\n"
        "import tests.support.terminal_program as program\n"
        "program._speak = broken\n"
        "from functools import partial\n"
        "from devloop.commands.frame import run\n"
        "run(partial(program.main, 1, False))\n"
    )
    file = tmp_path / "crash.py"
    file.write_text(program)
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(controller)
    done = subprocess.run(
        [sys.executable, str(file)], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}, preexec_fn=take_terminal, timeout=60,
    )  # fmt: skip
    after = termios.tcgetattr(controller)
    os.close(terminal)
    os.close(controller)
    assert b"planted" in done.stderr
    assert before[3] == after[3]


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(one: Session) -> None:
    one.type("\x1a")
    one.until("stopped", lambda: is_stopped(one.process.pid))
    assert one.flags == ECHO_AND_LINES
    one.read()
    assert one.emulator.cursor
    one.process.send_signal(signal.SIGCONT)
    one.until("keys again", lambda: one.flags == 0)
    one.type("?")
    one.shows("q  end devloop watch")


def is_stopped(pid: int) -> bool:
    return "State:\tT" in Path(f"/proc/{pid}/status").read_text()


def test_without_a_keyboard_there_are_rows_and_no_keys() -> None:
    controller, terminal = pty.openpty()
    set_size(terminal, 100, 30)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.terminal_program", "1"],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    session = Session(process, controller, Emulator(100, 30))
    try:
        session.shows("● backend live in")
        assert "q quit" not in session.raw
    finally:
        process.kill()
        process.wait()
        os.close(controller)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (40, 10)])
@pytest.mark.parametrize("count", [3, 60])
def test_the_screen_fits_whatever_its_size_and_however_many_services(
    columns: int, lines: int, count: int
) -> None:
    with running(str(count), columns=columns, lines=lines) as session:
        session.shows("q quit")
        session.until("all live", lambda: "at work" not in "".join(session.rows) and len(session.rows) > 3)
        session.shows("backend says")
        rows = session.rows
        assert len(rows) <= max(lines // 2 + 2, 6)
        assert rows[-1].endswith("q quit")
        assert all(len(row) < columns for row in rows)
        if count == 60:
            session.until("counted", lambda: re.search(r"^  \d+ more: \d+ live$", session.rows[-2]))


@pytest.mark.parametrize("count", ["3", "60"])
def test_another_size_leaves_nothing_of_the_old_rows(count: str) -> None:
    with running(count, columns=120, lines=30) as session:
        session.shows("q quit")
        session.until("live", lambda: any("live in" in row for row in session.rows))
        session.type("l-\r")
        session.shows("l logs: -")
        for columns, lines in ((60, 24), (150, 40), (80, 20)):
            session.resize(columns, lines)
            session.until(
                f"drawn at {columns}",
                lambda columns=columns: (
                    session.rows  # type: ignore[misc]
                    and session.rows[-1].endswith("q quit")
                    and len([row for row in session.emulator.screen if row.endswith("q quit")]) == 1
                    and len([row for row in session.emulator.screen if row.startswith("● backend")]) == 1
                    and all(len(row) < columns for row in session.rows)
                ),
            )


def test_what_failed_stands_before_what_is_live_and_the_rest_is_counted() -> None:
    with running("60", "fails", columns=100, lines=24) as session:
        session.until("failed first", lambda: session.rows and "failed: TS2322" in session.rows[0])
        session.until("counted", lambda: re.search(r"more: \d+ live", session.rows[-2]))


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
def test_the_bottom_line_fits_and_always_has_help_and_quit(columns: int) -> None:
    text = bottom_line(columns).plain
    assert text.endswith("? help q quit")
    assert len(text) < columns or columns < 60
    assert ("c clear" in text) is (columns >= 100)


def test_alike_results_are_one_line() -> None:
    results = [Result(f"s{number}", True, "rebuilding") for number in range(60)]
    results[3] = Result("s3", False, "is paused", "devloop resume s3")
    assert [line.text for line in lines_of(results)] == [
        "s0, s1, s2 and 56 more: rebuilding", "s3: is paused",
    ]  # fmt: skip
    assert [line.text for line in lines_of(results[3:4])] == ["s3: is paused", "-> devloop resume s3"]
