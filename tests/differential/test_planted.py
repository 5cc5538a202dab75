"""Planted bugs, one for each fault that was found: each must turn a case red, or the cases prove nothing.

`python -m tests.differential --planted` tells which random cases see which bug.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.differential.planted import BUGS, shows
from tests.differential.runner import by_delta, judge, observe
from tests.differential.server import serving
from tests.differential.test_found import FOUND
from tests.support.delta_bench import make_base

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

SEEN = {
    "what a later line writes is taken for the context's": "a later ADD of a URL goes into the directory",
    "names of users are taken for settled": "--chown=NAME and a passwd that was copied",
    "destinations are taken for settled": "a file's destination becomes a link",
    "wildcards in the order of their text": "the last of a wildcard's files is that of a walk",
    "--chmod of setuid files as written": "--chmod and a setuid file",
    "lost mode": "a directory turns up that the base has too",
    "first COPY wins": "the first of a wildcard's files is covered",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    client = docker.from_env().api
    make_base(client)
    client.close()
    with serving() as address:
        yield address


@pytest.mark.parametrize("bug", SEEN)
def test_a_planted_bug_turns_a_case_red(bug: str, server: str, tmp_path: Path) -> None:
    case, _ = FOUND[SEEN[bug]]
    observation = observe(case, tmp_path / "case", server)
    assert not isinstance(observation, str), observation
    try:
        assert not judge(observation, by_delta).differences
        assert shows(BUGS[bug], observation)
    finally:
        observation.close()
