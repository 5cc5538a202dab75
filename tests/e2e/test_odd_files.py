# ruff: noqa: E501 - tables of texts
"""Half-written and odd files under a running watch: each is named, and the next good save counts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_charted
from tests.support.charted_project import Charted
from tests.support.sample_project import Project, Sandbox, Watch

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(600)]

CM = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd%s}\n%s\n"
MANIFESTS = (  # what the file holds; what devloop says about it
    ("apiVersion: v1\nkind: List\nitems: 5\n", "items: a number where a list is expected"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n", "metadata.name is missing"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [a]}\n", "a list where a text is expected"),
    ("kind: List\nitems: [1, a, null]\napiVersion: v1\n", "a number where a mapping is expected"),
    (CM % ("", "data: {x: .nan}"), "is a number that JSON does not have"),
    (CM % ("", "data: &a {x: *a}"), "contains itself"),
    (CM % ("", "data: {x: " + "[" * 3000), "nested deeper than"),
    ("a: \x07\n", "control characters are not allowed"),
    ("\tb\n", "cannot start any token"),
    ("? {a: b}\n: c\n", "a key that is a mapping or a list"),
)
CONFIGS: tuple[tuple[Callable[[str], str], str], ...] = (
    (lambda text: text.replace("k8s/*.yaml", "k8s/**.yaml"), '"\\*\\*" stands alone'),
    (lambda text: text.replace("args: {BASE", 'args: {"A=B": x, BASE'), "A=B: a name of a build argument"),
    (lambda text: text.replace("args: {BASE", 'args: {A: "x\\0", BASE'), "a NUL character"),
    (lambda text: text.replace("context: backend", f"context: {'a' * 5000}"), "is not a folder"),
    (lambda text: text + "gc: {keep: !!int ''}\n", "not a value that YAML knows"),
    (lambda text: text + "x: " + "[" * 3000, "nested deeper than"),
)


def reported(watch: Watch, what: str, since: int) -> bool:
    import re

    return re.search(what, watch.text()[since:]) is not None


def after(watch: Watch, act: Callable[[], object], what: str) -> None:
    """Do it, and wait until it is reported; nothing of it is a fault of devloop's own."""
    since = len(watch.text())
    act()
    watch.wait(f"{what!r} is reported", lambda: reported(watch, what, since), 60)
    assert "Traceback" not in watch.text()
    assert "internal error" not in watch.text()


@pytest.fixture
def charted(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Charted]:
    monkeypatch.setenv("DATABASE_URL", "sqlite:////tmp/todo.db")
    made = new_charted(sandbox, tmp_path / "shop")
    yield made
    made.remove()


def instead(path: Path, put: Callable[[Path], object]) -> Callable[[], None]:
    """What takes the file's place, put there by a rename's worth of time."""

    def act() -> None:
        path.unlink()
        put(path)

    return act


def test_odd_manifests_configs_and_kinds_of_files_end_no_watch(project: Project) -> None:
    odd = project.root / "k8s" / "odd.yaml"
    good = project.config.read_text()
    with project.watch() as watch:
        watch.wait("everything is live", watch.live)
        for text, what in MANIFESTS:
            after(watch, lambda text=text: odd.write_text(text), what)  # type: ignore[misc]
        odd.write_text(CM % ("", "data: {day: 2024-05-01, at: 12:30, on: '1'}"))
        kubectl = ("get", "configmap", "odd", "-n", project.namespace, "-o", "jsonpath={.data}")
        watch.wait(
            "the values are those that kubectl sends",
            lambda: (
                project.sandbox.kubectl(*kubectl, check=False)
                == '{"at":"12:30","day":"2024-05-01","true":"1"}'
            ),
            60,
        )
        for change, what in CONFIGS:
            after(watch, lambda change=change: project.config.write_text(change(good)), what)  # type: ignore[misc]
        after(watch, instead(project.config, os.mkfifo), "a FIFO, not a file")
        after(watch, instead(project.config, Path.mkdir), "a folder, not a file|Is a directory")
        project.config.rmdir()
        project.config.write_text(good)
        dockerfile = project.root / "backend" / "Dockerfile"
        text = dockerfile.read_text()
        after(watch, instead(dockerfile, os.mkfifo), "a FIFO, not a file")
        after(watch, instead(dockerfile, Path.mkdir), "a folder, not a file|Is a directory")
        dockerfile.rmdir()
        dockerfile.write_text(text)
        project.greet("after all that")
        watch.wait("the next good save counts", lambda: project.served_greeting() == "after all that")
        watch.wait("everything is live again", watch.live)
        assert watch.stop() == 130
    assert "Traceback" not in watch.text()


CHARTS = (  # (file of the chart, its content or None = a folder, what is reported)
    ("templates/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cc\ndata:\n  a: b\n c: d\n", "todo"),
    ("templates/c.yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {}\n", "metadata.name is missing"),
    ("templates/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n", "metadata.name is missing"),
    ("templates/c.yaml", "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: c, env: {A: b}}]}}}\n", "env: a mapping where a list is expected"),
    ("templates/c.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [null]}\n", r"containers\[0\] is empty"),
    ("templates/c.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {volumes: [a]}\n", r"volumes\[0\]: a text"),
    ("templates/c.yaml", "{{ .Values.none.of }}\n", "todo"),
    ("Chart.yaml", "a: [\n", "todo"),
    ("values.yaml", "a: [\n", "values.yaml"),
    ("../values.yaml", "- a\n", "a mapping is expected"),
    ("../values.yaml", "a: {b: !!int ''}\n", "cannot decode"),
    ("../values.yaml", None, "a folder, not a file|Is a directory"),
)  # fmt: skip


def test_odd_charts_and_values_end_no_watch(charted: Charted) -> None:
    chart = charted.root / "chart"
    with charted.watch() as watch:
        watch.wait("the backend is live", lambda: watch.live("backend"))
        for name, text, what in CHARTS:
            path = (chart / name).resolve()
            good = path.read_text() if path.exists() else None

            def write(path: Path = path, text: str | None = text) -> None:
                if text is None:
                    path.unlink()
                    path.mkdir()
                else:
                    path.write_text(text)

            after(watch, write, what)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            if good is not None:
                path.write_text(good)
        charted.set(colour="2024-02-30", replicas=1)
        watch.wait("a day that is none is a text", lambda: charted.colour() == "2024-02-30", 60)
        charted.greet("after all charts")
        watch.wait(
            "the next good save counts", lambda: watch.live("backend") and len(watch.trips("backend")) > 1
        )
    assert "Traceback" not in watch.text()
    assert "internal error" not in watch.text()


FAULT = """
import sys
from devloop import cli
from devloop.commands.watch_tasks import TidyUp
from devloop.inputs import fingerprinter
from devloop.rollout import state_monitor
from devloop.sinks import metrics
from devloop.watch import watcher

def planted(owner, name, times):
    kept, left = getattr(owner, name), [times]
    def fault(*args, **more):
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError(f"planted in {name}")
        return kept(*args, **more)
    setattr(owner, name, fault)

planted(fingerprinter.TreeFingerprinter, "take", 2)
planted(metrics.Metrics, "__call__", 1)
planted(state_monitor, "deployment_state", 1)
planted(watcher.Watcher, "_deliver_when_quiet", 1)
planted(TidyUp, "remove_after_trips", 1)
cli.main()
"""


def test_faults_of_devloops_own_are_reported_and_the_rest_runs_on(project: Project) -> None:
    """Planted in a trip, a sink, what follows states, the watcher of files and the garbage collector."""
    environ = {**project.sandbox.environ, "PYTHONPATH": str(Path.cwd())}
    command = (*project.command("watch")[:1], "-c", FAULT, *project.command("watch")[3:])
    earlier = set(project.sandbox.state.rglob("internal-error-*.txt"))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=project.root, env=environ
    )
    watch = Watch(process, project.metrics_port)
    try:
        watch.wait("everything is live all the same", watch.live)
        output = watch.text()
        assert output.count("internal error in the trip of ") == 2
        for what in ("_deliver_when_quiet", "remove_after_trips", "deployment_state", "__call__"):
            assert f"planted in {what}" in output, output
        project.greet("the watcher is there again")
        watch.wait("saves count", lambda: project.served_greeting() == "the watcher is there again")
        reports = set(project.sandbox.state.rglob("internal-error-*.txt")) - earlier
        assert len(reports) >= 5
        assert all("ZeroDivisionError" in one.read_text() for one in reports)
        assert "Traceback" not in watch.text()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
    assert json.dumps(watch.lines)
