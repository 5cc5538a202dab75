"""The sample application, examples/todo: its images build, run as their documents say, and serve."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from devloop.config import load as config
from tests.support import schemas
from tests.support.buildkit import docker_cli
from tests.topologies.deployments import UMBRELLA

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "examples" / "todo"
PATIENCE_S = 30
# The images are built within the first test's time.
pytestmark = pytest.mark.timeout(300)
T = TypeVar("T")


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
    return done.stdout.strip()


def eventually(look: Callable[[], T | None]) -> T:
    end = time.monotonic() + PATIENCE_S
    while (seen := look()) is None:
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return seen


def ask(method: str, url: str, *, sent: object = None, form: dict[str, str] | None = None) -> httpx.Response:
    return httpx.request(method, url, json=sent, data=form, timeout=10)


def serving(url: str) -> httpx.Response | None:
    try:
        return ask("GET", url)
    except httpx.TransportError:
        return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Running:
    """Both containers on a network of their own, and where they are reached from here."""

    backend: str
    frontend: str
    containers: dict[str, str]
    images: dict[str, str]


@pytest.fixture(scope="module")
def base() -> str:
    return os.environ.get("DEVLOOP_TEST_BASE") or run(ROOT / "scripts" / "base-image")


@pytest.fixture(scope="module")
def sample(base: str) -> Iterator[Running]:
    name = f"devloop-test-sample-{uuid.uuid4().hex[:8]}"
    docker = docker_cli()
    images: dict[str, str] = {}
    containers: dict[str, str] = {}
    ports = {"backend": free_port(), "frontend": free_port()}
    try:
        run("docker", "network", "create", name)
        for service, inside in (("backend", 8001), ("frontend", 3000)):
            images[service] = f"{name}-{service}:1"
            bases = ["--build-arg", f"BASE={base}"]
            if service == "frontend":
                bases += ["--build-arg", f"BUILD_BASE={base}"]
            run(docker, "build", *bases, "-t", images[service], SAMPLE / service, DOCKER_BUILDKIT="1")
            containers[service] = f"{name}-{service}"
            run(
                *("docker", "run", "-d", "--name", containers[service], "--network", name),
                *("--network-alias", f"todo-{service}", "-e", "BACKEND_URL=http://todo-backend:8001"),
                *("-p", f"127.0.0.1:{ports[service]}:{inside}", images[service]),
            )
        backend, frontend = (f"http://127.0.0.1:{ports[service]}" for service in ("backend", "frontend"))
        eventually(lambda: serving(f"{backend}/health"))
        eventually(lambda: serving(f"{frontend}/"))
        yield Running(backend, frontend, containers, images)
    finally:
        for container in containers.values():
            subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)
        for image in images.values():
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", name], capture_output=True, check=False)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("service", "user", "port", "command"),
    [
        ("backend", "appuser", "8001/tcp", "uvicorn src.main:app --host 0.0.0.0 --port 8001"),
        ("frontend", "nextjs", "3000/tcp", "node server.js"),
    ],
)
def test_images_have_the_user_port_and_entry_point_of_their_document(
    sample: Running, service: str, user: str, port: str, command: str
) -> None:
    stated = json.loads(run("docker", "image", "inspect", sample.images[service]))[0]["Config"]
    assert stated["User"] == user
    assert list(stated["ExposedPorts"]) == [port]
    assert " ".join(stated["Cmd"]) == command
    assert run("docker", "exec", sample.containers[service], "id", "-u") == "1001"
    # Process 1 as the kernel sees it, so that a wrapper that changes the user would be noticed.
    status = run("docker", "exec", sample.containers[service], "cat", "/proc/1/status")
    assert "Uid:\t1001\t1001\t1001\t1001" in status


@pytest.mark.engine
def test_nothing_but_metadata_comes_after_the_sources(sample: Running) -> None:
    """An edit changes the last layers alone: what devloop's delta images build on."""
    for service, last in (("backend", "COPY src ./src"), ("frontend", "COPY /app/.next/static")):
        history = run("docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", sample.images[service])
        assert history.splitlines()[0].startswith(last)


@pytest.mark.engine
def test_backend_keeps_tasks_with_the_fields_of_the_data_model(sample: Running) -> None:
    tasks = f"{sample.backend}/api/tasks"
    added = ask("POST", f"{tasks}?user_id=ann", sent={"title": "Milk"})
    assert added.status_code == 201
    task = added.json()
    assert set(task) == {
        *("id", "title", "description", "completed", "priority", "user_id", "created_at", "updated_at")
    }
    assert (task["title"], task["description"], task["completed"]) == ("Milk", None, False)
    assert (task["priority"], task["user_id"]) == ("medium", "ann")
    assert task["created_at"] == task["updated_at"]
    assert task["created_at"].endswith(("+00:00", "Z"))

    one = f"{tasks}/{task['id']}?user_id=ann"
    assert ask("GET", one).json() == task
    changed = ask("PATCH", one, sent={"completed": True, "priority": "high"}).json()
    assert (changed["title"], changed["completed"], changed["priority"]) == ("Milk", True, "high")
    assert changed["updated_at"] > task["updated_at"]
    assert ask("GET", f"{tasks}?user_id=ann").json() == [changed]
    assert ask("DELETE", one).status_code == 204
    assert ask("GET", one).status_code == 404
    assert ask("GET", f"{tasks}?user_id=ann").json() == []


@pytest.mark.engine
def test_a_user_reaches_no_task_of_another(sample: Running) -> None:
    tasks = f"{sample.backend}/api/tasks"
    task = ask("POST", f"{tasks}?user_id=ann", sent={"title": "Ann's"}).json()
    foreign = f"{tasks}/{task['id']}?user_id=bob"
    assert ask("GET", foreign).status_code == 404
    assert ask("PATCH", foreign, sent={"title": "Bob's"}).status_code == 404
    assert ask("DELETE", foreign).status_code == 404
    assert ask("GET", f"{tasks}?user_id=bob").json() == []
    assert ask("GET", f"{tasks}/{task['id']}?user_id=ann").json() == task


@pytest.mark.engine
@pytest.mark.parametrize("sent", [{}, {"title": ""}, {"title": "x", "priority": "urgent"}])
def test_backend_refuses_a_task_that_breaks_the_model(sample: Running, sent: dict[str, str]) -> None:
    assert ask("POST", f"{sample.backend}/api/tasks", sent=sent).status_code == 422


@pytest.mark.engine
def test_frontend_shows_and_changes_what_the_backend_holds(sample: Running) -> None:
    greeting = ask("GET", f"{sample.backend}/api/version").json()["greeting"]
    assert greeting in ask("GET", sample.frontend).text

    added = ask("POST", f"{sample.frontend}/tasks", form={"title": "<b>bold</b>", "priority": "low"})
    assert added.status_code == 303
    assert "&lt;b&gt;bold&lt;/b&gt;" in ask("GET", sample.frontend).text

    task = ask("GET", f"{sample.backend}/api/tasks").json()[-1]
    assert (task["title"], task["priority"]) == ("<b>bold</b>", "low")
    for action, completed in (("complete", True), ("reopen", False)):
        assert ask("POST", f"{sample.frontend}/tasks/{task['id']}/{action}").status_code == 303
        assert ask("GET", f"{sample.backend}/api/tasks/{task['id']}").json()["completed"] is completed
    assert ask("POST", f"{sample.frontend}/tasks/{task['id']}/delete").status_code == 303
    assert "bold" not in ask("GET", sample.frontend).text


@pytest.mark.engine
def test_frontend_hands_the_backends_api_through(sample: Running) -> None:
    """The backend's Service is a ClusterIP: from outside its answers are read through the NodePort."""
    assert (
        ask("GET", f"{sample.frontend}/api/version").json()
        == ask("GET", f"{sample.backend}/api/version").json()
    )
    made = ask("POST", f"{sample.frontend}/api/tasks?user_id=eve", sent={"title": "through"})
    assert made.status_code == 201
    assert ask("GET", f"{sample.backend}/api/tasks?user_id=eve").json() == [made.json()]
    assert ask("GET", f"{sample.frontend}/api/tasks/none").status_code == 422


@pytest.mark.engine
def test_frontend_serves_what_its_build_made(sample: Running) -> None:
    page = ask("GET", sample.frontend).text
    stylesheet = page.split('rel="stylesheet" href="')[1].split('"')[0]
    assert ask("GET", sample.frontend + stylesheet).text == (SAMPLE / "frontend/src/style.css").read_text()
    assert "<svg" in ask("GET", f"{sample.frontend}/icon.svg").text
    assert ask("GET", f"{sample.frontend}/server.js").status_code == 404


@pytest.mark.engine
def test_frontend_answers_its_probe_while_the_backend_is_down(sample: Running, base: str) -> None:
    run("docker", "pause", sample.containers["backend"])
    try:
        answer = ask("GET", sample.frontend)
    finally:
        run("docker", "unpause", sample.containers["backend"])
    assert answer.status_code == 200
    assert "The backend does not answer" in answer.text
    assert "http://todo-backend:8001" in answer.text


@pytest.mark.engine
def test_a_probe_of_the_frontend_does_not_reach_the_backend(sample: Running) -> None:
    """Two replicas and two probes, every second: the backend's log is for people."""
    run("docker", "pause", sample.containers["backend"])
    try:
        answer = httpx.get(sample.frontend, headers={"User-Agent": "kube-probe/1.36"}, timeout=10)
    finally:
        run("docker", "unpause", sample.containers["backend"])
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.engine
def test_both_end_by_themselves_at_sigterm(sample: Running) -> None:
    """Exit code 0 and not 137 (killed after the grace period): no rollout waits for one to pass."""
    for container in sample.containers.values():
        run("docker", "stop", "--time", "10", container)
        state = json.loads(run("docker", "inspect", container))[0]["State"]
        assert state["ExitCode"] == 0
        run("docker", "start", container)


def objects() -> dict[tuple[str, str], Any]:
    found = {}
    for file in sorted((SAMPLE / "k8s").glob("*.yaml")):
        for thing in yaml.safe_load_all(file.read_text()):
            schemas.validate(thing, "1.36")
            found[thing["kind"], thing["metadata"]["name"]] = thing
    return found


def test_manifests_hold_the_objects_and_keys_of_the_document() -> None:
    found = objects()
    assert set(found) == {
        (kind, f"todo-{service}{suffix}")
        for service in ("backend", "frontend")
        for kind, suffix in (
            ("Deployment", ""),
            ("Service", ""),
            ("ConfigMap", "-config"),
            ("Secret", "-secrets"),
        )
    }
    keys = {name: set(thing["data"]) for (_, name), thing in found.items() if "data" in thing}
    assert keys == {
        "todo-backend-config": {
            *("BACKEND_URL", "BETTER_AUTH_URL", "LLM_PROVIDER", "RATE_LIMIT_DEFAULT"),
            "ACCESS_TOKEN_EXPIRE_MINUTES",
        },
        "todo-frontend-config": {"BACKEND_URL", "BETTER_AUTH_URL"},
        "todo-backend-secrets": {
            *("DATABASE_URL", "DATABASE_URL_NEON", "BETTER_AUTH_SECRET"),
            *("OPENAI_API_KEY", "GROQ_API_KEY", "GEMINI_API_KEY"),
        },
        "todo-frontend-secrets": {"BETTER_AUTH_SECRET", "DATABASE_URL", "DATABASE_URL_NEON"},
    }


def test_secrets_have_the_shape_that_their_keys_promise() -> None:
    found = objects()
    backend, frontend = (
        {
            key: base64.b64decode(value, validate=True).decode()
            for key, value in found["Secret", f"todo-{service}-secrets"]["data"].items()
        }
        for service in ("backend", "frontend")
    )
    assert backend["DATABASE_URL"].startswith("postgresql+asyncpg://")
    assert backend["DATABASE_URL_NEON"].startswith("postgresql://")
    assert len(backend["BETTER_AUTH_SECRET"]) >= 32
    assert backend["BETTER_AUTH_SECRET"] == frontend["BETTER_AUTH_SECRET"]


@pytest.mark.parametrize(
    ("service", "replicas", "port", "path", "limits"),
    [
        ("frontend", 2, 3000, "/", {"cpu": "250m", "memory": "256Mi"}),
        ("backend", 1, 8001, "/health", {"cpu": "500m", "memory": "512Mi"}),
    ],
)
def test_workloads_are_as_the_document_says(
    service: str, replicas: int, port: int, path: str, limits: dict[str, str]
) -> None:
    found = objects()
    spec = found["Deployment", f"todo-{service}"]["spec"]
    labels = {"app.kubernetes.io/name": service}
    assert spec["replicas"] == replicas
    assert spec["selector"]["matchLabels"] == labels
    assert labels.items() <= spec["template"]["metadata"]["labels"].items()
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == f"todo-{service}:1.0.0"
    assert container["imagePullPolicy"] == "Never"
    assert [entry["containerPort"] for entry in container["ports"]] == [port]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": limits}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": path, "port": port}
        assert (container[probe].get("initialDelaySeconds", 0), container[probe]["periodSeconds"]) == (0, 1)

    exposed = found["Service", f"todo-{service}"]["spec"]
    assert exposed["selector"] == labels
    (served,) = exposed["ports"]
    assert served["targetPort"] == port
    if service == "frontend":
        assert (exposed["type"], served["port"], served["nodePort"]) == ("NodePort", 80, 30080)
    else:
        assert (exposed["type"], served["port"]) == ("ClusterIP", 8001)


@pytest.mark.parametrize("file", ["config.yaml", "config.manifests.yaml"])
def test_configs_at_the_root_point_at_the_sample(file: str) -> None:
    loaded = config.load(ROOT / file)
    assert loaded.cluster.context == "minikube"
    services = {service.name: service for service in loaded.services()}
    assert set(services) == {"backend", "frontend"}
    for name, service in services.items():
        assert service.image == f"todo-{name}"
        assert service.build.context == SAMPLE / name
        assert service.build.dockerfile == SAMPLE / name / "Dockerfile"
        assert service.build.dockerfile.is_file()
        assert [(target.kind, target.name) for target in service.targets] == [("deployment", f"todo-{name}")]
    plain = set((SAMPLE / "k8s").glob("*.yaml")) if "manifests" in file else set()
    assert set(loaded.manifest_files()) == plain
    assert bool(loaded.releases()) is not bool(plain)


def test_config_at_the_root_deploys_the_umbrella_chart_with_quick_probes() -> None:
    loaded = config.load(ROOT / "config.yaml")
    (release,) = loaded.releases()
    quick = yaml.safe_load((ROOT / "charts" / "todo-chatbot" / "values-dev.yaml").read_text())
    assert release.values[0].path == ROOT / "charts" / "todo-chatbot" / "values-dev.yaml"
    for service in ("backend", "frontend"):
        assert release.images[service] == f"{service}.image"
        for probe in ("livenessProbe", "readinessProbe"):
            settings = quick[service][probe]
            assert (settings["initialDelaySeconds"], settings["periodSeconds"]) == (0, 1)
    # What the tests of the topology install is what this config says, but for the port.
    topology = UMBRELLA.releases["todo-chatbot"]
    written = yaml.safe_load((ROOT / "config.yaml").read_text())["releases"]["todo-chatbot"]
    assert topology["values"][0] == written["values"][0]
    assert {key: written[key] for key in ("chart", "namespace", "images")} == {
        key: topology[key] for key in ("chart", "namespace", "images")
    }
