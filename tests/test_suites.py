"""The runner behind scripts/test: stages beside each other, nothing dropped, failures shown whole."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest

from scripts.suites import END_TO_END, IMAGES, Run, Stage, everything, fast, usual
from tests.test_semantics import ROOT, rules


def stage(name: str, program: str, *after: str) -> Stage:
    return Stage(name, (sys.executable, "-c", program), after)


async def test_stages_run_beside_each_other_and_a_failure_is_shown_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    met = tmp_path / "met"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(met)!r}).exists(): time.sleep(0.01)"
    lines = "print(*range(99), sep='\\n'); raise SystemExit(3)"
    run = Run(tmp_path)
    ends_it = f"open({str(met)!r}, 'w')"
    await run.all([stage("waits", wait), stage("ends it", ends_it), stage("fails", lines, "ends it")])
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
    await run.all([stage("needs it", f"open({str(made)!r})", "slow"), stage("slow", slow)])
    assert run.failed == ["slow"]


async def test_no_more_run_beside_each_other_than_asked_and_a_free_place_takes_the_next(
    tmp_path: Path,
) -> None:
    """Each notes how many run with it; the third begins while the first still waits for it."""
    here = f"import pathlib, time\nhere = pathlib.Path({str(tmp_path)!r})\n"
    note = "(here / {0!r}).touch(); assert len(list(here.glob('runs-*'))) <= 2\n"
    wait = "while not (here / 'third').exists(): time.sleep(0.01)\n"
    gone = "(here / {0!r}).unlink()"
    run = Run(tmp_path / "logs")
    run.logs.mkdir()
    first, second, third = (
        stage(name, here + (note + more + gone).format(f"runs-{name}"))
        for name, more in (("1", wait), ("2", ""), ("3", "(here / 'third').touch()\n"))
    )
    await run.all([first, second, third], beside=2)
    assert run.failed == []
    assert next(iter(run.seconds)) == "2"


async def test_stages_that_wait_for_each_other_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never ready: one, two"):
        await Run(tmp_path).all([stage("one", "", "two"), stage("two", "", "one")])


def test_what_runs_images_begins_when_the_base_images_are_there() -> None:
    """On a machine that has none yet, they take longer than all that may begin beside them."""
    needs_none = {
        "unit tests that run alone",
        "unit tests",
        "fuzzers",
        "simulation",
        "contract suite",
        "checks",
    }
    for one in everything():
        begins_later = "base images" in one.after
        assert begins_later == (one.name not in {*needs_none, "base images"}), one.name


def test_all_runs_what_the_usual_command_runs_and_what_one_stage_leaves_out_another_takes() -> None:
    every = {stage.name: stage for stage in everything()}
    for stages in (fast(), usual()):
        assert {stage.name for stage in stages} <= set(every)
    left_out, taken = set[str](), set[str]()
    for one in every.values():
        for before, word in itertools.pairwise(one.command):
            (left_out if before == "--ignore" else taken).add(word)
            assert "not exhaustive" not in word
    assert left_out == {"tests/contract", *END_TO_END, *IMAGES}
    assert taken >= {"sandbox", *END_TO_END, *IMAGES}  # the contract suite's own command, and theirs
    assert all((ROOT / path).exists() for path in left_out)


@pytest.mark.parametrize("stages", [fast(), usual(), everything()], ids=["fast", "usual", "everything"])
def test_every_stage_is_ready_once(stages: list[Stage]) -> None:
    names = {stage.name for stage in stages}
    assert len(names) == len(stages)
    done: set[str] = set()
    while ready := {stage.name for stage in stages if done >= set(stage.after)} - done:
        done |= ready
    assert done == names


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
