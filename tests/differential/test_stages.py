"""The random deltas of what stages bring see the bugs that are planted, and none without."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from tests.differential.case import Case
from tests.differential.continued import run
from tests.differential.edits import Edit
from tests.differential.server import serving
from tests.differential.stages import BUGS, judged
from tests.support.delta_bench import BASE, make_base

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

MADE = f"FROM {BASE} AS b\nCOPY src /s\nRUN cp -a /s /out && chown -R 7:8 /out\nFROM {BASE}\n"
# for each bug the end of a Dockerfile that shows it
SHOWN = {
    "what is gone stays": "COPY --from=b /out /app",
    "the owners of the stage are lost": "COPY --from=b /out /app",
    "the times of the stage are lost": "COPY --from=b /out /app",
    "a RUN that sees it is not seen": "COPY --from=b /out /app\nRUN cat /app/main.py > /m\n"
    "COPY --from=b /out /b",
    "what was brought last is not known": "COPY --from=b /out /app",
    "what a later line writes is taken for the context's": "COPY --from=b /out /app\nCOPY --from=s /c /app",
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
    head = f"FROM {BASE} AS s\nRUN mkdir /c && echo four > /c/main.py && chown 7:8 /c/main.py\n{MADE}"
    step = (Edit("write", "src/main.py", "1"), Edit("delete", "src/gone"))
    tree: dict[str, str | None] = {"src/main.py": "main\n", "src/gone": "gone\n"}
    case = Case(0, f"{head}{SHOWN[bug]}\n", tree, (step,))
    hunted: dict[str, list[int]] = {bug: []}
    verdict = run(0, case, server, hunted, judged, BUGS)
    assert not verdict.differences
    assert hunted == {bug: [0]}
