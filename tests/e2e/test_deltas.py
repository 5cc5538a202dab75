"""An edit costs what changed: deltas under `devloop watch`, proven equal, explained."""

from __future__ import annotations

import re

import pytest

from tests.support.sample_project import Project, Watch

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]


def builds_of(watch: Watch) -> dict[str, float]:
    """How many images of the backend were built, by how."""
    pattern = re.compile(r'devloop_builds_total\{how="(\w+)",service="backend"\}')
    return {found[1]: value for name, value in watch.metrics().items() if (found := pattern.match(name))}


def test_edits_below_the_last_copy_go_as_deltas_and_equal_a_full_build(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("both live", lambda: len(watch.trips("backend")) and len(watch.trips("frontend")))
        before: dict[str, float] = {}
        for number in range(12):
            project.greet(f"delta {number}")
            watch.wait("it is served", lambda: project.served_greeting() == f"delta {number}")  # noqa: B023
            watch.wait("trip over", lambda: len(watch.trips("backend")) >= number + 2)  # noqa: B023
            if not before and "delta" in builds_of(watch):
                before = builds_of(watch)  # the full build was read in the background and is a parent now
            elif before and sum(builds_of(watch).values()) - sum(before.values()) >= 5:
                break
        count = len(watch.trips("backend"))
        new = project.root / "backend" / "src" / "added.py"
        new.write_text("ADDED = True\n")
        watch.wait("the new file", lambda: len(watch.trips("backend")) > count)
        new.unlink()
        watch.wait("its removal", lambda: len(watch.trips("backend")) > count + 1)
        after = builds_of(watch)
    assert before, "no edit ever was a delta"
    made = {how: after[how] - before.get(how, 0) for how in after if after[how] != before.get(how, 0)}
    assert made["delta"] / sum(made.values()) >= 0.95, made
    done = project.devloop("verify", "backend")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to a full build" in done.stdout


def test_the_first_edit_after_a_start_is_a_delta(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("live", lambda: len(watch.trips("backend")))
        for number in range(12):
            project.greet(f"first {number}")
            watch.wait("trip over", lambda: len(watch.trips("backend")) >= number + 2)  # noqa: B023
            if "delta" in builds_of(watch):
                break  # the full build is a parent now, and written down
    with project.watch() as watch:
        watch.wait("unchanged", lambda: watch.trips("backend"))
        assert watch.trips("backend")[0]["outcome"] == "unchanged"
        project.greet("after the start")
        watch.wait("it is served", lambda: project.served_greeting() == "after the start")
        watch.wait("trip over", lambda: len(watch.trips("backend")) >= 2)
        assert builds_of(watch) == {"delta": 1}


def test_explain_names_what_stops_a_delta(project: Project) -> None:
    done = project.devloop("explain", seconds=60)
    assert done.returncode == 0, done.stderr
    assert "backend: an edit of 4 of 5 files is a delta" in done.stdout
    assert "requirements.txt" in done.stdout
    assert "(RunAfter)" in done.stdout
    assert "(OtherStage)" in done.stdout
