"""Some random cases with every run of the tests; `python -m tests.differential` runs as many as one likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import docker
import pytest

from tests.differential.__main__ import features_of, run
from tests.differential.case import make
from tests.differential.runner import by_delta, by_loaded_delta
from tests.differential.server import serving
from tests.support.delta_bench import BASE, make_base

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

_SEEDS = range(1, 25)


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[str, frozenset[str]]]:
    client = docker.from_env().api
    make_base(client)
    features = features_of(client)
    client.close()
    with serving() as server:
        yield server, features


def test_s9_random_images_of_devloop_are_those_of_full_builds(engine: tuple[str, frozenset[str]]) -> None:
    server, features = engine
    counts: Counter[str] = Counter()
    for seed in _SEEDS:
        case = make(seed, BASE, features)
        verdict = run(case, server, by_loaded_delta if seed % 8 == 0 else by_delta)
        assert not verdict.differences, f"{case}\n{verdict.differences}"
        counts.update(verdict.counts)
    assert counts["made"] >= 5  # or nothing was compared


def test_a_seed_gives_the_same_case_again() -> None:
    for features in (frozenset[str](), frozenset({"heredoc", "link"})):
        cases = [str(make(seed, BASE, features)) for seed in range(50)]
        assert cases == [str(make(seed, BASE, features)) for seed in range(50)]
        assert len(set(cases)) == 50


def test_the_shapes_of_the_fault_reports_come_up() -> None:
    """Heredocs, URLs, names of users, wildcards, flags in capitals, variables, stages, mounts."""
    every = [make(seed, BASE, frozenset({"heredoc", "link", "parents", "exclude"})) for seed in range(600)]
    text = "\n".join(case.dockerfile for case in every)
    for word in (
        "<<EOF", "<<-two", "ADD {server}", "--chown=svc", "--chmod=4711", "--link=TRUE", "--parents=True",
        "--exclude", "*/x.txt", "src/dirlink/*", "${TO:-/app}", "FROM made", "ONBUILD COPY", "type=cache",
        "type=tmpfs", "type=bind", "WORKDIR /app/", "USER svc", "COPY --from=made", "# in between", '["',
        "/lnk",
    ):  # fmt: skip
        assert word in text, word
    edits = {edit.operation for case in every for step in case.steps for edit in step}
    assert edits >= {
        "write",
        "create",
        "delete",
        "move",
        "swap",
        "chmod",
        "mkdir",
        "link",
        "file",
        "directory",
    }
    assert edits >= {"hard", "user"}
