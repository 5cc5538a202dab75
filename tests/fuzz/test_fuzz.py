"""The fuzzers themselves: they run for a time, count, and say what they found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.__main__ import run
from tests.fuzz.words import cases

HERE = Path(__file__).parent


@cases(50)
@given(st.integers(0, 99))
def wrong_from_90(number: int) -> None:
    assert number < 90


@cases(50)
@given(st.integers(0, 99))
def right(number: int) -> None:
    assert number < 100


def test_one_that_finds_something_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not run("planted", [wrong_from_90], 60.0, 1)
    output = capsys.readouterr().out
    assert "--- planted: wrong_from_90" in output
    assert "number=90" in output
    assert "1 found something" in output
    assert run("sound", [right], 0.2, 1)
    assert ", 0 found something" in capsys.readouterr().out


def test_it_runs_for_a_time_and_counts() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "1", "--seed", "5", "dockerfile"]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("dockerfile: seeds 5 to ")
    assert done.stdout.rstrip().endswith(" 0 found something")
