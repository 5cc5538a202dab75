"""`update: in-place`: the pods stay, their container runs the new image, and everything names it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.support.sample_project import Project, Watch

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]
LABEL = "app.kubernetes.io/name=backend"
APPS = "/apis/apps/v1/namespaces/{}"


@pytest.fixture
def in_place(project: Project) -> Project:
    """The sample, its backend updated in place."""
    text = project.config.read_text()
    before = "    deploy: {deployment: todo-backend}\n"
    assert before in text
    project.config.write_text(text.replace(before, f"{before}    update: in-place\n"))
    return project


def deployment(project: Project) -> dict[str, Any]:
    found = project.sandbox.get(f"{APPS.format(project.namespace)}/deployments/todo-backend")
    assert found
    return found


def image(item: dict[str, Any]) -> str:
    return str(item["spec"]["template"]["spec"]["containers"][0]["image"])


def sets(project: Project) -> list[dict[str, Any]]:
    """The ReplicaSets of the backend that have pods."""
    found = project.sandbox.get(f"{APPS.format(project.namespace)}/replicasets")
    assert found
    return [
        one
        for one in found["items"]
        if one["metadata"]["name"].startswith("todo-backend") and one["status"].get("replicas")
    ]


def pods(project: Project) -> list[dict[str, Any]]:
    return [
        pod
        for pod in project.sandbox.pods(project.namespace, LABEL)
        if "deletionTimestamp" not in pod["metadata"]
    ]


def names(project: Project) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods(project)}


def agree(project: Project) -> str:
    """The one image that Deployment, ReplicaSet and pods name; AssertionError where they differ."""
    item = deployment(project)
    found = {
        image(item),
        *map(image, sets(project)),
        *(p["spec"]["containers"][0]["image"] for p in pods(project)),
    }
    assert len(found) == 1, found
    assert not item["spec"].get("paused")
    return found.pop()


def digest_in_container(project: Project, file: str) -> str:
    words = ("exec", "-n", project.namespace, "deploy/todo-backend", "--", "sha256sum", f"/app/{file}")
    return project.sandbox.kubectl(*words).split()[0]


def both_live(watch: Watch) -> None:
    watch.wait("both live", lambda: watch.live("backend", "frontend"))


def last(watch: Watch) -> dict[str, Any]:
    return watch.trips("backend")[-1]


def saved(watch: Watch, project: Project, text: str, outcome: str = "live") -> dict[str, Any]:
    """The trip of this edit, when it ended as expected."""
    number = len(watch.trips("backend"))
    project.greet(text)
    watch.wait(
        f"{text}: {outcome}",
        lambda: len(watch.trips("backend")) > number and last(watch)["outcome"] == outcome,
    )
    return last(watch)


def test_s33_edits_restart_the_container_in_the_same_pod(in_place: Project) -> None:
    in_place.once()
    with in_place.watch() as watch:
        both_live(watch)
        there = names(in_place)
        for number in range(3):
            trip = saved(watch, in_place, f"edit {number}")
            assert trip["update"] == "in-place", watch.text()
            assert in_place.served_greeting() == f"edit {number}"
            assert agree(in_place) == trip["image"]
            assert names(in_place) == there
        wanted = hashlib.sha256(in_place.greeting.read_bytes()).hexdigest()
        assert digest_in_container(in_place, "src/greeting.py") == wanted
        assert set(trip["phases"]) == {"started", "serving", "complete"}
        assert watch.metrics()['devloop_updates_total{mode="in-place",service="backend"}'] == 3
        print(json.dumps([trip["seconds"] for trip in watch.trips("backend")], indent=1))
    assert in_place.devloop("status").returncode == 0
    # A pod that is made later has the image too.
    in_place.sandbox.kubectl("delete", "pod", "-n", in_place.namespace, "-l", LABEL)
    assert in_place.once()["backend"]["outcome"] in ("unchanged", "live")
    assert in_place.served_greeting() == "edit 2"


def test_s35_a_save_that_crashes_gives_way_to_the_image_before(in_place: Project) -> None:
    in_place.once()
    with in_place.watch() as watch:
        both_live(watch)
        good = saved(watch, in_place, "good")["image"]
        in_place.greeting.write_text("raise SystemExit('broken')\n")
        watch.wait("failed", lambda: last(watch)["outcome"] == "failed")
        assert "broken" in json.dumps(last(watch)["error"]), last(watch)
        watch.wait("the good one serves again", lambda: in_place.served_greeting() == "good")
        watch.wait("all name it", lambda: agree(in_place) == good)
        assert watch.state() == "failed"
        assert watch.metrics()['devloop_live{service="backend"}'] == 0
        trip = saved(watch, in_place, "mended")
        assert in_place.served_greeting() == "mended"
        assert agree(in_place) == trip["image"]


def test_s34_an_image_that_ran_in_the_pod_before_is_rolled(in_place: Project) -> None:
    in_place.once()
    with in_place.watch() as watch:
        both_live(watch)
        saved(watch, in_place, "one")
        saved(watch, in_place, "two")
        there = names(in_place)
        trip = saved(watch, in_place, "one")
        assert trip["update"] == "roll"
        assert in_place.served_greeting() == "one"
        watch.wait("the old pod is gone", lambda: names(in_place).isdisjoint(there))
        fallbacks = watch.metrics()
        assert fallbacks['devloop_update_fallbacks_total{reason="seen_in_pod",service="backend"}'] == 1
        assert "rolled, not updated in place" in watch.text()
        assert saved(watch, in_place, "three")["update"] == "in-place"


@pytest.mark.parametrize("written", [1, 2])
def test_s35_an_update_that_was_cut_off_is_ended_by_the_next_once(in_place: Project, written: int) -> None:
    in_place.once()
    in_place.greet("next")
    # What kill -9 leaves behind one pod's PATCH and `written` of the three writes.
    assert in_place.once("backend")["backend"]["update"] == "in-place"
    wanted, there = agree(in_place), deployment(in_place)
    other = f"{wanted.rpartition(':')[0]}:dl-00000000000000aa"
    in_place.sandbox.docker("tag", wanted, other)
    note = {"metadata": {"annotations": {"dev.devloop/in-place": other}}}
    at = "/spec/template/spec/containers/0/image"
    replace = [{"op": "replace", "path": at, "value": other}]
    path = in_place.namespace
    pod = pods(in_place)[0]["metadata"]["name"]
    moved = [{"op": "replace", "path": "/spec/containers/0/image", "value": other}]
    in_place.sandbox.kubectl("patch", "-n", path, "pod", pod, "--type=json", "-p", json.dumps(moved))
    in_place.sandbox.kubectl(
        "patch", "-n", path, "deploy/todo-backend", "-p", json.dumps({**note, "spec": {"paused": True}})
    )
    in_place.sandbox.kubectl(
        "patch", "-n", path, "deploy/todo-backend", "--type=json", "-p", json.dumps(replace)
    )
    if written == 2:
        name = sets(in_place)[0]["metadata"]["name"]
        in_place.sandbox.kubectl("patch", "-n", path, f"rs/{name}", "--type=json", "-p", json.dumps(replace))
    assert image(deployment(in_place)) == other
    assert image(there) == wanted
    done = in_place.once("backend")["backend"]
    assert done["outcome"] == "live", done
    assert agree(in_place) == wanted
    assert in_place.served_greeting() == "next"
