"""The runner behind scripts/test: lanes beside each other, nothing dropped, failures shown whole."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from scripts.suites import Run, Stage, everything, fast, usual
from tests.test_semantics import ROOT, rules


def stage(name: str, program: str, *after: str) -> Stage:
    return Stage(name, (sys.executable, "-c", program), after)


async def test_lanes_run_beside_each_other_and_a_failure_is_shown_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    met = tmp_path / "met"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(met)!r}).exists(): time.sleep(0.01)"
    lines = "print(*range(99), sep='\\n'); raise SystemExit(3)"
    run = Run(tmp_path)
    await run.all(
        [[stage("waits", wait)], [stage("ends it", f"open({str(met)!r}, 'w')"), stage("fails", lines)]]
    )
    assert run.failed == ["fails"]
    assert set(run.seconds) == {"waits", "ends it", "fails"}
    shown = capsys.readouterr().out
    assert "  | 0\n" in shown
    assert "  | 98\n" in shown
    assert re.search(r"fails: FAILED in \d+ s", shown)
    assert (tmp_path / "fails.log").read_text().split() == [str(number) for number in range(99)]


async def test_a_stage_begins_when_what_it_needs_is_over_even_if_it_failed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    slow = f"import time; time.sleep(0.2); open({str(made)!r}, 'w'); raise SystemExit(1)"
    run = Run(tmp_path)
    await run.all([[stage("needs it", f"open({str(made)!r})", "slow")], [stage("slow", slow)]])
    assert run.failed == ["slow"]


def test_all_runs_what_the_usual_command_runs_and_what_one_stage_leaves_out_another_takes() -> None:
    every = {stage.name: stage for lane in everything() for stage in lane}
    for lanes in (fast(), usual()):
        assert {stage.name for lane in lanes for stage in lane} <= set(every)
    words = [word for stage in every.values() for word in stage.command]
    left_out = {words[at + 1] for at, word in enumerate(words) if word == "--ignore"}
    assert left_out == {"tests/contract", "tests/e2e", "tests/test_readme.py"}
    assert {"tests/e2e", "tests/test_readme.py", "scripts/contract"} <= set(words)
    assert not [word for word in words if "not exhaustive" in word]


def test_the_waits_of_stages_make_no_circle() -> None:
    for lanes in (fast(), usual(), everything()):
        before: dict[str, set[str]] = {}
        for lane in lanes:
            for at, one in enumerate(lane):
                before[one.name] = {*one.after, *(earlier.name for earlier in lane[:at])}
        done: set[str] = set()
        while ready := {name for name, needs in before.items() if needs <= done} - done:
            done |= ready
        assert done == set(before)


def test_every_rule_keeps_a_test_that_is_not_exhaustive() -> None:
    held: set[int] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = re.match(r"test_s(\d+)_", node.name)
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if found and "pytest.mark.exhaustive" not in marks:
                    held.add(int(found[1]))
    assert rules() <= held
