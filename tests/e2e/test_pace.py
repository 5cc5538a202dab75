"""Steady writing, other writers, lost images, several targets, holds, and the numbers, under a real watch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.sample_project import Project, Watch

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]

WRITING = float(os.environ.get("DEVLOOP_TEST_WRITING", "0"))  # seconds; S21 names 60, on a machine at rest
LIVE_PER_SECOND = 4 / 60
NEVER = 240.0  # seconds without two live trips, on a machine however busy


@pytest.fixture
def watch(project: Project) -> Iterator[Watch]:
    """`devloop watch backend`, live."""
    with project.watch("backend") as running:
        running.wait("live", lambda: running.live("backend"))
        yield running


def deployment(project: Project, name: str = "todo-backend") -> Any:
    return project.sandbox.get(f"/apis/apps/v1/namespaces/{project.namespace}/deployments/{name}")


def image_of(project: Project, name: str = "todo-backend") -> str:
    return str(deployment(project, name)["spec"]["template"]["spec"]["containers"][0]["image"])


def save(project: Project, watch: Watch, text: str) -> dict[str, Any]:
    """An edit, and its trip once it is live and over."""
    before = len(watch.trips("backend"))
    project.greet(text)
    watch.wait(f"{text!r} served", lambda: project.served_greeting_inside("todo-backend") == text)
    watch.wait("its trip over", lambda: len(watch.trips("backend")) > before and watch.live("backend"))
    return watch.trips("backend")[-1]


def set_image(project: Project, image: str) -> None:
    project.sandbox.kubectl(
        "set", "image", "-n", project.namespace, "deploy/todo-backend", f"backend={image}"
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("last", ["copy", "run"])
def test_s21_steady_writing_gives_live_trips_and_ends_with_the_last_content(
    project: Project, last: str
) -> None:
    """With a RUN after the COPY a build takes longer than the pause between two writes.

    Writes until two trips went live meanwhile; for DEVLOOP_TEST_WRITING seconds, and at S21's rate, if set.
    """
    if last == "run":
        dockerfile = project.root / "backend" / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text() + "RUN sleep 0.5\n")
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.live("backend"))
        before = live_trips(watch)
        began, number = time.monotonic(), 0
        wanted = int(WRITING * LIVE_PER_SECOND) or 2
        while time.monotonic() - began < (WRITING or NEVER):
            number += 1
            project.greet(f"steady {number}")
            time.sleep(0.3)  # the load itself, no wait
            if not WRITING and live_trips(watch) - before >= wanted:
                break
        during, lasted = live_trips(watch) - before, time.monotonic() - began
        watch.wait("the last content served",
                   lambda: project.served_greeting_inside("todo-backend") == f"steady {number}")  # fmt: skip
        watch.wait("devloop says so", lambda: watch.live("backend"))
        report = "\n".join(
            f"  {t['outcome']} {(t['error'] or {}).get('message', '')} {t['built']} {t['seconds']}"
            for t in watch.trips("backend")
        )
        print(f"{number} writes in {lasted:.0f} s: {during} live trips meanwhile\n{report}")
    assert during >= wanted


def live_trips(watch: Watch) -> int:
    """All of them: /api/status lists the last 50 trips alone."""
    return int(watch.metrics().get('devloop_trips_total{outcome="live",service="backend"}', 0))


def test_s20_an_undo_and_another_image_are_mended_and_the_third_reversal_is_contested(
    project: Project, watch: Watch
) -> None:
    save(project, watch, "first")
    older = image_of(project)
    save(project, watch, "second")
    ours = image_of(project)
    project.sandbox.kubectl("rollout", "undo", "-n", project.namespace, "deploy/todo-backend")
    watch.wait("the undo is mended", lambda: image_of(project) == ours and mended(watch) == 1)
    watch.wait("and live", lambda: watch.live("backend"))
    assert project.served_greeting_inside("todo-backend") == "second"
    set_image(project, older)
    watch.wait("the other image is mended", lambda: image_of(project) == ours and mended(watch) == 2)
    watch.wait("and live", lambda: watch.live("backend"))
    set_image(project, older)
    watch.wait("contested", lambda: watch.state() == "contested")
    assert image_of(project) == older
    assert re.search(r"contested: kubectl\S* keeps writing another image", watch.text())
    assert not watch.metrics()['devloop_live{service="backend"}']
    save(project, watch, "third")


def mended(watch: Watch) -> int:
    return sum("changed the template" in (trip["why"] or "") for trip in watch.trips("backend"))


def test_s13_an_image_removed_behind_devloops_back_comes_back(project: Project, watch: Watch) -> None:
    save(project, watch, "kept")
    image = image_of(project)
    project.sandbox.docker("rmi", "-f", image)
    project.sandbox.kubectl(
        "delete", "pod", "-n", project.namespace, "-l", "app.kubernetes.io/name=backend", "--wait=false"
    )
    watch.wait(
        "it is noticed", lambda: "lost the image" in watch.text() or "gone from a node" in watch.text()
    )
    watch.wait("the image is back", lambda: project.sandbox.docker("images", "-q", image).strip())
    watch.wait("it serves again", lambda: project.served_greeting_inside("todo-backend") == "kept")
    watch.wait("devloop says so", lambda: watch.live("backend"))
    assert image_of(project) == image


def test_s17_a_second_target_that_is_missing_is_waited_for(project: Project) -> None:
    text = project.config.read_text()
    both = "deploy: [{deployment: todo-backend}, {deployment: todo-second}]"
    project.config.write_text(text.replace("deploy: {deployment: todo-backend}", both))
    with project.watch("backend") as watch:
        watch.wait("it waits", lambda: watch.state() == "waiting")
        assert "todo-second" in watch.text()
        second = project.root / "second.yaml"
        second.write_text(
            (project.root / "k8s" / "backend.yaml").read_text().split("---\n")[-1]
            .replace("name: todo-backend\n  labels", "name: todo-second\n  labels")
            .replace("app.kubernetes.io/name: backend", "app.kubernetes.io/name: second")
        )  # fmt: skip
        project.sandbox.kubectl("apply", "-n", project.namespace, "-f", str(second))
        watch.wait("both live", lambda: watch.live("backend"))
        assert image_of(project) == image_of(project, "todo-second")
        project.greet("on both")
        for name in ("todo-backend", "todo-second"):
            watch.wait(f"{name} serves", lambda: project.served_greeting_inside(name) == "on both")  # noqa: B023


def test_s24_a_hold_is_left_alone_until_it_is_lifted_or_the_tree_changes(
    project: Project, watch: Watch
) -> None:
    save(project, watch, "good")
    good = image_of(project)
    digest = save(project, watch, "bad")["fingerprint"]
    bad = image_of(project)

    def hold(value: str) -> None:
        project.sandbox.kubectl(
            "annotate",
            "--overwrite",
            "-n",
            project.namespace,
            "deploy/todo-backend",
            f"dev.devloop/hold{value}",
        )

    hold(f"={digest}")
    set_image(project, good)
    watch.wait("held", lambda: watch.state() == "held")
    watch.wait("the held image serves", lambda: project.served_greeting_inside("todo-backend") == "good")
    os.utime(project.greeting)  # a save of the same content
    watch.wait("still held", lambda: [t["outcome"] for t in watch.trips("backend")][-2:] == ["held"] * 2)
    assert image_of(project) == good
    assert project.once("backend")["backend"]["outcome"] == "held"
    hold("-")
    watch.wait("the tree again", lambda: image_of(project) == bad and watch.live("backend"))
    hold(f"={digest}")
    save(project, watch, "better")


def test_s32_spans_and_histograms_agree_and_every_phase_is_timed(project: Project, watch: Watch) -> None:
    for number in range(2):
        save(project, watch, f"timed {number}")
    project.greet('broken" + (')  # a failure is timed, too
    watch.wait("failed", lambda: watch.trips("backend")[-1]["outcome"] == "failed")
    save(project, watch, "timed again")
    trips, samples = watch.trips("backend"), watch.metrics()
    for stage in ("detect", "fingerprint", "build", "load", "patch", "rollout"):
        for outcome in ("ok", "failed"):
            spans = [s["seconds"] for t in trips for s in t["spans"]
                     if (s["stage"], s["outcome"]) == (stage, outcome)]  # fmt: skip
            labels = f'outcome="{outcome}",service="backend",stage="{stage}"'
            count = samples.get(f"devloop_stage_duration_seconds_count{{{labels}}}", 0)
            total = samples.get(f"devloop_stage_duration_seconds_sum{{{labels}}}", 0)
            assert (count, total) == (len(spans), pytest.approx(sum(spans))), (stage, outcome)
    for outcome in ("live", "failed"):
        lasted = [trip["seconds"]["trip"] for trip in trips if trip["outcome"] == outcome]
        labels = f'{{outcome="{outcome}",service="backend"}}'
        assert lasted
        assert samples[f"devloop_trip_duration_seconds_count{labels}"] == len(lasted)
        assert samples[f"devloop_trip_duration_seconds_sum{labels}"] == pytest.approx(sum(lasted))
        assert samples[f"devloop_trips_total{labels}"] == len(lasted)
    for trip in [t for t in trips if t["outcome"] == "live"][-2:]:
        phases = [trip["phases"][name] for name in ("scheduled", "started", "serving", "complete")]
        assert phases == sorted(phases)
        assert trip["coarse"] == []
        stages = [span["seconds"] for span in trip["spans"]]
        assert trip["seconds"]["trip"] >= sum(stages) - 0.001
        detect = trip["spans"][0]
        assert detect["started_at"] == pytest.approx(trip["started_at"])
    for phase in ("scheduled", "started", "serving", "complete"):
        timed = [t["phases"][phase] for t in trips if phase in t["phases"]]
        labels = f'{{phase="{phase}",service="backend"}}'
        assert samples[f"devloop_rollout_phase_seconds_sum{labels}"] == pytest.approx(sum(timed))
