"""The cause of a crash or a failed build, found in what real runtimes and tools print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devloop.causes.cause import Cause
from devloop.causes.find import excerpt, find_cause, instruction_cause

PRINTED = Path(__file__).parent / "printed"  # "=== " and the cause, then what was printed


def cases() -> list[tuple[str, str, list[str]]]:
    """(language, cause, what was printed)"""
    found = []
    for file in sorted(PRINTED.glob("*.txt")):
        for section in re.split(r"^=== ", file.read_text(), flags=re.M)[1:]:
            cause, _, text = section.partition("\n")
            found.append((file.stem, cause, text.splitlines()))
    return found


@pytest.mark.parametrize(("language", "cause", "lines"), cases())
def test_the_cause_names_what_is_wrong_and_where(language: str, cause: str, lines: list[str]) -> None:
    found = find_cause(lines)
    assert found is not None
    assert str(found) == cause


def test_at_least_twenty_crashes_of_five_languages_name_file_and_line() -> None:
    named = [language for language, cause, _ in cases() if re.search(r"\(\S+, line \d+\)$", cause)]
    assert {"python", "node", "jvm", "go", "ruby"} <= set(named)
    assert len([language for language in named if language != "tools"]) >= 20


@pytest.mark.parametrize(("language", "cause", "lines"), cases())
def test_the_line_of_the_cause_is_in_the_excerpt(language: str, cause: str, lines: list[str]) -> None:
    found = find_cause(lines)
    assert found is not None
    assert lines[found.at] in excerpt(lines, found, 5)


def test_a_crash_after_one_that_was_handled_counts() -> None:
    handled = ["Traceback (most recent call last):", '  File "/app/a.py", line 1, in f', "KeyError: 'x'"]
    last = ["Traceback (most recent call last):", '  File "/app/b.py", line 2, in g', "ValueError: no"]
    assert str(find_cause([*handled, "INFO go on", *last])) == "ValueError: no (b.py, line 2)"


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("",),
        ("INFO: listening on :8080", "INFO: 0 errors"),
        ("npm ERR! code ELIFECYCLE", "npm ERR! errno 1"),
        ("Stopping",),
        ('{"level":"info","msg":"error rate is 0"}',),
        ("[", "{", '{"level": ' + "[" * 10_000),
    ],
)
def test_what_looks_like_no_cause_is_none(lines: tuple[str, ...]) -> None:
    assert find_cause(lines) is None


@pytest.mark.parametrize("piece", ["a ", "at (", "/", ":", "a.b", "from ", "A::", '"', "error ", "\tat a."])
def test_a_line_of_any_length_ends_in_time(piece: str) -> None:
    for length in (1_900, 200_000):
        line = piece * (length // len(piece))
        find_cause([line, "    at x", line])


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            'process "/bin/sh -c npm run   build" did not complete successfully: exit code: 2',
            "RUN npm run build: exit code 2",
        ),
        (
            "executor failed running [/bin/sh -c make && false]: exit code: 1",
            "RUN make && false: exit code 1",
        ),
        ("The command '/bin/sh -c exit 7' returned a non-zero code: 7", "RUN exit 7: exit code 7"),
        ('"/nope.txt": not found\nmore', '"/nope.txt": not found'),
    ],
)
def test_an_instruction_that_printed_nothing_is_its_own_cause(message: str, cause: str) -> None:
    assert instruction_cause(message) == cause


def test_the_excerpt_is_the_end_or_begins_with_the_cause() -> None:
    lines = [str(number) for number in range(50)]
    assert excerpt(lines, None, 3) == ("47", "48", "49")
    assert excerpt(lines, Cause("", 48), 3) == ("47", "48", "49")
    assert excerpt(lines, Cause("", 10), 3) == ("10", "11", "12", "... and 37 more lines")
    assert excerpt(lines[:2], Cause("", 0), 3) == ("0", "1")


def test_a_place_that_the_message_names_is_not_repeated() -> None:
    assert str(Cause("invalid syntax (a.py, line 3)", 0, "/app/a.py", 3)) == "invalid syntax (a.py, line 3)"
    assert str(Cause("a.py:3: no", 0, "a.py", 3)) == "a.py:3: no"
    assert str(Cause("a.py is bad", 0, "a.py", 3)) == "a.py is bad (a.py, line 3)"
    assert str(Cause("no", 0, "/app/a.py")) == "no (a.py)"
