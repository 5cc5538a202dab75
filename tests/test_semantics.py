"""docs/semantics.md and the tests: each rule is held by a test, and no test names another rule."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rules() -> set[int]:
    return {
        int(number) for number in re.findall(r"\*\*S(\d+)\*\*", (ROOT / "docs" / "semantics.md").read_text())
    }


def numbers_of_tests() -> set[int]:
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= {int(number) for number in re.findall(r"def test_s(\d+)_", file.read_text())}
    return found


def test_every_rule_has_a_test_with_its_number() -> None:
    assert rules() == set(range(1, 40))
    assert sorted(rules() - numbers_of_tests()) == []


def test_no_test_has_the_number_of_a_rule_that_does_not_exist() -> None:
    assert sorted(numbers_of_tests() - rules()) == []
