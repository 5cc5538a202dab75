"""Bad input that only a trip meets: what `once` says of it, that `watch` lives on, and how both end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import new_namespace
from tests.support.sample_project import Sandbox, Watch
from tests.support.small_project import DOCKERFILE, Small

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Bad:
    """`change` makes a sound project bad; `code` is once's; `says`: what both show of it."""

    change: Callable[[Small], object]
    code: int
    says: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)


def dockerfile(text: str) -> Callable[[Small], object]:
    return lambda small: (small.root / "web" / "Dockerfile").write_text(text)


def manifest(text: str, name: str = "web.yaml") -> Callable[[Small], object]:
    return lambda small: (small.root / "k8s" / name).write_text(text)


def config(old: str, new: str) -> Callable[[Small], object]:
    return lambda small: small.config.write_text(re.sub(old, new, small.config.read_text()))


def other_token(small: Small) -> None:
    """A kubeconfig whose credentials the server no longer knows."""
    entries = yaml.safe_load(small.sandbox.kubeconfig.read_text())
    entries["users"][0]["user"] = {"token": "expired"}
    small.kubeconfig = small.root / "expired"
    small.kubeconfig.write_text(yaml.safe_dump(entries))


BAD = {
    "an engine that is away": Bad(
        lambda _: None,
        3,
        (
            "engine unix:///nowhere.sock (from DOCKER_HOST) is not reachable: No such file",
            "is the engine running?",
        ),
        {"DOCKER_HOST": "unix:///nowhere.sock"},
    ),
    "a Dockerfile with a syntax error": Bad(
        dockerfile("FROM\n"), 1, ("web |   Dockerfile:1: FROM requires either one or three arguments",)
    ),
    "an unknown instruction": Bad(dockerfile(f"{DOCKERFILE}COPIE . .\n"), 1, ("unknown instruction: COPIE",)),
    "a source that is not there": Bad(
        dockerfile(DOCKERFILE.replace("COPY .", "COPY nope")),
        1,
        ("nope", "check its path, and that .dockerignore"),
    ),
    "an ignore file with a syntax error": Bad(
        lambda small: (small.root / "web" / ".dockerignore").write_text("[\n"),
        1,
        (".dockerignore:1: syntax error in pattern",),
    ),
    "a stage that is not there": Bad(
        config(r"\{context: web\}", "{context: web, target: nope}"),
        1,
        ('target stage "nope" could not be found',),
    ),
    "a broken manifest": Bad(
        manifest("a: ["),
        1,
        ("web |   ", "k8s/web.yaml:2: a value is missing, or a bracket is not closed", "-> mend it"),
    ),
    "a manifest without a kind": Bad(
        manifest("apiVersion: v1\nmetadata: {name: x}\n"),
        1,
        ("k8s/web.yaml:1: not a Kubernetes object: kind is missing",),
    ),
    "a manifest that is a list": Bad(manifest("- a\n"), 1, ("a list where a mapping is expected",)),
    "another manifest that is broken": Bad(
        manifest("a: [", "x.yaml"), 2, ("manifests | ", "k8s/x.yaml:2: a value is missing", "web | live in ")
    ),
    "a namespace that is not there": Bad(
        config(r"namespace: \S+\}", "namespace: gone-today}"),
        1,
        ("Namespace gone-today", "create namespace gone-today"),
    ),
    "such a namespace without manifests": Bad(
        lambda small: (
            config(r"namespace: \S+\}", "namespace: gone-today}")(small),
            config(r"manifests: .*\n", "")(small),
        ),
        1,
        ("namespace gone-today does not exist in context", "create namespace gone-today"),
    ),
    "a workload that is nowhere": Bad(
        lambda small: (small.root / "k8s" / "web.yaml").unlink(),
        1,
        ("deployment/web does not exist in namespace", "list its file under manifests:"),
    ),
    "expired credentials": Bad(
        other_token, 3, ("does not accept the credentials of context", "kubectl --context")
    ),
}


@pytest.fixture
def small(sandbox: Sandbox, tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path / "project", sandbox, new_namespace(sandbox))
    made.root.mkdir()
    made.make()
    yield made
    made.remove()


def clean(text: str) -> str:
    """What no message may show."""
    for raw in ("Traceback", "Errno", "internal error", "ssl:default"):
        assert raw not in text, text
    return text


@pytest.mark.parametrize("name", BAD)
def test_once_and_watch_on_bad_input(small: Small, name: str) -> None:
    bad = BAD[name]
    bad.change(small)
    environ = {**small.sandbox.environ, **bad.environ}
    done = subprocess.run(
        small.command("once"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=small.root,
        env=environ,
    )
    text = clean(done.stdout + done.stderr)
    assert done.returncode == bad.code, text
    for words in bad.says:
        assert words in text, text
    process = subprocess.Popen(
        small.command("watch"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=small.root,
        env=environ,
    )
    watch = Watch(process, small.metrics_port)
    try:
        for words in (words for words in bad.says if not words.startswith("web | live")):
            watch.wait(words, lambda: words in watch.text())  # noqa: B023
    finally:
        assert watch.stop() == 130
    clean(watch.text())


def test_a_state_directory_that_cannot_be_written_stops_nothing(small: Small) -> None:
    if os.geteuid():
        pytest.skip("needs root to mount")
    state = small.root / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(state)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = subprocess.run(
            small.command("once"), capture_output=True, text=True, check=False, timeout=120, cwd=small.root,
            env={**small.sandbox.environ, "XDG_STATE_HOME": str(state)},
        )  # fmt: skip
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert done.returncode == 0, clean(done.stdout + done.stderr)
    assert "web | live in " in done.stdout


def test_a_busy_port_where_the_config_is_strict(small: Small) -> None:
    with socket.create_server(("127.0.0.1", small.metrics_port)):
        small.config.write_text(small.config.read_text().replace("metrics: {", "metrics: {strict: true, "))
        done = small.devloop("watch", seconds=60)
    assert done.returncode == 3
    assert f"port {small.metrics_port} on 127.0.0.1 is in use by " in clean(done.stderr)
    assert "metrics: {listen:" in done.stderr
