"""The random builds that go on from a RUN see the bugs that are planted, and none without."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from tests.differential.case import Case
from tests.differential.continued import BUGS, run
from tests.differential.edits import Edit
from tests.differential.server import serving
from tests.support.delta_bench import BASE, make_base

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

# for each bug the end of a Dockerfile that shows it
SHOWN = {
    "an ARG hides an ENV": "ARG V=1\nENV V=2\nCOPY src /app\nRUN echo $V > /v",
    "mounts from other stages": "COPY src /app\nRUN --mount=type=cache,from=seed,source=/c,target=/c ls /c",
}


@pytest.fixture
def server() -> Iterator[str]:
    client = docker.from_env().api
    make_base(client)
    client.close()
    with serving() as address:
        yield address


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_seen(bug: str, server: str) -> None:
    head = f"FROM {BASE} AS seed\nRUN mkdir /c && echo x > /c/x\nFROM {BASE} AS last\n"
    step = (Edit("write", "src/main.py", "1"),)
    case = Case(0, f"{head}{SHOWN[bug]}\n", {"src/main.py": "main\n"}, (step,))
    hunted: dict[str, list[int]] = {bug: []}
    verdict = run(0, case, server, hunted)
    assert not verdict.differences
    assert hunted == {bug: [0]}
