"""Helm 4 as a library, in a process of its own: releases as a chart's user makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.cluster import JSON_PATCH, Namespace, Object, name_of, uid
from tests.contract.objects import deployment, service

# One action per process: it loads tens of megabytes and threads of its own.
PROGRAM = """
import json, sys
import helm_python as helm
asked = json.load(sys.stdin)
try:
    with helm.Config(kubeconfig_path=asked["kubeconfig"], namespace=asked["namespace"]) as config:
        result = getattr(config, asked["action"])(*asked["args"], **asked["options"])
except helm.HelmError as error:
    result = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(result))
"""


class Helm:
    """A chart of one Deployment, one Service and one ConfigMap, and what Helm does with it."""

    def __init__(self, ns: Namespace, folder: Path) -> None:
        self.ns = ns
        self.chart = folder / "app"
        templates = self.chart / "templates"
        templates.mkdir(parents=True)
        values = {"image": "app:1", "replicas": 0, "colour": "red", "extra": True}
        web = deployment(name="web")
        web["spec"]["replicas"] = "REPLICAS"
        web["spec"]["template"]["spec"]["containers"][0]["image"] = "{{ .Values.image }}"
        web_text = yaml.safe_dump(web).replace("REPLICAS", "{{ .Values.replicas }}")
        settings = (
            "{{ if .Values.extra }}apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
            "  name: {{ .Release.Name }}-settings\ndata:\n  colour: {{ .Values.colour }}\n{{ end }}"
        )
        chart = {"apiVersion": "v2", "name": "app", "version": "0.1.0"}
        (self.chart / "Chart.yaml").write_text(yaml.safe_dump(chart))
        (self.chart / "values.yaml").write_text(yaml.safe_dump(values))
        (templates / "web.yaml").write_text(web_text)
        (templates / "service.yaml").write_text(yaml.safe_dump(service()))
        (templates / "settings.yaml").write_text(settings)

    def run(self, action: str, *args: Any, **options: Any) -> Any:
        """What the action gave, or {"error": text}."""
        asked = {
            "kubeconfig": str(self.ns.cluster.kubeconfig),
            "namespace": self.ns.name,
            "action": action,
            "args": [str(self.chart) if arg is Path else arg for arg in args],
            "options": options,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def ok(self, action: str, *args: Any, **options: Any) -> Any:
        result = self.run(action, *args, **options)
        assert not (isinstance(result, dict) and "error" in result), result
        return result

    def install(self, **values: Any) -> Any:
        return self.ok("install", Path, "demo", values, namespace=self.ns.name)

    def upgrade(self, **values: Any) -> Any:
        return self.ok("upgrade", Path, "demo", values, namespace=self.ns.name)


@pytest.fixture
def helm(ns: Namespace, tmp_path: Path) -> Helm:
    return Helm(ns, tmp_path)


def image(ns: Namespace) -> str:
    web = ns.read("Deployment", "web")
    return str(web["spec"]["template"]["spec"]["containers"][0]["image"])


def releases(ns: Namespace) -> dict[str, str]:
    """Name of each release Secret -> the status it has."""
    secrets: list[Object] = ns.items("Secret", labelSelector="owner=helm,name=demo")
    return {name_of(s): s["metadata"]["labels"]["status"] for s in secrets}


def patch_image(ns: Namespace, value: str, manager: str) -> None:
    path = "/spec/template/spec/containers/0/image"
    operations = [{"op": "replace", "path": path, "value": value}]
    ns.patch(JSON_PATCH, "Deployment", "web", operations, fieldManager=manager)


def test_install_makes_the_objects_and_a_release(helm: Helm) -> None:
    """https://helm.sh/docs/intro/using_helm/#helm-install-installing-a-package"""
    helm.install()
    ns = helm.ns
    assert image(ns) == "app:1"
    assert ns.exists("Service", "web")
    assert ns.read("ConfigMap", "demo-settings")["data"] == {"colour": "red"}
    assert releases(ns) == {"sh.helm.release.v1.demo.v1": "deployed"}
    assert ns.read("Secret", "sh.helm.release.v1.demo.v1")["type"] == "helm.sh/release.v1"
    labels = ns.read("Deployment", "web")["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_second_install_of_a_name_is_refused(helm: Helm) -> None:
    """https://helm.sh/docs/helm/helm_install/"""
    helm.install()
    result = helm.run("install", Path, "demo", {}, namespace=helm.ns.name)
    assert "cannot reuse a name that is still in use" in result["error"]


def test_upgrade_changes_and_removes(helm: Helm) -> None:
    """https://helm.sh/docs/intro/using_helm/#helm-upgrade-and-helm-rollback-upgrading-a-release-and-recovering-on-failure"""
    helm.install()
    before = uid(helm.ns.read("Deployment", "web"))
    helm.upgrade(image="app:2", extra=False)
    assert image(helm.ns) == "app:2"
    assert uid(helm.ns.read("Deployment", "web")) == before
    assert not helm.ns.exists("ConfigMap", "demo-settings")
    assert releases(helm.ns) == {
        "sh.helm.release.v1.demo.v1": "superseded",
        "sh.helm.release.v1.demo.v2": "deployed",
    }


def test_upgrade_waits_for_the_pods(helm: Helm) -> None:
    """https://helm.sh/docs/helm/helm_upgrade/"""
    web = deployment()["spec"]["template"]["spec"]["containers"][0]["image"]
    helm.install(image=web)
    options = {"wait": "watcher", "timeout": 90, "namespace": helm.ns.name}
    helm.ok("upgrade", Path, "demo", {"image": web, "replicas": 1}, **options)
    assert helm.ns.read("Deployment", "web")["status"]["availableReplicas"] == 1


def test_rollback_brings_the_revision_back(helm: Helm) -> None:
    """https://helm.sh/docs/helm/helm_rollback/"""
    helm.install()
    helm.upgrade(image="app:2", extra=False)
    helm.ok("rollback", "demo", version=1)
    assert image(helm.ns) == "app:1"
    assert helm.ns.exists("ConfigMap", "demo-settings")
    assert releases(helm.ns)["sh.helm.release.v1.demo.v3"] == "deployed"
    revisions = [
        entry["revision"] if "revision" in entry else entry["version"] for entry in helm.ok("history", "demo")
    ]
    assert revisions == [1, 2, 3]


def test_uninstall_removes_all(helm: Helm) -> None:
    """https://helm.sh/docs/intro/using_helm/#helm-uninstall-uninstalling-a-release"""
    helm.install()
    helm.ok("uninstall", "demo")
    helm.ns.wait_gone("Deployment", "web")
    helm.ns.wait_gone("Service", "web")
    helm.ns.wait_gone("ConfigMap", "demo-settings")
    assert releases(helm.ns) == {}


def test_upgrade_over_a_foreign_change_is_a_conflict(helm: Helm) -> None:
    """https://helm.sh/docs/overview/#server-side-apply"""
    helm.install()
    patch_image(helm.ns, "app:2", "somebody")
    result = helm.run("upgrade", Path, "demo", {"image": "app:3"}, namespace=helm.ns.name)
    assert 'conflict with "somebody"' in result["error"]
    assert image(helm.ns) == "app:2"


def test_upgrade_to_the_value_of_a_foreign_change_passes(helm: Helm) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    helm.install()
    patch_image(helm.ns, "app:2", "somebody")
    helm.upgrade(image="app:2", colour="blue")
    assert image(helm.ns) == "app:2"
    assert helm.ns.read("ConfigMap", "demo-settings")["data"] == {"colour": "blue"}


def test_dry_run_on_the_server_makes_nothing(helm: Helm) -> None:
    """https://helm.sh/docs/helm/helm_install/"""
    options = {"dry_run": "server", "namespace": helm.ns.name}
    helm.ok("install", Path, "demo", {}, **options)
    assert not helm.ns.exists("Deployment", "web")
    assert releases(helm.ns) == {}
