# ruff: noqa: E501 - tables of words
"""Ignore files: rules, or an error with the line of the pattern; and rules answer for every path, in time."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from devloop.dockerfile.dockerignore import IgnoreRules
from devloop.dockerfile.go_regexp import BadPatternError, UnsureError, compile_go
from tests.fuzz.words import bounded, cases, damaged, well

SOUND = (
    "# a comment\n*\n!src\n!src/**/*.py\n**/node_modules\n/build/\n",
    "\ufeff.git\n*.md\n!README.md\nsrc/[a-z]*.txt\nsrc/?x\n\\#x\n  spaced  \n..\na//b/../c\n",
    "**\n!**/*.go\nvendor/**\n[^a]\n",
)
WORDS = (
    "*", "**", "***", "**/", "/**", "?", "[", "]", "[^", "[!", "[]", "[a-", "[z-a]", "[[:alpha:]]", "[:", "\\", "\\\\",
    "\\d", "\\x", "\\Q", "\\pL", "!", "!!", "#", "/", "//", "..", ".", "\n", "\r\n", "\r", "\x00", " ", "\t", "{", "}",
    "{2}", "{1001}", "{3,1}", "(", ")", "(?", "(?i)", "|", "+", "++", "^", "$", "a", "é", "\ud7ff", "\ufeff", "*" * 50,
    "*a" * 30, "(" * 300, "[a]" * 20, "**/" * 60, "a" * 500,
)  # fmt: skip
PATHS = (
    "",
    "a",
    "src/x.py",
    "a/b/c/d",
    "a" * 200,
    "é",
    "a b",
    "a\nb",
    "[x]",
    "a/" * 100 + "b",
    "a" * 40 + "b",
)


def _asked(text: str) -> None:
    rules = IgnoreRules.parse(text, "web/.dockerignore")
    for path in PATHS:
        answers = (
            rules.matches(path), rules.leaves_out(path), rules.may_descend(path),
            rules.disputed(path),
        )  # fmt: skip
        assert all(isinstance(answer, bool) for answer in answers)


@cases(30)
@given(damaged(SOUND, WORDS))
@example("*a" * 30 + "\n")
@example("(a*)*b\n")
@example("**/" * 40 + "x\n")
@example("*" + "a*" * 100 + "\n")
def test_damaged_ignore_files(text: str) -> None:
    well(lambda: _asked(text), "web/.dockerignore")


@cases(30)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map("".join))
def test_ignore_files_of_words(text: str) -> None:
    well(lambda: _asked(text), "web/.dockerignore")


PIECES = (
    "a",
    "b",
    "/",
    ".",
    "[ab]",
    "[^/]*",
    "[^/]",
    ".*",
    "(.*/)?",
    "a?",
    "b+",
    "a{2}",
    "b{0,2}",
    "a{1,}",
    "^",
    "$",
    "|",
    "(",
    ")",
    "\\.",
    "\\b",
)


@cases(150)
@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), st.text("ab/.\n", max_size=9))
def test_the_tree_of_an_expression_matches_what_pythons_engine_matches(expression: str, path: str) -> None:
    try:
        found = compile_go(expression)
    except (BadPatternError, UnsureError):
        return
    with bounded():
        everywhere = frozenset(range(len(path) + 1))
        assert bool(found.tree.ends(path, everywhere)) == (found.quick.search(path) is not None)
        assert found.found_in(path) == (found.quick.search(path) is not None)
