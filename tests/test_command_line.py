"""Options of the command line: which of two values counts."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
version: 1
cluster: {context: written}
services:
  app: {image: app, build: {context: app}}
"""


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["--context", "typed", "status"], {"DEVLOOP_CONTEXT": "exported"}, "typed"),
        (["status", "--context", "typed"], {"DEVLOOP_CONTEXT": "exported"}, "typed"),
        (["--context", "first", "status", "--context", "typed"], {}, "typed"),
        (["status"], {"DEVLOOP_CONTEXT": "exported"}, "exported"),
        (["status"], {}, "written"),
    ],
)
def test_an_option_that_was_typed_counts_more_than_the_environment(
    tmp_path: Path, words: list[str], environment: dict[str, str], expected: str
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    ended = subprocess.run(
        [sys.executable, "-m", "devloop.cli", *words, "--kubeconfig", str(tmp_path / "none")],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"context '{expected}'" in ended.stderr


@pytest.mark.parametrize("words", [["schema"], ["check", "--offline"], ["--help"], ["init", "--print"]])
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("stderr", ["", "2>&1"])
def test_a_reader_that_has_seen_enough_is_no_error(
    tmp_path: Path, words: list[str], buffered: bool, stderr: str
) -> None:
    """`devloop check --format json | head -1`: quiet, with the exit code of a command that SIGPIPE ended."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    environment = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "KUBECONFIG": str(tmp_path / "none"),
    }
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, *([] if buffered else ["-u"]), "-m", "devloop.cli", *words],
        cwd=tmp_path,
        env=environment,
        stdout=writing,
        stderr=writing if stderr else subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr or "") == (128 + signal.SIGPIPE, "")


WORDS = [["--help"], ["once", "--help"], ["--version"], ["schema"], ["nothing"], []]
STREAMS = [">/dev/full", ">/dev/full 2>&1", ">&- 2>&-", "2>/dev/full", "| true"]


def each_with_each() -> Iterator[Any]:
    """In every run each command on a full disk, and each state of the streams with help and with none."""
    for streams, words in itertools.product(STREAMS, WORDS):
        usual = streams == ">/dev/full" or words in (["--help"], [])
        yield pytest.param(words, streams, marks=() if usual else pytest.mark.exhaustive)


@pytest.mark.parametrize(("words", "streams"), list(each_with_each()))
def test_no_state_of_the_output_shows_a_traceback(tmp_path: Path, words: list[str], streams: str) -> None:
    command = f"{sys.executable} -m devloop.cli {' '.join(words)} {streams}"
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "Exception ignored" not in ended.stderr + ended.stdout
    assert "internal error" not in ended.stderr + ended.stdout
    if streams == ">/dev/full" and words not in (["nothing"], []):
        assert ended.stderr == "devloop: standard output: No space left on device\n"
        assert ended.returncode == 74
