"""A project of services that do nothing: each a text file in an image, quick to build and to roll."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.sample_project import TINY, Project

DOCKERFILE = f"""\
FROM {TINY}
COPY . /app/
CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.2; done"]
"""


@dataclass
class Small(Project):
    """`containers`: workload -> its containers, each a service of that name. All in one manifest."""

    containers: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"web": ("web",)})
    kind: str = "Deployment"
    init: tuple[str, ...] = ()  # those of the containers that are init containers
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)  # container id -> its text, and when

    def make(self) -> Small:
        for name in self.services:
            self.write(name, "v1")
            (self.root / name / "Dockerfile").write_text(DOCKERFILE if name not in self.init else INIT)
        (self.root / "k8s").mkdir()
        for workload in self.containers:
            self.manifest(workload).write_text(self._workload(workload))
        self.config.write_text(self.text())
        return self

    @property
    def services(self) -> list[str]:
        return [name for names in self.containers.values() for name in names]

    def text(self, **services: str) -> str:
        """config.yaml; `services`: name -> its line, "" leaves it out."""
        lines = {name: self.service(name) for name in self.services} | services
        logs = "\n".join(f"  {name}: {line}" for name, line in lines.items() if line)
        return f"""\
version: 1
cluster: {{context: {self.sandbox.context}, namespace: {self.namespace}}}
services:
{logs}
manifests: [k8s/*.yaml]
metrics: {{listen: "127.0.0.1:{self.metrics_port}"}}
"""

    def service(self, name: str, args: str = "", workload: str = "", folder: str = "") -> str:
        workload = workload or next(one for one, names in self.containers.items() if name in names)
        own = f", container: {name}" if len(self.containers.get(workload, ())) > 1 else ""
        given = f", args: {{A: {args}}}" if args else ""
        return (
            f"{{image: {self.image(name)}, build: {{context: {folder or name}{given}}}, "
            f"deploy: {{{self.kind.lower()}: {workload}{own}}}}}"
        )

    def image(self, name: str) -> str:
        return f"small-{name}-{self.namespace}"

    def manifest(self, workload: str) -> Path:
        return self.root / "k8s" / f"{workload}.yaml"

    def write(self, name: str, text: str) -> None:
        """Edit the service's only file."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.txt").write_text(f"{text}\n")

    def served(self, name: str, workload: str = "") -> str:
        """What the container of the workload's only ready pod holds, "" while there is none."""
        workload = workload or next(one for one, names in self.containers.items() if name in names)
        pods = self.sandbox.pods(self.namespace, f"app={workload}")
        alive = [pod for pod in pods if _runs(pod)]
        if len(alive) != 1:
            return ""
        instance = _instance(alive[0], name)
        text, seen = self._seen.get(instance, ("", 0.0))
        if time.monotonic() - seen > 1:  # a running container seldom changes its files, and an exec is dear
            pod = alive[0]["metadata"]["name"]
            words = ("exec", "-n", self.namespace, pod, "-c", name, "--", "cat", "/app/main.txt")
            text = self.sandbox.kubectl(*words, check=False).strip()
            if instance and text:
                self._seen[instance] = (text, time.monotonic())
        return text

    def _workload(self, name: str) -> str:
        listed = {"containers": "", "initContainers": ""}
        for container in self.containers[name]:
            kind = "initContainers" if container in self.init else "containers"
            listed[kind] += f"      - {{name: {container}, image: {self.image(container)}}}\n"
        containers = "".join(f"      {kind}:\n{lines}" for kind, lines in listed.items() if lines)
        service = "  serviceName: none\n" if self.kind == "StatefulSet" else ""
        return f"""\
apiVersion: apps/v1
kind: {self.kind}
metadata: {{name: {name}}}
spec:
  replicas: 1
{service}  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
{containers}"""


INIT = f"""\
FROM {TINY}
COPY . /app/
CMD ["/bin/true"]
"""


def _runs(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _instance(pod: dict[str, Any], container: str) -> str:
    """The id of the running container, "" while it does not run."""
    for status in pod["status"].get("containerStatuses", ()):
        if status["name"] == container and "running" in status.get("state", {}):
            return str(status.get("containerID", ""))
    return ""
