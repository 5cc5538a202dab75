"""What the user sees on bad days. docs/troubleshooting.md shows exactly these outputs: DEVLOOP_WRITE_DOCS=1
writes them again, otherwise a difference fails."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.sample_project import BASE, DEVLOOP, ROOT, Project

pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.timeout(300)]

PAGE = ROOT / "docs" / "troubleshooting.md"
HEX, ID = re.compile(r"\bdl-[0-9a-f]{16}\b"), re.compile(r"\b[0-9a-f]{32,64}\b")
SECONDS = re.compile(r"\b\d+(?:\.\d+)? m?s\b")
POD = re.compile(r"\b(todo-\w+)-[0-9a-f]{6,10}-[0-9a-z]{5}\b")


def neutral(text: str, project: Project) -> str:
    """The output without what differs from run to run."""
    text = text.replace(str(project.root), "~/todo").replace(
        str(project.sandbox.kubeconfig), "~/.kube/config"
    )
    text = text.replace(f"-{project.namespace}:", ":").replace(project.namespace, "default")
    text = text.replace(project.sandbox.context, "devloop-sandbox").replace(BASE, "python:3.11-slim")
    text = HEX.sub("dl-0123456789abcdef", text)
    text = SECONDS.sub("N s", ID.sub("…", text))
    text = POD.sub(r"\1-7d9c5b6f4d-x2x9z", text)
    text = re.sub(r"\bbackend/[0-9a-z]{5} \|", "backend/x2x9z |", text)
    text = re.sub(r"pid \d+", "pid 4711", text)
    text = re.sub(r"\b(?:172|10|192)\.\d+\.\d+\.\d+(:\d+)?", "10.0.0.7", text)
    text = re.sub(r"\b(todo-\w+)-[0-9a-f]{8,10}\b", r"\1-7d9c5b6f4d", text)
    text = re.sub(r"\d+ times", "3 times", text)
    return _settled(text.rstrip())


def _settled(text: str) -> str:
    """Without what depends on who was faster: refused probes, lines repeated, a stage's reason."""
    lines = [line for line in text.splitlines() if "connection refused" not in line or "dial tcp 127" in line]
    lines = [line for line in lines if not re.search(r"\| (rollout N s|  \| BackOff: )", line)]
    return "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line != before)


def documented(name: str, shown: str) -> None:
    """The page has exactly this block under `name`."""
    page = PAGE.read_text()
    pattern = re.compile(rf"(<!-- output: {name} -->\n```\n).*?(\n```)", re.S)
    assert pattern.search(page), f"docs/troubleshooting.md has no block {name}"
    if os.environ.get("DEVLOOP_WRITE_DOCS"):
        PAGE.write_text(pattern.sub(lambda m: m[1] + shown + m[2], page))
        return
    found = pattern.search(page)
    assert found
    assert found[0].split("```\n", 1)[1].rsplit("\n```", 1)[0] == shown


def failure_of(done: subprocess.CompletedProcess[str], project: Project, service: str = "backend") -> str:
    """The lines from the headline of the failure on, without the summary table."""
    lines = neutral(done.stdout, project).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"{service} | FAILED"))
    block = [line for line in lines[begin:] if line.startswith(f"{service} |")]
    return "\n".join(block)


def crash_of(done: subprocess.CompletedProcess[str], project: Project) -> str:
    """The first exit with its log, then the failure; how many exits came between is the kubelet's affair."""
    lines = neutral(done.stdout, project).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("backend | container backend of"))
    log = list(itertools.takewhile(lambda line: line.startswith("backend |   |"), lines[begin + 1 :]))
    return "\n".join([lines[begin], *log, failure_of(done, project)])


def test_a_bad_dockerfile(project: Project) -> None:
    dockerfile = project.root / "backend" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "RUN echo compiling && false\n")
    done = project.devloop("once", "backend")
    assert done.returncode == 1
    shown = failure_of(done, project)
    assert "RUN echo compiling && false" in shown
    assert "Dockerfile:" in shown
    documented("bad-dockerfile", shown)


def test_a_syntax_error_in_the_service_and_the_next_good_save(project: Project) -> None:
    good = project.greeting.read_text()
    assert project.once("backend")["backend"]["outcome"] == "live"
    project.greeting.write_text("GREETING = \n")
    done = project.devloop("once", "backend")
    assert done.returncode == 1
    shown = crash_of(done, project)
    assert "FAILED in rollout after N s: SyntaxError: invalid syntax (greeting.py, line 1)" in shown
    assert shown.count("\nbackend |   | SyntaxError: invalid syntax") == 1
    ready = project.sandbox.kubectl(
        "get", "deploy", "todo-backend", "-n", project.namespace, "-o", "jsonpath={.status.availableReplicas}"
    )
    assert ready == "1", "the old pod keeps serving"
    documented("syntax-error", shown)
    project.greeting.write_text(good + "# mended\n")
    assert project.once("backend")["backend"]["outcome"] == "live"


def test_a_failing_probe(project: Project) -> None:
    manifest = project.root / "k8s" / "backend.yaml"
    text = manifest.read_text().replace("path: /health", "path: /healthy")
    text = re.sub(r"(\n  replicas: 1\n)", r"\1  progressDeadlineSeconds: 10\n", text)
    text = re.sub(r"\n +livenessProbe:(?:\n {12,}.*)+", "", text)
    manifest.write_text(text)
    done = project.devloop("once", "backend")
    assert done.returncode == 1, done.stdout
    shown = failure_of(done, project)
    assert "ProgressDeadlineExceeded" in shown
    assert shown.count("Readiness probe failed") == 1
    assert "404" in shown
    documented("failing-probe", shown)


def test_a_base_image_that_cannot_be_had(project: Project) -> None:
    config = project.config.read_text()
    project.config.write_text(
        re.sub(r'args: \{BASE: "[^"]*"\}', 'args: {BASE: "127.0.0.1:1/nowhere:1"}', config, count=1)
    )
    done = project.devloop("once", "backend")
    assert done.returncode == 1, done.stdout + done.stderr
    documented("missing-base", failure_of(done, project))


def test_a_missing_deployment(project: Project) -> None:
    project.config.write_text(re.sub(r"manifests: .*\n", "", project.config.read_text()))
    done = project.devloop("once", "backend")
    assert done.returncode == 1, done.stdout + done.stderr
    documented("missing-deployment", failure_of(done, project))


def test_a_stopped_engine(project: Project) -> None:
    environ = {**project.sandbox.environ, "DOCKER_HOST": "unix:///var/run/stopped.sock"}
    done = subprocess.run(
        project.command("once", "backend"),
        capture_output=True, text=True, check=False, timeout=60, cwd=project.root, env=environ,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    documented("stopped-engine", failure_of(done, project))


def test_a_stopped_api_server(project: Project, tmp_path: Path) -> None:
    gone = tmp_path / "kubeconfig"
    gone.write_text(
        re.sub(r"https://127.0.0.1:\d+", "https://127.0.0.1:1", project.sandbox.kubeconfig.read_text())
    )
    done = subprocess.run(
        (*DEVLOOP, "once", "--kubeconfig", str(gone)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=project.root,
        env=project.sandbox.environ,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    documented("stopped-api-server", neutral(done.stderr, project).replace(str(gone), "~/.kube/config"))


def test_a_busy_port(project: Project) -> None:
    """The next free one is taken, and found by the other commands."""
    with socket.create_server(("127.0.0.1", project.metrics_port)), project.watch() as watch:
        watch.wait("the first trip", lambda: re.search(r"^backend \| (live|unchanged)", watch.text(), re.M))
        shown = project.devloop("status", "backend").stdout
    port = project.metrics_port
    assert re.search(rf"port {port} is in use by \S+ \(pid \d+\): metrics on http://127", watch.text())
    assert re.search(r"^backend .* live *$", shown, re.M), shown


def test_a_busy_port_with_strict_metrics(project: Project) -> None:
    text = project.config.read_text()
    assert "metrics: {" in text
    project.config.write_text(text.replace("metrics: {", "metrics: {strict: true, "))
    with socket.create_server(("127.0.0.1", project.metrics_port)):
        done = project.devloop("watch", seconds=60)
    assert done.returncode == 3
    shown = neutral(done.stderr, project)
    assert f"port {project.metrics_port}" in shown
    shown = shown.replace(str(project.metrics_port), "9100").replace(str(project.metrics_port + 1), "9101")
    documented("busy-port", re.sub(r"in use by \S+", "in use by node_exporter", shown))


def test_a_bad_config(project: Project) -> None:
    project.config.write_text(project.config.read_text().replace("context: backend", "contxt: backend"))
    done = project.devloop("once", seconds=60)
    assert done.returncode == 2
    shown = neutral(done.stderr, project)
    assert "services.backend.build" in shown
    documented("bad-config", shown)
