"""Output by a thread: nothing waits for a reader."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TextIO

import pytest

from devloop.sinks import line_writer
from devloop.sinks.line_writer import LineWriter

LOST = "{} lost\n"


def pipe() -> tuple[int, TextIO]:
    reading, writing = os.pipe()
    return reading, open(writing, "w", encoding="utf-8")  # noqa: PTH123


def test_a_full_pipe_holds_up_nobody_and_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MOST", 200_000)
    reading, stream = pipe()
    writer = LineWriter(stream, LOST)
    began = time.monotonic()
    for number in range(5000):
        writer.write(f"{number:099}\n")  # 500 kB: more than a pipe and the memory take
    writer.drain(0.1)
    assert time.monotonic() - began < 5
    found = bytearray()

    def read() -> None:
        while piece := os.read(reading, 1 << 16):
            found.extend(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    writer.drain(10)
    writer.write("last\n")
    writer.drain(10)
    stream.close()
    reader.join(10)
    *lines, last = found.decode().splitlines()
    assert last == "last"
    number = 0
    for line in lines:  # "N lost" stands where the N are missing: once, or more often if the thread is quick
        if line.endswith(" lost"):
            number += int(line.removesuffix(" lost"))
        else:
            assert int(line) == number
            number += 1
    assert number == 5000
    assert any(line.endswith(" lost") for line in lines)


def test_a_closed_stream_or_a_full_disk_takes_nothing_and_raises_nothing() -> None:
    reading, stream = pipe()
    os.close(reading)
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    for one in (stream, full):
        writer = LineWriter(one, LOST)
        writer.write("x\n")
        writer.drain(10)
        writer.write("y\n")
        writer.drain(10)
    stream.close()
    full.close()
    writer = LineWriter(full, LOST)
    writer.write("after it was closed\n")
    writer.drain(10)


def test_it_is_the_stream_for_whoever_asks(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        writer = LineWriter(file, LOST)
        assert (writer.isatty(), writer.fileno(), writer.encoding) == (False, file.fileno(), "ascii")
        writer.write("café\n")
        writer.drain(10)
    assert (tmp_path / "out").read_text() == "caf?\n"
