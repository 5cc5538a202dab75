"""Trips that fail, hang or never end, under a real watch: what is notified of them, and what ends them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_project
from tests.e2e.test_by_hand import config_of
from tests.support.sample_project import BASE, Project, Sandbox, Watch

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(400)]
SLEEP = f"600.{os.getpid()}"  # seconds; a number that no other process on the machine sleeps
LIVE = 'devloop_live{service="backend"}'


@pytest.fixture
def backend(sandbox: Sandbox, tmp_path: Path) -> Iterator[Project]:
    """The sample's backend alone, from its plain manifests."""
    made = new_project(sandbox, tmp_path / "todo")
    made.config.write_text(config_of(made, "k8s/backend.yaml"))
    yield made
    made.remove()


def dockerfile(project: Project) -> Path:
    return project.root / "backend" / "Dockerfile"


def no_base(project: Project) -> None:
    dockerfile(project).write_text("FROM 127.0.0.1:9/no-such-image:1\nCOPY src /app\n")


def removed(project: Project) -> None:
    dockerfile(project).unlink()


def renamed(project: Project) -> None:
    (project.root / "backend").rename(project.root / "elsewhere")


def bad_ignore(project: Project) -> None:
    (project.root / "backend" / ".dockerignore").write_text("[\n")


def half_written(project: Project) -> None:
    dockerfile(project).write_text(dockerfile(project).read_text() + "COPY src\n")


MISTAKES = (no_base, removed, renamed, bad_ignore, half_written)


def test_a_tree_without_a_fingerprint_is_failed_in_every_output(backend: Project) -> None:
    """One mistake after the other, each mended before the next."""
    with backend.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        for mistake in MISTAKES:
            failed_and_mended(backend, watch, mistake)


def failed_and_mended(backend: Project, watch: Watch, mistake: Callable[[Project], None]) -> None:
    home, kept, before = backend.root / "backend", backend.root / "kept", len(watch.text())
    subprocess.run(["cp", "-a", str(home), str(kept)], check=True)
    mistake(backend)
    watch.wait(f"{mistake.__name__}: failed", lambda: watch.state() == "failed")
    # Whatever the cluster shows from now on is no sign of the tree: a restart of the pods, for one.
    kubectl, deployment = backend.sandbox.kubectl, ("-n", backend.namespace, "deploy/todo-backend")
    kubectl("rollout", "restart", *deployment)
    kubectl("rollout", "status", *deployment, "--timeout=60s")
    assert (watch.state(), watch.metrics()[LIVE]) == ("failed", 0.0), mistake.__name__
    assert "after all" not in watch.text()[before:], mistake.__name__
    assert backend.devloop("status").returncode in (1, 2)  # 2: config.yaml names what is not there
    subprocess.run(["rm", "-rf", str(home), str(backend.root / "elsewhere")], check=True)
    kept.rename(home)
    mended = f"{mistake.__name__}: live again"
    watch.wait(mended, lambda: watch.live("backend") and watch.metrics()[LIVE] == 1.0)


def test_a_base_that_comes_later_needs_no_save_and_is_missed_once(backend: Project) -> None:
    late = f"devloop-late-{os.getpid()}:1"
    backend.config.write_text(config_of(backend, "k8s/backend.yaml").replace(BASE, late))
    try:
        with backend.watch("--no-logs") as watch:
            watch.wait("three looks", lambda: len(watch.trips("backend")) >= 3)
            assert watch.state() == "failed"
            assert watch.text().count("FAILED") == 1
            assert watch.text().count("| pulling ") == 1
            backend.sandbox.docker("tag", BASE, late)
            watch.wait("live", lambda: watch.live("backend"))
    finally:
        backend.sandbox.docker("rmi", late, check=False)


def test_s8_a_change_without_an_event_is_found_by_a_look_at_the_whole_tree(backend: Project) -> None:
    """A file of the context is written through its other name."""
    data, other = backend.root / "backend" / "src" / "data", backend.root / "other"
    data.write_text("1\n")
    other.hardlink_to(data)
    with backend.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        other.write_text("22\n")
        dockerfile(backend).write_text(dockerfile(backend).read_text() + "ENV MORE=1\n")
        watch.wait("live with it", lambda: watch.live("backend") and len(watch.trips("backend")) > 1)
        moved = [t for t in watch.trips("backend") if (t["error"] or {}).get("reason") == "TreeMoved"]
        assert len(moved) <= 2
        watch.wait("served", lambda: backend.served_greeting_inside("todo-backend"))
    found = backend.once()["backend"]
    assert found["outcome"] == "unchanged"


def hang(project: Project) -> None:
    dockerfile(project).write_text(dockerfile(project).read_text() + f"RUN sleep {SLEEP}\n")


def in_build(watch: Watch) -> bool:
    return watch.status().get("services", {}).get("backend", {}).get("stage") == "build"


def test_s21_a_fix_that_is_saved_long_into_a_build_that_hangs_is_built(backend: Project) -> None:
    good = dockerfile(backend).read_text()
    with backend.watch("--no-logs") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        hang(backend)
        watch.wait("it hangs", lambda: in_build(watch) and f"sleep {SLEEP}" in watch.text())
        since = watch.status()["services"]["backend"]["stage_started_at"]
        clock = backend.root / "clock"
        watch.wait("longer than 10 s", lambda: clock.touch() or clock.stat().st_mtime - since > 11)
        dockerfile(backend).write_text(good)
        watch.wait("the fix is live", lambda: watch.live("backend"), seconds=30)
    assert "superseded in build" in watch.text()


def test_s21_a_build_that_prints_nothing_is_ended(backend: Project) -> None:
    text = config_of(backend, "k8s/backend.yaml")
    backend.config.write_text(text.replace("context: backend,", "context: backend, idle_timeout: 3s,"))
    hang(backend)
    found = backend.once()["backend"]
    assert (found["outcome"], found["error"]["reason"]) == ("failed", "BuildIdle")
    assert any(f"sleep {SLEEP}" in line for line in found["error"]["evidence"])
    assert "services.backend.build.idle_timeout" in found["error"]["hint"]
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in running.splitlines() if line.startswith(f"sleep {SLEEP}")]
