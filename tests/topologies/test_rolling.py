"""Each of the five from nothing to rolling on save: what was built, rolled, left alone, by the metrics."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.sample_project import Project, Sandbox, Watch
from tests.topologies.deployments import ALL, UMBRELLA, Topology, base
from tests.topologies.http_checks import CHECKS, Check, reached, wait_for_backend_data
from tests.topologies.test_deployed import free_node_port, sandbox

__all__ = ["sandbox"]
pytestmark = [pytest.mark.engine, pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(580)]


SECONDS = 180.0  # for one edit: a frontend's build on a busy machine takes its time


@dataclass(frozen=True, slots=True)
class Edits:
    """Files below the project: what says the greeting, a source of the frontend; a chart value that is
    replaced, and the Deployment that then has so many replicas; what both images hold."""

    greeting: str
    frontend: str
    values: str
    old: str
    new: str
    scaled: str
    replicas: int
    release: str = "todo-chatbot"
    shared: str = ""


EDITS = {
    "000-umbrella": Edits(
        "backend/src/greeting.py", "frontend/src/page.js",
        "charts/todo-chatbot/values.yaml", "replicaCount: 2", "replicaCount: 3", "todo-frontend", 3,
    ),
    "001-root-context": Edits(
        "backend/greeting.py", "frontend/src/page.js",
        "helm/todo-chatbot/values.yaml", "frontend: 2", "frontend: 3", "todo-chatbot-frontend", 3,
        shared="shared/version.txt",
    ),
    "002-split-contexts": Edits(
        "src/backend/main.py", "src/frontend/src/app.js",
        "helm/todo-chatbot/values.yaml", "replicaCount: 1", "replicaCount: 2", "todo-chatbot-backend", 2,
    ),
    "003-stages-and-secrets": Edits(
        "backend/main.py", "frontend/src/page.js",
        "helm/todo-chatbot/values.yaml", "replicaCount: 1", "replicaCount: 2", "todo-chatbot-frontend", 2,
    ),
    "004-two-charts": Edits(
        "backend/main.py", "frontend/src/page.js",
        "charts/todo-backend/values.yaml", "replicaCount: 1", "replicaCount: 2", "todo-backend", 2,
        release="todo-backend",
    ),
}  # fmt: skip


class Rolling(Project):
    """A copy of a topology's folder, with the local bases and the sandbox's context in its config.yaml."""

    def __init__(self, topology: Topology, root: Path, sandbox: Sandbox) -> None:
        super().__init__(root, sandbox, topology.namespace)
        self.topology = topology

    def make(self) -> Rolling:
        skip = shutil.ignore_patterns("node_modules", ".next", "__pycache__")
        if self.topology is UMBRELLA:
            shutil.copytree(self.topology.folder / "examples" / "todo", self.root, ignore=skip)
            shutil.copytree(self.topology.chart("todo-chatbot"), self.root / "charts" / "todo-chatbot")
            config: dict[str, Any] = self._umbrella()
        else:
            shutil.copytree(self.topology.folder, self.root, ignore=skip)
            config = yaml.safe_load(self.config.read_text())
        config["cluster"]["context"] = self.sandbox.context
        config["metrics"] = {"listen": f"127.0.0.1:{self.metrics_port}"}
        for service, bases in self.topology.bases.items():
            args = config["services"][service]["build"].setdefault("args", {})
            args |= {key: base(option) for key, option in bases.items()}
        if self.topology.node_port:
            first = next(iter(config["releases"].values()))
            first["set"] = {self.topology.node_port: free_node_port()}
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        return self

    def _umbrella(self) -> dict[str, Any]:
        services = {
            service: {
                "image": f"todo-{service}",
                "build": {"context": service},
                "deploy": {"deployment": f"todo-{service}"},
            }
            for service in ("backend", "frontend")
        }
        cluster = {"namespace": self.namespace}
        return {
            "version": 1, "cluster": cluster, "services": services, "releases": dict(self.topology.releases)
        }  # fmt: skip

    def ready(self, deployment: str) -> int:
        found = self.sandbox.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{deployment}")
        return int(found["status"].get("readyReplicas", 0)) if found else 0

    def revisions(self) -> dict[str, int]:
        """Release -> its newest revision, all of them deployed."""
        listed = self.sandbox.get(f"/api/v1/namespaces/{self.namespace}/secrets?labelSelector=owner%3Dhelm")
        labels = [item["metadata"]["labels"] for item in listed["items"]] if listed else []
        return {one["name"]: int(one["version"]) for one in labels if one["status"] == "deployed"}

    @contextmanager
    def asked(self) -> Iterator[tuple[Check, str]]:
        check = CHECKS[self.topology.name]
        forward = (
            "kubectl", "--kubeconfig", str(self.sandbox.kubeconfig), "--context", self.sandbox.context
        )  # fmt: skip
        with reached(check, self.sandbox.kubectl, forward) as url:
            yield check, url


@pytest.fixture(params=ALL, ids=lambda topology: topology.name)
def project(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Iterator[Rolling]:
    topology: Topology = request.param
    made = Rolling(topology, tmp_path / "project", sandbox).make()
    for words in topology.before:
        sandbox.kubectl(*words)
    yield made
    if made.revisions():  # where the test did not come to its end
        made.devloop("down", "--yes")
    made.remove_images()
    if topology.before:
        sandbox.kubectl("delete", "namespace", topology.namespace, "--timeout=60s", check=False)


def counts(watch: Watch) -> dict[str, tuple[float, ...]]:
    """Service -> (live trips, builds, loads) so far."""
    found = watch.metrics()

    def total(name: str, service: str, more: str = "") -> float:
        wanted = f'service="{service}"'
        return sum(
            value for key, value in found.items() if key.startswith(name) and wanted in key and more in key
        )

    return {
        service: (
            total("devloop_trips_total", service, 'outcome="live"'),
            total("devloop_builds_total", service),
            total("devloop_loads_total", service),
        )
        for service in ("backend", "frontend")
    }


def test_from_nothing_to_rolling_on_save(
    project: Rolling, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in project.topology.environ.items():
        monkeypatch.setenv(name, value)
    edits = EDITS[project.topology.name]
    outcomes = project.once()
    results = {name: (one["outcome"], one["error"]) for name, one in outcomes.items()}
    assert results == {"backend": ("live", None), "frontend": ("live", None)}
    assert set(project.revisions().values()) == {1}, "installed, and not upgraded at once"
    with project.asked() as (check, url):
        wait_for_backend_data(check, url)
    with project.watch("--no-logs") as watch:
        watch.wait("the start", lambda: watch.live("backend", "frontend"), SECONDS)
        start = counts(watch)
        assert {service: builds for service, (_, builds, _) in start.items()} == {"backend": 0, "frontend": 0}

        greeting = project.root / edits.greeting
        edited = f"Hello, edited {time.time_ns()}"  # an image of it may be left from an earlier run
        greeting.write_text(greeting.read_text().replace(check.greeting, edited))
        watch.wait("the backend's edit", lambda: counts(watch)["backend"][0] == 1, SECONDS)
        assert counts(watch) == {"backend": (1, 1, 1), "frontend": start["frontend"]}
        with project.asked() as (check, url):
            wait_for_backend_data(check, url, greeting=edited)

        page = project.root / edits.frontend
        page.write_text(page.read_text() + f"// {edited}\n")
        watch.wait("the frontend's edit", lambda: counts(watch)["frontend"][0] == 1, SECONDS)
        assert counts(watch) == {"backend": (1, 1, 1), "frontend": (1, 1, 1)}
        both = 1
        if edits.shared:
            (project.root / edits.shared).write_text("9.9.9\n")
            both = 2
            watch.wait("both", lambda: [one[0] for one in counts(watch).values()] == [2, 2], SECONDS)
        assert set(project.revisions().values()) == {1}, "edits of sources upgrade no release"

        values = project.root / edits.values
        values.write_text(values.read_text().replace(edits.old, edits.new, 1))
        upgraded = {name: 2 if name == edits.release else 1 for name in project.topology.releases}
        watch.wait("the upgrade", lambda: project.revisions() == upgraded, SECONDS)
        watch.wait("the replicas", lambda: project.ready(edits.scaled) == edits.replicas, SECONDS)
        assert counts(watch) == {"backend": (both, both, both), "frontend": (both, both, both)}
        with project.asked() as (check, url):
            wait_for_backend_data(check, url, greeting=edited)
    done = project.devloop("down", "--yes")
    assert done.returncode == 0, done.stderr
    kinds = "deployments,replicasets,services,ingresses,configmaps,secrets"
    left = sandbox.kubectl("-n", project.namespace, "get", kinds, "-o", "name", check=False).split()
    by_hand = {f"secret/{words[3]}" for words in project.topology.before if words[1] == "secret"}
    own = {"service/kubernetes", "configmap/kube-root-ca.crt"}
    assert set(left) - own == by_hand
