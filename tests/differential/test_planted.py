"""Planted bugs, one for each fault that was found: each must turn a case red, or the cases prove nothing.

`python -m tests.differential --planted` reports which random cases see which bug.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from devloop.delta.eligibility import check_copy
from devloop.delta.placement import NotProvenError
from devloop.dockerfile.parser import Dockerfile
from devloop.dockerfile.plan import Copy
from devloop.dockerfile.planner import plan
from tests.differential.directed import DIRECTED
from tests.differential.planted import BUGS, FLAG_BUGS, planted, shows
from tests.differential.runner import by_delta, judge, observe
from tests.differential.server import serving
from tests.support.delta_bench import make_base

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

# A second look of devloop's own stops this one: a full build then, and no wrong image.
STOPPED = {"destination's link not followed": {"full build: ModelDiffers": 1}}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    client = docker.from_env().api
    make_base(client)
    client.close()
    with serving() as address:
        yield address


def test_every_planted_bug_has_its_case() -> None:
    assert set(DIRECTED) == set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_turns_a_case_red(bug: str, server: str, tmp_path: Path) -> None:
    observation = observe(DIRECTED[bug], tmp_path / "case", server)
    assert not isinstance(observation, str), observation
    try:
        healthy = judge(observation, by_delta)
        assert not healthy.differences
        if bug in STOPPED:
            assert healthy.counts == {"made": 1}
            with planted(BUGS[bug]):
                assert judge(observation, by_delta).counts == STOPPED[bug]
        else:
            assert shows(BUGS[bug], observation)
    finally:
        observation.close()


@pytest.mark.parametrize("flag", ["--link=TRUE", "--parents=True"])
def test_a_flag_that_is_read_in_small_letters_only_is_seen(flag: str) -> None:
    """Docker 20.10 knows neither flag and 26.1 copies for --link as without it, so no image shows this bug
    there: what shows it is that the line is no longer refused."""
    (bug,) = FLAG_BUGS.values()
    assert refusal(flag) == "Flag"
    with planted(bug):
        assert refusal(flag) == ""


def refusal(flag: str) -> str:
    dockerfile = Dockerfile.parse(f"FROM scratch\nCOPY {flag} src /app\n")
    planned = plan(dockerfile, target=None, args={}, platform="linux/amd64", bases=())
    (step,) = next(iter(planned.stages.values())).steps
    assert isinstance(step, Copy)
    try:
        check_copy(step)
    except NotProvenError as problem:
        return problem.reason
    return ""
