"""What people do beside `once` and `watch`: diff, rollback, resume, down, and kubectl or helm by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devloop.config.load import project_id
from tests.e2e.conftest import new_charted, new_project
from tests.support.charted_project import Charted
from tests.support.sample_project import BASE, Project, Sandbox, Watch

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(400)]
HELLO = "Hello from the todo backend"
DUMMY = "c2stbG9jYWwtb25seQ=="  # OPENAI_API_KEY of the sample's Secret: sk-local-only


@pytest.fixture
def backend(sandbox: Sandbox, tmp_path: Path) -> Iterator[Project]:
    """The sample's backend alone, from its plain manifests."""
    made = new_project(sandbox, tmp_path / "todo")
    made.config.write_text(config_of(made, "k8s/backend.yaml"))
    yield made
    made.remove()


@pytest.fixture
def charted(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Charted]:
    monkeypatch.setenv("DATABASE_URL", "postgresql://todo:very-secret-indeed@db/todo")
    made = new_charted(sandbox, tmp_path / "todo")
    yield made
    made.remove()


def config_of(project: Project, manifests: str) -> str:
    return f"""\
version: 1
cluster: {{context: {project.sandbox.context}, namespace: {project.namespace}}}
services:
  backend:
    image: todo-backend-{project.namespace}
    build: {{context: backend, args: {{BASE: "{BASE}"}}}}
    deploy: {{deployment: todo-backend}}
manifests: [{manifests}]
metrics: {{listen: "127.0.0.1:{project.metrics_port}"}}
"""


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def objects(project: Project, kinds: str = "deploy,svc,cm,secret") -> dict[str, str]:
    """Name -> resourceVersion of what is in the namespace."""
    listed = project.sandbox.kubectl("-n", project.namespace, "get", kinds, "-o", "json")
    metas = [(item["kind"], item["metadata"]) for item in json.loads(listed)["items"]]
    return {f"{kind}/{meta['name']}": meta["resourceVersion"] for kind, meta in metas}


def spec(project: Project) -> dict[str, Any]:
    found = project.sandbox.get(f"/apis/apps/v1/namespaces/{project.namespace}/deployments/todo-backend")
    assert found, "no deployment todo-backend"
    return dict(found["spec"])


def image(project: Project) -> str:
    return str(spec(project)["template"]["spec"]["containers"][0]["image"])


def served(project: Project) -> str | None:
    return project.served_greeting_inside("todo-backend")


def setting(project: Project, key: str) -> str:
    label = "labelSelector=app.kubernetes.io/name%3Dbackend"
    found = project.sandbox.get(f"/api/v1/namespaces/{project.namespace}/configmaps?{label}")
    return str(found["items"][0]["data"].get(key)) if found and found["items"] else ""


# --- diff ---------------------------------------------------------------------------------------


def test_diff_shows_what_once_would_change_and_changes_nothing(backend: Project) -> None:
    before = objects(backend)
    everything = backend.devloop("diff")
    assert everything.returncode == 1, everything.stderr
    assert f"+++ tree {backend.namespace}/deployment/todo-backend" in everything.stdout
    assert DUMMY not in everything.stdout
    assert "sk-local-only" not in everything.stdout
    assert objects(backend) == before, "nothing was made"

    assert backend.once()["backend"]["outcome"] == "live"
    nothing = backend.devloop("diff")
    assert (nothing.returncode, nothing.stdout.strip()) == (0, "nothing would change")

    manifests = backend.root / "k8s" / "backend.yaml"
    replace(manifests, "RATE_LIMIT_DEFAULT: 5/minute", "RATE_LIMIT_DEFAULT: 6/minute")
    replace(manifests, DUMMY, "c2stbmV2ZXItc2hvd24=")
    before = objects(backend)
    some = backend.devloop("diff")
    assert some.returncode == 1, some.stderr
    changed = [
        line for line in some.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert [line for line in changed if "RATE" in line] == [
        "-  RATE_LIMIT_DEFAULT: 5/minute",
        "+  RATE_LIMIT_DEFAULT: 6/minute",
    ]
    masks = [line for line in changed if "OPENAI_API_KEY" in line]
    assert [line[0] for line in masks] == ["-", "+"]
    assert all("*** (" in line for line in masks)
    assert "c2stbmV2ZXItc2hvd24=" not in some.stdout
    assert len(changed) == 4, "the live image is no change, whatever tag the file has"
    assert objects(backend) == before


def test_diff_of_a_release_has_the_live_image_and_no_value_from_the_environment(charted: Charted) -> None:
    assert charted.once()["backend"]["outcome"] == "live"
    charted.greet("edited")
    assert charted.once()["backend"]["outcome"] == "live"
    assert charted.devloop("diff").returncode == 0
    records = charted.records()
    charted.set(colour="blue")
    found = charted.devloop("diff")
    assert found.returncode == 1, found.stderr
    changed = [
        line for line in found.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert changed == ["-  colour: red", "+  colour: blue"]
    assert "very-secret" not in found.stdout + found.stderr
    assert (charted.colour(), charted.records()) == ("red", records)


# --- rollback and resume ------------------------------------------------------------------------


def edited(project: Project, watch: Watch, text: str) -> str:
    project.greet(text)
    watch.wait(f"{text} served", lambda: served(project) == text)
    watch.wait("live", lambda: watch.state() == "live")
    return image(project)


def test_s24_rollback_holds_the_earlier_image_and_resume_lifts_it(backend: Project) -> None:
    with backend.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.state() == "live")
        one, two = edited(backend, watch, "one"), edited(backend, watch, "two")

        done = backend.devloop("rollback", "backend")
        assert done.returncode == 0, done.stderr
        assert f"held at {one}" in done.stdout
        watch.wait("the earlier image", lambda: served(backend) == "one")
        watch.wait("held", lambda: watch.state() == "held")

        trips = len(watch.trips("backend"))
        backend.greet("two")  # the identical content, saved again
        watch.wait("a trip of that save", lambda: len(watch.trips("backend")) > trips)
        assert watch.trips("backend")[-1]["outcome"] == "held"
        assert image(backend) == one
        assert backend.once()["backend"]["outcome"] == "held"
        status = json.loads(backend.devloop("status", "--json").stdout)["services"]["backend"]
        assert (status["state"], status["running"]) == ("held", [one])

        assert backend.devloop("resume", "backend").returncode == 0
        watch.wait("the tree again", lambda: served(backend) == "two" and image(backend) == two)

        assert backend.devloop("rollback", "backend").returncode == 0
        watch.wait("held again", lambda: served(backend) == "one" and watch.state() == "held")
        three = edited(backend, watch, "three")  # another content lifts the hold
        assert three not in (one, two)


def test_s24_rollback_passes_over_what_crashed_and_waits_for_what_was_live(backend: Project) -> None:
    with backend.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.state() == "live")
        one = edited(backend, watch, "one")
        backend.greeting.write_text("GREETING = (\n")
        watch.wait("it crashed", lambda: watch.state() == "failed")
        crashed = image(backend)
        three = edited(backend, watch, "three")
        assert len({one, crashed, three}) == 3

        done = backend.devloop("rollback", "backend")
        assert (done.returncode, served(backend)) == (0, "one"), done.stderr
        assert image(backend) == one
        watch.wait("held", lambda: watch.state() == "held")


def test_s24_a_rollback_that_does_not_get_ready_says_why_and_how_to_leave(backend: Project) -> None:
    backend.once()
    backend.greet("two")
    backend.once()
    command = {"spec": {"template": {"spec": {"containers": [
        {"name": "backend", "command": ["sh", "-c", "echo no database; exit 3"]}]}}}}  # fmt: skip
    backend.sandbox.kubectl(
        "-n", backend.namespace, "patch", "deploy", "todo-backend", "-p", json.dumps(command)
    )
    done = backend.devloop("rollback", "backend")
    assert done.returncode == 1
    assert "no database" in done.stderr
    assert "devloop resume backend" in done.stderr
    assert "held at" not in done.stdout


def test_s24_without_records_a_rollback_says_so(backend: Project) -> None:
    backend.once()
    first = image(backend)
    backend.greet("two")
    backend.once()
    state = backend.sandbox.state / "devloop" / project_id(backend.config) / "lived.json"
    state.unlink()
    done = backend.devloop("rollback", "backend")
    assert (done.returncode, image(backend)) == (0, first), done.stderr
    assert f"no record that {first} was ever live" in done.stdout


def test_s24_nothing_earlier_and_no_such_service_are_reported(backend: Project) -> None:
    backend.once()
    before = image(backend)
    done = backend.devloop("rollback", "backend")
    assert done.returncode == 1
    assert "no earlier live image" in done.stderr
    assert image(backend) == before
    notes = backend.sandbox.kubectl(
        "-n", backend.namespace, "get", "deploy", "todo-backend", "-o", "jsonpath={.metadata.annotations}"
    )
    assert "dev.devloop/hold" not in notes
    assert backend.devloop("rollback", "other").returncode == 2


# --- taken down by hand under a running watch ---------------------------------------------------


def test_s26_down_under_a_watch_is_refused_and_deleted_manifests_come_back(backend: Project) -> None:
    kubectl = backend.sandbox.kubectl
    with backend.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.state() == "live")
        before = objects(backend)
        done = backend.devloop("down", "--yes")
        assert done.returncode == 3
        assert f"pid {watch.process.pid}" in done.stderr
        assert objects(backend) == before, "nothing was removed"

        uid = kubectl(
            "-n", backend.namespace, "get", "deploy", "todo-backend", "-o", "jsonpath={.metadata.uid}"
        )
        kubectl("-n", backend.namespace, "delete", "-f", str(backend.root / "k8s" / "backend.yaml"))
        watch.wait("the tree again", lambda: served(backend) == HELLO and watch.state() == "live")
        assert objects(backend).keys() >= before.keys()
        again = kubectl(
            "-n", backend.namespace, "get", "deploy", "todo-backend", "-o", "jsonpath={.metadata.uid}"
        )
        assert again != uid
    done = backend.devloop("down", "--yes")
    assert done.returncode == 0, done.stderr
    assert "Deployment/todo-backend" not in objects(backend)


def test_helm_uninstall_under_a_watch_is_mended(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        assert charted.helm("uninstall", "todo") == ""
        watch.wait("installed again", lambda: charted.settled(HELLO, "red"))
        watch.wait("live", lambda: watch.live("backend"))
        assert "release todo: installed" in watch.text().partition("live in")[2]
        done = charted.devloop("down", "--yes")
        assert done.returncode == 3
        assert charted.status() == "deployed"


# --- kustomizations, prerequisites, states, rules -----------------------------------------------


def test_a_kustomization_from_nothing_to_rolling_and_down(backend: Project) -> None:
    base, dev = backend.root / "deploy" / "base", backend.root / "deploy" / "dev"
    base.mkdir(parents=True)
    dev.mkdir()
    (backend.root / "k8s" / "backend.yaml").rename(base / "backend.yaml")
    (base / "kustomization.yaml").write_text("resources: [backend.yaml]\n")
    overlay = "resources: [../base]\nimages: [{{name: {0}, newTag: from-kustomize}}]\n"
    (dev / "kustomization.yaml").write_text(overlay.format(f"todo-backend-{backend.namespace}"))
    backend.config.write_text(config_of(backend, "deploy/dev"))

    assert backend.once()["backend"]["outcome"] == "live"
    assert ":dl-" in image(backend), "the live tag wins over newTag"
    assert backend.once()["backend"]["outcome"] == "unchanged"
    assert backend.devloop("diff").returncode == 0
    assert "kubectl: new enough for the kustomizations deploy/dev" in backend.devloop("doctor").stdout
    with backend.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.state() == "live")
        replace(base / "backend.yaml", "RATE_LIMIT_DEFAULT: 5/minute", "RATE_LIMIT_DEFAULT: 6/minute")
        watch.wait("the base's change", lambda: setting(backend, "RATE_LIMIT_DEFAULT") == "6/minute")
        patch = backend.root / "deploy" / "patch.yaml"
        patch.write_text('- {op: replace, path: /data/LLM_PROVIDER, value: "one"}\n')
        with (dev / "kustomization.yaml").open("a") as file:
            file.write("patches: [{path: ../patch.yaml, target: {kind: ConfigMap}}]\n")
        # kustomize refuses what lies outside of the folder: reported, and nothing changes.
        watch.wait("kustomize's own words", lambda: "kubectl kustomize: " in watch.text())
        watch.wait("why", lambda: "is not in or below" in watch.text())
        assert setting(backend, "LLM_PROVIDER") == "groq"
        (dev / "patch.yaml").write_text(patch.read_text())
        replace(dev / "kustomization.yaml", "../patch.yaml", "patch.yaml")
        watch.wait("the patch", lambda: setting(backend, "LLM_PROVIDER") == "one")
        replace(dev / "patch.yaml", '"one"', '"two"')
        watch.wait("a file that is named since", lambda: setting(backend, "LLM_PROVIDER") == "two")
        backend.greet("edited")
        watch.wait("an edit", lambda: served(backend) == "edited")
    assert backend.devloop("down", "--yes").returncode == 0
    assert {name for name in objects(backend) if "todo-backend" in name} == set()


def test_a_secret_that_plain_manifests_need_is_named_and_waited_for(backend: Project) -> None:
    manifests = backend.root / "k8s" / "backend.yaml"
    replace(
        manifests, "name: todo-backend-secrets\n          resources", "name: by-hand\n          resources"
    )
    done = backend.devloop("once", "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["services"]["backend"]["error"]
    assert (error["stage"], error["reason"]) == ("patch", "MissingSecret")
    assert "Secret by-hand" in error["message"]
    kubectl = ("kubectl", "--context", backend.sandbox.context, "-n", backend.namespace)
    line = f"{' '.join(kubectl)} create secret generic by-hand"
    assert line in error["hint"]
    assert "Deployment/todo-backend" not in objects(backend), "nothing was made that would hang"
    assert "Service/todo-backend" in objects(backend), "everything else was"
    with backend.watch("--no-logs") as watch:
        watch.wait("the Secret is named", lambda: line in watch.text())
        words = ("create", "secret", "generic", "by-hand", "--from-literal=KEY=value")
        backend.sandbox.kubectl("-n", backend.namespace, *words)
        watch.wait("it goes on by itself", lambda: watch.state() == "live")


def test_status_shows_what_devloop_does_with_manifests(backend: Project) -> None:
    backend.once()
    for word, state in (("upgrading", "Upgrading"), ("uninstalling", "Uninstalling")):
        note = f"dev.devloop/state={word}"
        words = ("annotate", "--overwrite", "deploy", "todo-backend", note)
        backend.sandbox.kubectl("-n", backend.namespace, *words)
        found = json.loads(backend.devloop("status", "--json").stdout)["services"]["backend"]
        assert (found["deployment"], found["state"]) == (state, "live")
    replace(backend.root / "k8s" / "backend.yaml", "cpu: 100m", "cpu: 110m")
    backend.once()  # a mark that a killed devloop left is gone with the next one
    assert "dev.devloop/state" not in backend.sandbox.kubectl(
        "-n", backend.namespace, "get", "deploy", "todo-backend", "-o", "jsonpath={.metadata.annotations}"
    )
    assert "Running" in backend.devloop("status").stdout


def test_a_running_watch_shows_new_findings_when_a_chart_changes(charted: Charted) -> None:
    with charted.watch("--no-logs") as watch:
        watch.wait("the first trip", lambda: watch.live("backend"))
        watch.wait("the first judgement", lambda: "(devloop check)" in watch.text())
        template = charted.root / "chart" / "templates" / "all.yaml"
        replace(template, "data: {colour:", "data: {API_PASSWORD: hunter2hunter2, colour:")
        finding = "ConfigMap settings: "
        watch.wait("what is new", lambda: finding in watch.text())
        line = next(text for text in watch.text().splitlines() if finding in text)
        assert line.startswith("check: warning: ")
        assert "chart/templates/all.yaml:" in line
        assert "[configmap-credential]" in line
        replace(template, "API_PASSWORD: hunter2hunter2, ", "")
        watch.wait("that it is gone", lambda: "1 gone" in watch.text())
        assert watch.text().count(finding) == 1, "only what is new is shown"
