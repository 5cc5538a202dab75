"""Helm releases under `once` and `watch` on real containers: come what may, the cluster ends at the tree."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_charted
from tests.support.charted_project import Charted, helm_pids
from tests.support.sample_project import BASE, Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(400)]


@pytest.fixture
def charted(sandbox: Sandbox, tmp_path: Path) -> Iterator[Charted]:
    made = new_charted(sandbox, tmp_path / "todo")
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://todo:very-secret-indeed@db/todo")


def test_s22_once_installs_and_then_leaves_alone(charted: Charted) -> None:
    assert charted.once()["backend"]["outcome"] == "live"
    assert charted.records() == {1: "deployed"}
    assert charted.once()["backend"]["outcome"] == "unchanged"
    charted.greet("edited")
    assert charted.once()["backend"]["outcome"] == "live"
    assert charted.served_greeting() == "edited"
    assert charted.records() == {1: "deployed"}, "an edit of the source is a PATCH, no upgrade"
    charted.set(colour="blue")
    assert charted.once()["backend"]["outcome"] == "unchanged"
    assert (charted.colour(), charted.served_greeting()) == ("blue", "edited")
    assert charted.records() == {1: "superseded", 2: "deployed"}


def test_s22_a_session_for_one_service_keeps_what_the_others_run(charted: Charted) -> None:
    charted.once()
    running = charted.pod_image()
    text = charted.config.read_text()
    extra = (
        f"  other:\n    image: other-{charted.namespace}\n"
        f'    build: {{context: backend, args: {{BASE: "{BASE}"}}}}\nreleases:'
    )
    charted.config.write_text(text.replace("releases:", extra))
    charted.set(colour="blue")
    assert charted.once("other")["other"]["outcome"] == "live"
    assert charted.colour() == "blue"
    assert charted.pod_image() == running


def test_s22_a_missing_deployment_comes_back(charted: Charted) -> None:
    charted.once()
    charted.sandbox.kubectl("-n", charted.namespace, "delete", "deployment", "todo-backend")
    assert charted.once()["backend"]["outcome"] == "live"
    assert charted.status() == "deployed"


def test_s22_an_upgrade_between_two_edits(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        charted.greet("one")
        watch.wait("the first edit", lambda: charted.served_greeting() == "one")
        charted.set(colour="blue", replicas=2)
        watch.wait("the upgrade", lambda: charted.settled("one", "blue"))
        charted.greet("two")
        watch.wait("the second edit", lambda: charted.settled("two", "blue"))
        watch.wait("Running", lambda: _state(watch.metrics()) == "Running")
    assert charted.records() == {1: "superseded", 2: "deployed"}


def test_s22_an_edit_during_an_upgrade(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        charted.set(colour="blue", slow=6)
        watch.wait("the upgrade", lambda: charted.status() == "pending-upgrade")
        watch.wait("Upgrading", lambda: _state(watch.metrics()) == "Upgrading")
        charted.greet("during")
        watch.wait("both", lambda: charted.settled("during", "blue"))
        watch.wait("Running", lambda: _state(watch.metrics()) == "Running")


def test_s24_a_rollback_by_hand_is_mended(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        charted.set(colour="blue")
        watch.wait("the upgrade", lambda: charted.settled("Hello from the todo backend", "blue"))
        charted.greet("edited")
        watch.wait("the edit", lambda: charted.served_greeting() == "edited")
        charted.helm("rollback", "todo", version=1)
        assert max(charted.records()) >= 3
        watch.wait("the tree again", lambda: charted.settled("edited", "blue"))


def test_s22_an_upgrade_by_hand_is_mended(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        values = charted.values | {"colour": "green"}
        charted.helm("upgrade", charted.root / "chart", "todo", values, namespace=charted.namespace)
        watch.wait("the tree again", lambda: charted.settled("Hello from the todo backend", "red"))


@pytest.mark.parametrize("also_helm", [True, False], ids=["and-its-helm", "alone"])
def test_s23_kill_9_in_mid_upgrade(charted: Charted, also_helm: bool) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        charted.set(colour="blue", slow=8)
        watch.wait("the upgrade", lambda: charted.status() == "pending-upgrade")
        helms = helm_pids(watch)
        assert helms
        os.kill(watch.process.pid, signal.SIGKILL)
        for pid in helms if also_helm else ():
            os.kill(pid, signal.SIGKILL)
        watch.process.wait(10)
    assert charted.status() == "pending-upgrade"
    charted.greet("after the crash")
    charted.set(colour="blue")
    with charted.watch("--no-logs") as watch:
        watch.wait("the tree", lambda: charted.settled("after the crash", "blue"))


def test_s23_kill_9_in_mid_install(charted: Charted) -> None:
    template = charted.root / "chart" / "templates" / "all.yaml"
    template.write_text(template.read_text().replace("pre-upgrade", "pre-install"))
    charted.set(slow=60)
    with charted.watch("--no-logs") as watch:
        watch.wait("the install", lambda: charted.status() == "pending-install")
        watch.wait("Installing", lambda: _state(watch.metrics()) == "Installing")
        for pid in (watch.process.pid, *helm_pids(watch)):
            os.kill(pid, signal.SIGKILL)
        watch.process.wait(10)
    charted.set(colour="blue")
    assert charted.once()["backend"]["outcome"] == "live"
    assert charted.settled("Hello from the todo backend", "blue")
    assert charted.records() == {1: "superseded", 2: "deployed"}


def test_a_secret_that_must_exist_is_named_and_waited_for(charted: Charted) -> None:
    charted.set(secret="made-by-hand")
    error = charted.once()["backend"]["error"]
    assert (error["stage"], error["reason"]) == ("patch", "MissingSecret")
    assert "Secret made-by-hand (asked for by deployment/todo-backend)" in error["message"]
    line = f"kubectl --context {charted.sandbox.context} -n {charted.namespace} create secret generic"
    assert line in error["hint"]
    assert charted.records() == {}, "nothing was installed that would hang"
    with charted.watch("--no-logs") as watch:
        watch.wait("the Secret is named", lambda: line in watch.text())
        charted.sandbox.kubectl(
            "-n", charted.namespace, "create", "secret", "generic", "made-by-hand", "--from-literal=KEY=value"
        )
        watch.wait("it goes on by itself", lambda: watch.live("backend"))


def test_s30_a_value_from_the_environment_is_on_no_command_line_and_in_no_output(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        charted.set(colour="blue", slow=5)
        watch.wait("the upgrade", lambda: charted.status() == "pending-upgrade")
        for pid in helm_pids(watch):
            assert b"very-secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        charted.set(colour=["no text"], replicas="postgresql://todo:very-secret-indeed@db/todo")
        watch.wait("a refusal", lambda: "helm upgrade" in watch.text())
    assert "very-secret" not in watch.text()
    journals = list(charted.sandbox.state.glob("devloop/*/journal*"))
    assert journals
    assert all("very-secret" not in journal.read_text() for journal in journals if journal.is_file())


def test_down_leaves_nothing_but_the_namespace(charted: Charted) -> None:
    charted.once()
    done = charted.devloop("down", "--yes")
    assert done.returncode == 0, done.stderr
    kubectl = charted.sandbox.kubectl
    left = kubectl("-n", charted.namespace, "get", "deploy,rs,svc,secret,cm", "-o", "name").split()
    assert [name for name in left if name != "configmap/kube-root-ca.crt"] == []
    assert kubectl("get", "namespace", charted.namespace, "-o", "name")
    assert charted.once()["backend"]["outcome"] == "live"


def test_down_knows_a_release_that_config_yaml_names_no_more(charted: Charted) -> None:
    charted.once()
    whole = charted.config.read_text()
    charted.config.write_text(re.sub(r"^releases:\n(?: .*\n)+", "", whole, flags=re.M))
    assert "releases:" not in charted.config.read_text()
    assert f"in namespace {charted.namespace}: made by this project" in charted.devloop("diff").stdout
    stranger = charted.root / "stranger.yaml"
    stranger.write_text(charted.config.read_text())
    assert "nothing of this project" in charted.devloop("-c", str(stranger), "down", "--yes").stdout
    done = charted.devloop("down", "--yes")
    assert "removed: release " in done.stdout, done.stdout + done.stderr
    assert charted.sandbox.kubectl("-n", charted.namespace, "get", "deploy,secret", "-o", "name") == ""


def test_a_pod_that_crashes_later_is_degraded_with_its_last_words(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        watch.wait("Running", lambda: _state(watch.metrics()) == "Running")
        names = charted.sandbox.docker("ps", "--format", "{{.Names}}").split()
        (container,) = [name for name in names if "k8s_backend_" in name and charted.namespace in name]
        charted.sandbox.docker("kill", container)
        watch.wait("Degraded", lambda: "degraded: not all of its pods are ready" in watch.text())
        watch.wait("recovery", lambda: "all of its pods are ready again" in watch.text())
    assert "container backend: exit code 137" in watch.text()
    assert "Application startup complete" in watch.text().partition("degraded: ")[2]


def _state(metrics: dict[str, float]) -> str:
    """The state that devloop_deployment_state says."""
    prefix = 'devloop_deployment_state{service="backend",state="'
    found = [name for name, value in metrics.items() if name.startswith(prefix) and value == 1]
    return found[0].removeprefix(prefix).partition('"')[0] if found else ""
