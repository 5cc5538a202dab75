"""The mutation tool itself: each change is one, it reaches the program that is simulated, and no file
changes."""

from __future__ import annotations

import ast
import importlib
import sys
from importlib.machinery import SourceFileLoader
from types import CodeType

import pytest

from devloop.trip import pace
from tests.simulation import mutants
from tests.simulation.mutants import MODULES, Hook, Mutant, count_of, described, mutated


def test_each_mutant_differs_and_can_be_compiled() -> None:
    source = mutants._path(pace.__name__).read_text()
    plain = ast.unparse(ast.parse(source))
    changed = [ast.unparse(mutated(source, number)) for number in range(count_of(pace.__name__))]
    assert len(changed) > 10
    assert plain not in changed
    for text in changed:
        compile(text, "mutant", "exec")
    first = described(pace.__name__, 0)
    assert first.before != first.after
    assert str(first).startswith("devloop.trip.pace:0 (line ")


def test_all_modules_have_some() -> None:
    assert all(count_of(module) for module in MODULES)


def test_a_module_is_loaded_with_its_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last return of the module becomes None, and what is reached is noted."""
    file = mutants._path(pace.__name__)
    before = file.read_text()
    monkeypatch.setattr(sys, "meta_path", [Hook(Mutant(pace.__name__, 0, 0, "", "")), *sys.meta_path])
    monkeypatch.delitem(sys.modules, pace.__name__)
    loaded = importlib.import_module(pace.__name__)
    assert loaded is not pace
    assert isinstance(loaded.__loader__, SourceFileLoader)
    code = loaded.__loader__.get_code(pace.__name__)
    assert code is not None
    assert code.co_filename == str(file)
    names = {
        name for one in _codes(code) for name in (*one.co_names, *one.co_consts) if isinstance(name, str)
    }
    assert mutants.REACHED in names
    assert file.read_text() == before


def _codes(code: CodeType) -> list[CodeType]:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return [code, *(deeper for one in inner for deeper in _codes(one))]


@pytest.mark.parametrize(
    ("problem", "code", "word"), [("two trips at once", 1, "found by seed 1"), ("", 0, "SURVIVED")]
)
def test_it_reports_what_came_of_a_mutant(
    problem: str, code: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutants, "_day", lambda seed, steps: problem)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert mutants.run_one(f"{pace.__name__}:0", 0.05) == code
    output = capsys.readouterr().out
    assert output.startswith(word)
    assert ("was never reached" in output) == (not problem)
