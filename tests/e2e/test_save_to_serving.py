"""Save a file, and the cluster runs it: the whole product on real parts."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess

import pytest

from tests.support.sample_project import Project

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]


def digest_in_container(project: Project, file: str) -> str:
    out = project.sandbox.kubectl(
        "exec", "-n", project.namespace, "deploy/todo-backend", "--", "sha256sum", f"/app/{file}"
    )
    return out.split()[0]


def test_once_from_nothing_and_again(project: Project) -> None:
    first = project.once()
    assert {name: s["outcome"] for name, s in first.items()} == {"backend": "live", "frontend": "live"}
    assert set(first["backend"]["seconds"]) >= {"fingerprint", "build", "load", "patch", "rollout", "trip"}
    assert first["frontend"]["url"] == f"http://127.0.0.1:{project.node_port}"
    assert project.served_greeting()
    again = project.once()
    assert {name: s["outcome"] for name, s in again.items()} == {
        "backend": "unchanged",
        "frontend": "unchanged",
    }
    assert again["backend"]["image"] == first["backend"]["image"]
    assert project.devloop("status").returncode == 0


def test_an_edit_of_the_backend_rolls_only_the_backend(project: Project) -> None:
    project.once()
    with project.watch() as watch:
        watch.wait("both live", lambda: len(watch.trips("backend")) and len(watch.trips("frontend")))
        before = watch.metrics()
        pods = project.sandbox.kubectl("get", "pods", "-n", project.namespace, "-l",
                                       "app.kubernetes.io/name=frontend", "-o", "name")  # fmt: skip
        for number in range(10):
            project.greet(f"edit {number}")
            watch.wait(f"edit {number} served", lambda: project.served_greeting() == f"edit {number}")  # noqa: B023
            watch.wait("trip ended", lambda: len(watch.trips("backend")) >= number + 2)  # noqa: B023
        assert (
            digest_in_container(project, "src/greeting.py")
            == hashlib.sha256(project.greeting.read_bytes()).hexdigest()
        )
        trips = watch.trips("backend")[-10:]
        assert [trip["outcome"] for trip in trips] == ["live"] * 10, watch.text()
        print(json.dumps(trips, indent=1))
        after = watch.metrics()
        assert pods == project.sandbox.kubectl("get", "pods", "-n", project.namespace, "-l",
                                               "app.kubernetes.io/name=frontend", "-o", "name")  # fmt: skip
        frontend = [
            name for name in after if 'service="frontend"' in name and "trip" in name and "count" in name
        ]
        assert frontend
        assert all(after[name] == before[name] for name in frontend)
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(20) == 130


def test_s3_a_rebuild_gets_another_tag_and_the_next_run_keeps_it(project: Project) -> None:
    first = project.once("backend")["backend"]
    again = project.once("backend", "--rebuild")["backend"]
    assert again["outcome"] == "live"
    assert again["image"] != first["image"]
    assert project.once("backend")["backend"]["image"] == again["image"]


def test_s26_once_beside_a_watch_of_the_same_config_reports_its_trip(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("both live", lambda: len(watch.trips("backend")) and len(watch.trips("frontend")))
        project.greet("beside")
        services = project.once()
        assert services["backend"]["outcome"] == "live"
        assert services["backend"]["image"] == watch.status()["services"]["backend"]["image"]
        assert project.served_greeting() == "beside"


def test_s26_a_second_watch_learns_who_holds_the_service(project: Project) -> None:
    with project.watch("backend") as watch:
        watch.wait("live", lambda: watch.trips("backend"))
        other = project.root / "other.yaml"
        other.write_text(project.config.read_text().replace(f":{project.metrics_port}", ":0"))
        second = project.devloop("-c", str(other), "watch", seconds=60)
    assert second.returncode == 3
    assert f"pid {watch.process.pid}" in second.stderr


def test_s28_config_yaml_is_taken_while_watch_runs_and_a_bad_one_is_shown(project: Project) -> None:
    with project.watch() as watch:
        watch.wait("both live", lambda: len(watch.trips("backend")) and len(watch.trips("frontend")))
        good = project.config.read_text()
        project.config.write_text(good.replace("context: backend", "context: nowhere"))
        watch.wait("the complaint", lambda: "services.backend.build.context" in watch.text())
        assert "keeping the previous config" in watch.text()
        frontend, backend = len(watch.trips("frontend")), len(watch.trips("backend"))
        project.config.write_text(good.replace('args: {BASE: "', 'args: {EXTRA: "1", BASE: "', 1))
        watch.wait("the new config", lambda: "config.yaml reloaded: backend" in watch.text())
        watch.wait("a trip of backend", lambda: len(watch.trips("backend")) > backend)
        project.greet("after the new config")
        watch.wait("the save", lambda: project.served_greeting() == "after the new config")
        watch.wait("live again", watch.live)
        assert watch.trips("backend")[-1]["outcome"] == "live"
        assert len(watch.trips("frontend")) == frontend


def test_doctor_looks_at_everything_and_says_what_the_cluster_does_not_do(project: Project) -> None:
    done = project.devloop("doctor", seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for what in (
        "config",
        "build engine",
        "docker command",
        "disk",
        "manifests",
        "cluster",
        "images",
        "service backend",
    ):
        assert f"ok       {what}: " in done.stdout
    assert "Ingress objects are stored and not served" in done.stdout
    gone = subprocess.run(
        project.command("doctor"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=project.root,
        env={**project.sandbox.environ, "DOCKER_HOST": "unix:///var/run/stopped.sock"},
    )
    assert gone.returncode == 3
    assert "failure  build engine: " in gone.stdout
