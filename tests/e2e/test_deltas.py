"""An edit costs what changed: deltas under `devloop watch`, proven equal, explained."""

from __future__ import annotations

import pytest

from tests.e2e.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]


def test_edits_below_the_last_copy_go_as_deltas_and_equal_a_full_build(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("both live", lambda: len(watch.trips("backend")) and len(watch.trips("frontend")))
        for number in range(5):
            project.greet(f"delta {number}")
            watch.wait("it is served", lambda: project.served_greeting() == f"delta {number}")  # noqa: B023
            watch.wait("trip over", lambda: len(watch.trips("backend")) >= number + 2)  # noqa: B023
        new = project.root / "backend" / "src" / "added.py"
        new.write_text("ADDED = True\n")
        watch.wait("the new file", lambda: len(watch.trips("backend")) >= 7)
        new.unlink()
        watch.wait("its removal", lambda: len(watch.trips("backend")) >= 8)
        builds = watch.metrics()
        deltas = builds['devloop_builds_total{how="delta",service="backend"}']
        full = sum(
            value
            for name, value in builds.items()
            if name.startswith("devloop_builds_total{") and "backend" in name
        )
        assert deltas / (full - 1) >= 0.95, builds  # the first build is a full one
    done = project.devloop("verify", "backend")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to a full build" in done.stdout


def test_explain_names_what_stops_a_delta(project: Project) -> None:
    done = project.devloop("explain", seconds=60)
    assert done.returncode == 0, done.stderr
    assert "backend: an edit of 4 of 5 files is a delta" in done.stdout
    assert "requirements.txt" in done.stdout
    assert "(RunAfter)" in done.stdout
    assert "(OtherStage)" in done.stdout
