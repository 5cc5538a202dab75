"""The sample's backend as a project with one Helm release, and Helm by hand beside it."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.sample_project import BASE, SAMPLE, Project, Watch

# Helm by hand, as a user's own: the library, signing as the command does.
PROGRAM = """
import json, os, sys
import helm_python as helm
asked = json.load(sys.stdin)
with helm.Config(kubeconfig_path=asked["kubeconfig"], namespace=asked["namespace"]) as config:
    try:
        getattr(config, asked["action"])(*asked["args"], **asked["options"])
    except helm.HelmError as error:
        print(error)
"""
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: {{ .Values.colour }}}
---
apiVersion: v1
kind: Service
metadata: {name: todo-backend}
spec:
  type: NodePort
  selector: {app: todo-backend}
  ports: [{port: 8001, targetPort: 8001, nodePort: {{ .Values.nodePort }}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: todo-backend}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: todo-backend}}
  template:
    metadata: {labels: {app: todo-backend}}
    spec:
      containers:
        - name: backend
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          env:
            - {name: DATABASE_URL, value: {{ .Values.databaseUrl | quote }}}
            - {name: BETTER_AUTH_SECRET, value: for-local-use-only-for-local-use-only}
          {{- with .Values.secret }}
          envFrom: [{secretRef: {name: {{ . }}}}]
          {{- end }}
          readinessProbe: {httpGet: {path: /health, port: 8001}, periodSeconds: 1}
{{- if .Values.slow }}
---
apiVersion: v1
kind: Pod
metadata:
  name: slow
  annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: slow, image: "{{ .Values.base }}", command: [sleep, "{{ .Values.slow }}"]}]
{{- end }}
"""


@dataclass
class Charted(Project):
    """`values` is what chart/values.yaml says; `name` the release's."""

    values: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Charted:
        shutil.copytree(SAMPLE / "backend", self.root / "backend", dirs_exist_ok=True)
        chart = self.root / "chart"
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: todo\nversion: 0.1.0\n")
        (chart / "templates" / "all.yaml").write_text(TEMPLATE)
        image = {"repository": "none", "tag": "latest", "pullPolicy": "Always"}
        self.values = {"colour": "red", "nodePort": self.node_port, "replicas": 1, "image": image}
        self.values |= {"secret": "", "slow": 0, "base": BASE, "databaseUrl": ""}
        (chart / "values.yaml").write_text(json.dumps(self.values))
        self.set()
        self.config.write_text(f"""\
version: 1
cluster: {{context: {self.sandbox.context}, namespace: {self.namespace}}}
services:
  backend:
    image: todo-backend-{self.namespace}
    build: {{context: backend, args: {{BASE: "{BASE}"}}}}
    deploy: {{deployment: todo-backend}}
releases:
  todo:
    chart: chart
    values: [values.yaml]
    set_env: {{databaseUrl: DATABASE_URL}}
    images: {{backend: image}}
metrics: {{listen: "127.0.0.1:{self.metrics_port}"}}
""")
        return self

    def set(self, **values: Any) -> None:
        """What values.yaml beside config.yaml says from now on."""
        (self.root / "values.yaml").write_text(json.dumps(values))

    def colour(self) -> str:
        found = self.sandbox.get(f"/api/v1/namespaces/{self.namespace}/configmaps/settings")
        return str(found["data"]["colour"]) if found else ""

    def records(self) -> dict[int, str]:
        """Revision -> status label of each of the release's records."""
        found = self.sandbox.get(f"/api/v1/namespaces/{self.namespace}/secrets?labelSelector=owner%3Dhelm")
        labels = [item["metadata"]["labels"] for item in found["items"]] if found else []
        return {int(one["version"]): one["status"] for one in labels}

    def status(self) -> str:
        """The newest revision's."""
        found = self.records()
        return found[max(found)] if found else ""

    def note(self) -> str:
        """The newest revision's description."""
        name = f"sh.helm.release.v1.todo.v{max(self.records())}"
        found = self.sandbox.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        assert found, f"no Secret {name}"
        text = found["data"]["release"]
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(text))))
        return str(release["info"]["description"])

    def helm(self, action: str, *args: Any, **options: Any) -> str:
        """Helm by hand; what it refused with, "" if it did not."""
        asked = {
            "kubeconfig": str(self.sandbox.kubeconfig),
            "namespace": self.namespace,
            "action": action,
            "args": [str(arg) if isinstance(arg, Path) else arg for arg in args],
            "options": options,
        }
        done = subprocess.run(
            (sys.executable, "-c", PROGRAM), input=json.dumps(asked), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def settled(self, greeting: str, colour: str) -> bool:
        """Whether pods and objects are what the tree says, and the release is in order."""
        return (
            self.status() == "deployed"
            and self.colour() == colour
            and self.served_greeting() == greeting
            and self.note().startswith("devloop ")
        )

    def pod_image(self) -> str:
        found = self.sandbox.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/todo-backend")
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""


def helm_pids(watch: Watch) -> list[int]:
    """The helm processes that a running devloop has started."""
    import psutil

    return [child.pid for child in psutil.Process(watch.process.pid).children(recursive=True)]
