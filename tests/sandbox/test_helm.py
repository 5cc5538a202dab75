"""Helm 4 itself (as a library, in a process of its own) against a running sandbox."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(240)]

CHART = """apiVersion: v2
name: demo
version: 0.1.0
"""
TEMPLATE = """apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}, labels: {app: {{ .Release.Name }}}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: main, image: "{{ .Values.image }}"}]}
"""
LIFE = """
import sys
import helm_python as helm
kubeconfig, chart, namespace = sys.argv[1:]
with helm.Config(kubeconfig_path=kubeconfig, namespace=namespace) as config:
    print(config.install(chart, "demo", {"replicas": 0, "image": "a:1"})["status"])
    print(config.upgrade(chart, "demo", {"replicas": 0, "image": "a:2"})["revision"])
    config.rollback("demo", version=1)
    print([entry["revision"] for entry in config.history("demo")])
    print(config.get_values("demo")["image"])
"""
END = """
import sys
import helm_python as helm
with helm.Config(kubeconfig_path=sys.argv[1], namespace=sys.argv[2]) as config:
    config.uninstall("demo")
"""


def run(program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_s22_install_upgrade_rollback_and_uninstall(sandbox: Sandbox, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(CHART)
    (tmp_path / "values.yaml").write_text("{}\n")
    (tmp_path / "templates" / "all.yaml").write_text(TEMPLATE)
    output = run(LIFE, str(sandbox.kubeconfig), str(tmp_path), namespace)
    assert output.splitlines() == ["deployed", "2", "[1, 2, 3]", "a:1"]
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    assert sandbox.kubectl("get", "deployment", "demo", "-n", namespace, "-o", path).stdout == "a:1"
    secrets = sandbox.kubectl("get", "secrets", "-n", namespace, "-o", "jsonpath={.items[*].type}").stdout
    assert secrets.split() == ["helm.sh/release.v1"] * 3
    run(END, str(sandbox.kubeconfig), namespace)
    assert sandbox.kubectl("get", "deploy,svc,secret", "-n", namespace, "-o", "name").stdout == ""


def test_s22_an_upgrade_after_a_foreign_patch_is_a_conflict(
    sandbox: Sandbox, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(CHART)
    (tmp_path / "values.yaml").write_text("{}\n")
    (tmp_path / "templates" / "all.yaml").write_text(TEMPLATE)
    life = LIFE.split("    print(config.upgrade")[0]
    run(life, str(sandbox.kubeconfig), str(tmp_path), namespace)
    sandbox.kubectl("set", "image", "deployment/demo", "main=a:9", "-n", namespace, "--field-manager=devloop")
    again = life.replace("config.install", "config.upgrade")
    with pytest.raises(AssertionError, match='conflict with "devloop" using apps/v1'):
        run(again.replace("a:1", "a:2"), str(sandbox.kubeconfig), str(tmp_path), namespace)
    run(again.replace("a:1", "a:9"), str(sandbox.kubeconfig), str(tmp_path), namespace)
