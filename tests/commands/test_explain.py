from __future__ import annotations

from dataclasses import replace

import pytest

from devloop.commands.explain import Group, lines
from devloop.delta.delta import NotProven
from tests.support.fakes import SERVICE

GROUPS = (
    Group(("a.py", "b.py"), None),
    Group(("package.json",), NotProven("RunAfter", "RUN npm ci reads it", line=4), goes_on=True),
    Group(("Dockerfile",), NotProven("RecipeChanged", "it says how the image is made")),
)


def test_the_answer_counts_what_each_edit_costs_and_names_the_line_that_stops_a_delta() -> None:
    first, *rest = lines(SERVICE, GROUPS)
    assert first == (
        "backend: an edit of 2 of 4 files is a delta, of 1 a build of the RUNs alone, of the others a full"
        " build"
    )
    assert rest[0].split() == ["delta", "a.py,", "b.py"]
    assert any("Dockerfile:4: RUN npm ci reads it (RunAfter)" in line for line in rest)


@pytest.mark.parametrize(
    ("update", "targets", "shown"), [("roll", 1, False), ("in-place", 1, True), ("in-place", 0, False)]
)
def test_an_update_in_place_is_mentioned_where_there_are_pods(update: str, targets: int, shown: bool) -> None:
    service = replace(SERVICE, update=update, targets=SERVICE.targets[:targets])
    assert ("its pods are updated in place" in lines(service, GROUPS)[0]) is shown


@pytest.mark.parametrize(
    ("reload", "targets", "synced"), [("none", 1, True), ("restart", 1, False), ("none", 0, False)]
)
def test_s36_each_file_is_shown_with_how_it_gets_into_the_pods(
    reload: str, targets: int, synced: bool
) -> None:
    service = replace(SERVICE, update="sync", reload=reload, targets=SERVICE.targets[:targets])
    first, delta, *others = lines(service, GROUPS)
    assert delta.split() == ["sync" if synced else "delta", "a.py,", "b.py"]
    assert not any(line.split()[0] == "sync" for line in others)
    assert ("synced into its containers" in first) is synced
    assert ("updated in place" in first) is (targets > 0 and not synced)
