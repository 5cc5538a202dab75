"""`update: sync`: files go into the containers that run, the image that holds them follows (S36 to S38)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.e2e.test_in_place import LABEL, agree, deployment, image, last, names, pods, saved, sets
from tests.support.sample_project import Project, Watch, until

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(600)]


@pytest.fixture
def synced(project: Project) -> Project:
    """The sample, its backend with a server that reloads itself."""
    project.sync_backend()
    return project


def instance(project: Project) -> str:
    """The id of the container that the one pod runs."""
    (pod,) = pods(project)
    return str(pod["status"]["containerStatuses"][0]["containerID"]).partition("://")[2]


def in_container(project: Project, container: str) -> str:
    """The sha256 of the greeting in it, by the engine: no status lags behind."""
    return project.sandbox.docker("exec", container, "sha256sum", "/app/src/greeting.py").split()[0]


def on_disk(project: Project) -> str:
    return hashlib.sha256(project.greeting.read_bytes()).hexdigest()


def spec_image(project: Project) -> str:
    (pod,) = pods(project)
    return str(pod["spec"]["containers"][0]["image"])


def synced_edit(watch: Watch, project: Project, text: str) -> dict[str, Any]:
    trip = saved(watch, project, text)
    assert trip["update"] == "sync", watch.text()
    return trip


def primed(watch: Watch, project: Project) -> None:
    """The layers of an image are known by now, on which deltas stand."""
    watch.wait("live", lambda: watch.live("backend"))
    for number in range(5):
        if saved(watch, project, f"first {number}")["update"] == "sync":
            return
    raise AssertionError(watch.text())


def test_s36_s37_edits_go_into_the_container_and_the_image_follows(synced: Project) -> None:
    synced.once("backend")
    with synced.watch("backend") as watch:
        primed(watch, synced)
        begun = len(watch.trips("backend"))
        there, container, first = names(synced), instance(synced), spec_image(synced)
        for number in range(3):
            trip = synced_edit(watch, synced, f"edit {number}")
            assert in_container(synced, container) == on_disk(synced)
            assert (names(synced), instance(synced)) == (there, container), "nothing was restarted"
            assert image(deployment(synced)) == image(sets(synced)[0]) == trip["image"]
            assert spec_image(synced) == first
            watch.wait("served", lambda number=number: served_by(synced) == [f"edit {number}"])
        print(json.dumps([trip["seconds"] for trip in watch.trips("backend")], indent=1))
        assert watch.metrics()['devloop_updates_total{mode="sync",service="backend"}'] == 4
        watch.wait("shown", lambda: watch.status()["services"]["backend"]["synced"] == 1)
        status = json.loads(synced.devloop("status", "--json").stdout)["services"]["backend"]
        assert (status["state"], status["synced"], status["update"]) == ("live", 1, "sync"), status
        # An edit that is taken back is synced as well: no container is restarted, so no image waits.
        synced_edit(watch, synced, "edit 1")
        assert instance(synced) == container
        # A deletion cannot be synced.
        extra = synced.greeting.with_name("extra.py")
        extra.write_text("A = 1\n")
        watch.wait(
            "the new file",
            lambda: last(watch)["update"] == "sync" and len(watch.trips("backend")) == begun + 5,
        )
        extra.unlink()
        watch.wait(
            "in place", lambda: last(watch)["outcome"] == "live" and last(watch)["update"] == "in-place"
        )
        key = 'devloop_update_fallbacks_total{reason="deleted",service="backend"}'
        assert watch.metrics()[key] == 1
        assert "not synced: /app/src/extra.py was deleted" in watch.text()
        assert agree(synced) == last(watch)["image"]
        synced_edit(watch, synced, "the last one")
    # The end of watch gives the container the image.
    assert agree(synced) == image(deployment(synced)), watch.text()
    until("served", lambda: served_by(synced) == ["the last one"])
    assert in_container(synced, instance(synced)) == on_disk(synced)


@pytest.mark.parametrize("how", ["delete", "kill"])
def test_s37_what_dies_comes_back_with_the_synced_content(synced: Project, how: str) -> None:
    synced.once("backend")
    with synced.watch("backend") as watch:
        primed(watch, synced)
        for number in range(2):
            trip = synced_edit(watch, synced, f"{how} {number}")
            before, container = names(synced), instance(synced)
            if how == "delete":
                synced.sandbox.kubectl("delete", "pod", "-n", synced.namespace, "-l", LABEL, "--wait=false")
                watch.wait(
                    "another pod", lambda before=before: len(pods(synced)) == 1 and not names(synced) & before
                )
            else:
                synced.sandbox.docker("kill", container)
            watch.wait("one image", lambda trip=trip: _agrees(synced, trip["image"]))
            watch.wait("live", lambda: watch.live("backend"))
            watch.wait("served", lambda number=number: served_by(synced) == [f"{how} {number}"])
            assert in_container(synced, instance(synced)) == on_disk(synced)


def _agrees(project: Project, wanted: str) -> bool:
    try:
        return agree(project) == wanted and all(
            pod["status"].get("containerStatuses", [{}])[0].get("ready") for pod in pods(project)
        )
    except AssertionError:
        return False


# A process that begins anew at SIGHUP, in its container.
RELOADER = """\
import os, signal, sys
signal.signal(signal.SIGHUP, lambda *_: os.execv(sys.executable, [sys.executable, "-m", "src.serve"]))
import uvicorn
uvicorn.run("src.main:app", host="0.0.0.0", port=8001)
"""


def test_s36_a_signal_reloads_the_process_in_each_of_three_pods(synced: Project) -> None:
    config, sources = synced.config, synced.greeting.parent
    config.write_text(config.read_text().replace("reload: none", "reload: {signal: HUP}"))
    dockerfile = sources.parent / "Dockerfile"
    text = dockerfile.read_text()
    (command,) = [line for line in text.splitlines() if line.startswith("CMD")]
    dockerfile.write_text(text.replace(command, 'CMD ["python3", "-m", "src.serve"]'))
    (sources / "serve.py").write_text(RELOADER)
    synced.once("backend")
    words = ("scale", "-n", synced.namespace, "deploy/todo-backend", "--replicas=3")
    synced.sandbox.kubectl(*words)
    with synced.watch("backend") as watch:
        watch.wait("three", lambda: len(pods(synced)) == 3 and watch.live("backend"))
        primed(watch, synced)
        containers = instances(synced)
        assert len(containers) == 3
        for number in range(2):
            synced_edit(watch, synced, f"signal {number}")
            assert instances(synced) == containers
            assert {in_container(synced, one) for one in containers} == {on_disk(synced)}
            watch.wait("all serve it", lambda number=number: served_by(synced) == [f"signal {number}"] * 3)


def instances(project: Project) -> set[str]:
    """The ids of the containers of all pods."""
    return {
        str(one["containerID"]).partition("://")[2]
        for pod in pods(project)
        for one in pod["status"].get("containerStatuses", ())
    }


def served_by(project: Project) -> list[str | None]:
    """What each pod answers itself."""
    return [project.greeting_of(pod) for pod in pods(project)]


@pytest.mark.parametrize("edited", [False, True])
def test_s38_after_kill_9_the_next_start_gives_the_pods_the_image(synced: Project, edited: bool) -> None:
    synced.once("backend")
    with synced.watch("backend") as watch:
        primed(watch, synced)
        synced_edit(watch, synced, "the last words")
        container = instance(synced)
        watch.process.kill()
        watch.process.wait()
    # What runs is the tree, and so it is said.
    status = json.loads(synced.devloop("status", "--json").stdout)["services"]["backend"]
    assert (status["state"], status["synced"]) == ("live", 1), status
    if edited:
        synced.greet("edited since")
    assert synced.once("backend")["backend"]["outcome"] in ("live", "unchanged")
    assert instance(synced) != container
    assert agree(synced) == image(deployment(synced))
    wanted = "edited since" if edited else "the last words"
    until("served", lambda: served_by(synced) == [wanted])
    assert in_container(synced, instance(synced)) == on_disk(synced)
    status = json.loads(synced.devloop("status", "--json").stdout)["services"]["backend"]
    assert (status["state"], status["synced"]) == ("live", 0), status
