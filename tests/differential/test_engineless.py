"""Cases that need no engine: lines beside BuildKit's own parser, plans, words and ignore rules beside answers
of Docker's own code that were recorded, and what must hold of a fingerprint whatever is copied.

`python -m tests.differential.engineless` runs as many as one likes, beside Docker's code itself.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from devloop.inputs import snapshot
from devloop.inputs.selection import Selection
from devloop.inputs.snapshot import Tree
from tests.differential import texts
from tests.differential.case import make
from tests.differential.engineless import FEATURES, run
from tests.differential.oracle import Replay
from tests.differential.texts import Found

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

CASES = 120


async def test_s5_random_cases_without_an_engine() -> None:
    """From a seed of the day; `engineless --seed` shows one that differs."""
    first = int(time.time()) // 86_400 * 1000
    counts, bad = await run(range(first, first + CASES), None)
    assert not bad
    assert counts["steps that change what is copied"] > CASES // 4  # or nothing was compared
    assert counts["instructions"] > 5 * CASES


def test_s5_docker_answered_the_same() -> None:
    found, replay = Found(), Replay()
    ask = {"plan": _plan, "expand": _expand, "ignore": _ignore}
    for question in replay.questions:
        ask[question["Kind"]](question, replay, found)
    assert not found.differences
    assert {found.counts[name] > 20 for name in ("plans", "words", "paths of ignore files")} == {True}, (
        found.counts
    )


def _plan(question: dict[str, Any], replay: Replay, found: Found) -> None:
    texts.planned(question["Text"], question["Args"], replay, found)


def _expand(question: dict[str, Any], replay: Replay, found: Found) -> None:
    variables = dict(pair.split("=", 1) for pair in question["Env"])
    texts.expanded(question["Text"], variables, question["Escape"], replay, found)


def _ignore(question: dict[str, Any], replay: Replay, found: Found) -> None:
    texts.ignored(question["Text"], question["Paths"], replay, found)


def test_the_words_of_the_newest_frontend_come_up() -> None:
    cases = [make(seed, "base:1", FEATURES) for seed in range(400)]
    text = "\n".join(case.dockerfile for case in cases)
    for word in (
        "# escape=`", "# syntax", "# check", "ONBUILD", "<<-", "<<'", "type=bind", "type=cache",
        "type=secret",
        "type=ssh", "type=tmpfs", "--link", "--parents", "--exclude", "--chmod", "--chown", "--checksum",
        "--keep-git-dir",
        "--unpack", "--network", "HEALTHCHECK", "STOPSIGNAL", "SHELL", "MAINTAINER", "VOLUME", "EXPOSE",
        "\r\n",
        "--platform", "${A:-", "//", "[^x]",
    ):  # fmt: skip
        assert word in text, word
    assert {edit.operation for case in cases for step in case.steps for edit in step} >= {
        "write", "same", "mtime", "create", "delete", "move", "swap", "chmod", "mkdir", "link", "file",
        "directory", "hard",
    }  # fmt: skip
    assert any(len(step) > 10 for case in cases for step in case.steps)
    assert {"!", "#", "*"} <= {line[:1] for case in cases for line in case.ignored.split("\n")}


def _no_directories(self: Selection, path: str) -> bool:
    return "/" not in path and self.takes(path)


# Seen without an oracle: kept current it differs from a fresh look, or a fingerprint from its inputs.
BUGS = {
    "a mode does not count": (snapshot, "_record", lambda entry: f"{entry.kind} {entry.digest}".encode()),
    "directories do not concern it": (Selection, "concerns", _no_directories),
    "what is gone stays": (Tree, "_at_or_below", lambda self, path: ()),
    "times count": (
        snapshot,
        "_record",
        lambda entry: f"{entry.digest} {entry.mode} {entry.mtime_ns}".encode(),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_bug_is_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    monkeypatch.setattr(*BUGS[bug])
    for first in range(1, 400, 20):
        more, bad = await run(range(first, first + 20), None)
        counts.update(more)
        if bad:
            return
    raise AssertionError(f"not seen in {counts}")
