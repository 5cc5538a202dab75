# ruff: noqa: E501 - tables of words and objects
"""Manifests: objects in their order, judged by every rule, or an error with the file and the line."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from devloop.adapters.kubernetes.manifests import parsed, put_refs, read_manifests
from devloop.checks.facts import BuiltImage, Facts, LayerFile, NodeCapacity
from devloop.checks.origin import from_file, from_release
from devloop.checks.rule import View, judge
from devloop.checks.rules import RULES
from devloop.checks.subject import Subject
from devloop.config.schema_checks import ChecksConfig
from devloop.deploy.helm_values import base_values
from devloop.deploy.kustomization import sources
from devloop.deploy.needs import needs_of, objects_of, owned
from devloop.model import Release, ValuesFile
from tests.fuzz.words import NASTY, bounded, broken_bytes, cases, changed, damaged, well

SOUND: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "ns",
            "labels": {"a": "b"},
            "annotations": {"dev.devloop/ignore": "latest"},
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
                "spec": {
                    "imagePullSecrets": [{"name": "pull"}],
                    "serviceAccountName": "s",
                    "nodeSelector": {"a": "b"},
                    "initContainers": [
                        {
                            "name": "i",
                            "image": "web",
                            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                        }
                    ],
                    "containers": [
                        {
                            "name": "web",
                            "image": "web:latest",
                            "imagePullPolicy": "Always",
                            "command": ["x"],
                            "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                            "envFrom": [
                                {"secretRef": {"name": "s"}},
                                {"configMapRef": {"name": "c", "optional": True}},
                            ],
                            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                            "resources": {
                                "limits": {"cpu": "500m", "memory": "1Gi"},
                                "requests": {"cpu": 0.1, "memory": "64Mi"},
                            },
                            "securityContext": {"runAsNonRoot": True},
                            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                        }
                    ],
                    "volumes": [
                        {"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}},
                        {"name": "w", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
                        {"name": "p", "persistentVolumeClaim": {"claimName": "d"}},
                    ],
                },
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}],
        },
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web", "annotations": {"cert-manager.io/x": "y"}},
        "spec": {
            "tls": [{"secretName": "t", "hosts": ["a"]}],
            "rules": [
                {
                    "host": "a",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "web", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "type": "Opaque",
        "data": {"k": "eA=="},
        "stringData": {"PASSWORD": "x", "j": "{}"},
    },
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"URL": "http://user:pass@web:80/", "k": "v"},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "j"},
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": {
                "spec": {
                    "template": {
                        "spec": {"restartPolicy": "Never", "containers": [{"name": "j", "image": "web"}]}
                    }
                }
            },
        },
    },
    {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3},
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "d"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
    {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "db", "image": "web@sha256:1"}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "d"}}],
        },
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "s"}],
    },
    {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}],
    },
]
TEXT = yaml.safe_dump_all(SOUND, sort_keys=False)
WORDS = (
    "---\n", "--- ", "...\n", "# Source: c/templates/x.yaml\n", "# Source: ../../x\n", "# Source: /\n", ": ", "- ", "\n", "\n  ", "\t", "&a ", "*a", "<<: ", "{", "}", "[", "]",
    "|", ">", "!!binary x", "!!set {a}", "? ", "'", '"', "#", "~", "yes", "0o17", "1_000", "1:30", ".nan", "2024-01-01", "\x00", "\x85", "\u2028", "\ufeff", "kind: List\n", "items: 5\n",
    "metadata:\n", "name: 5\n", "containers: {}\n", "{{ .Values.x }}", "{{- if x }}", "a" * 300, "\\ud800", "on: 1\n", "5: x\n", "? [a]\n: b\n", "1e400", "9" * 400,
)  # fmt: skip
FACTS = Facts(
    {"web": "web"}, {"web": BuiltImage("web:1", 5 << 20, "", frozenset({80}), (LayerFile("/app/.env"),), 1 << 20)},
    {}, (NodeCapacity("ns", 2.0, 1e9),), {"web:latest": ("ns",)}, {30080: "x/y"}, frozenset({("ns", "other")}),
    ChecksConfig(profile="strict"),
)  # fmt: skip
PLACE = re.compile(r":\d+")


def _judged(subjects: list[Subject]) -> None:
    report = judge(RULES, View(tuple(subjects), FACTS))
    for finding in (*report.findings, *report.suppressed):
        assert finding.text
        assert finding.line >= 0


def _read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        file = Path(made, "m.yaml")
        file.write_bytes(content)
        found = well(lambda: read_manifests([file]), str(file))
        if found is not None:
            put_refs([one.item for one in found], {"web": "web:dl-1"})
        subjects = well(lambda: from_file(file, file.parent, "d"), "m.yaml")
        if subjects is not None:
            with bounded():
                _judged(subjects)


def _rendered(text: str) -> None:
    """What Helm or kustomize printed."""
    release = Release("r", Path("/nowhere/c"), "d")
    objects = well(lambda: objects_of(text, "release r"), "release r")
    if objects is not None:
        with bounded():
            needs_of(objects, "d")
            assert all(owned(one, release)["metadata"] for one in objects)
    well(lambda: parsed(text, "release r"), "release r")
    subjects = well(lambda: from_release(release, text, Path("/nowhere")))
    if subjects is not None:
        with bounded():
            _judged(subjects)


def _dumped(values: Any) -> bytes:
    one = values if isinstance(values, list) else [values]
    return yaml.dump_all(one, Dumper=yaml.SafeDumper, allow_unicode=True).encode("utf-8", "surrogatepass")


def test_what_is_damaged_here_was_sound() -> None:
    with tempfile.TemporaryDirectory() as made:
        file = Path(made, "m.yaml")
        file.write_text(TEXT)
        assert len(read_manifests([file])) == len(SOUND)
    assert len(objects_of(TEXT)) == len(SOUND)


@cases(10)
@given(st.sampled_from(SOUND).flatmap(changed))
@example(
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": [], "nodePort": 5, "protocol": {}}]},
    }
)
def test_damaged_objects(value: Any) -> None:
    content = _dumped(value)
    _read(content)
    _rendered(content.decode("utf-8", "replace"))


@cases(4)
@given(changed(SOUND, 8))
def test_damaged_objects_beside_each_other(values: Any) -> None:
    content = _dumped(values)
    _read(content)
    _rendered(content.decode("utf-8", "replace"))


@cases(10)
@given(damaged((*map(yaml.safe_dump, SOUND), yaml.safe_dump_all(SOUND[:3])), WORDS))
@example("")  # a chart that renders to nothing
@example("? {a: b}\n: c\nkind: Pod\n")
def test_damaged_texts(text: str) -> None:
    _read(text.encode("utf-8", "surrogatepass"))
    _rendered(text)


@cases(4)
@given(broken_bytes(TEXT.encode()[:1500]) | st.sampled_from(NASTY))
def test_damaged_bytes(content: bytes) -> None:
    _read(content)


KUSTOMIZATION = {
    "resources": ["a.yaml", "../b"], "patches": [{"path": "p.yaml"}], "configMapGenerator": [{"name": "c", "files": ["k=f.txt"], "envs": ["e"]}],
    "components": ["c"], "generators": ["g.yaml"], "images": [{"name": "web", "newTag": "x"}], "helmCharts": [{"name": "h", "valuesFile": "v"}],
}  # fmt: skip


@cases(10)
@given(changed(KUSTOMIZATION) | damaged((yaml.safe_dump(KUSTOMIZATION),), WORDS))
def test_damaged_kustomizations_and_values(value: Any) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "k")
        folder.mkdir()
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else _dumped(value)
        for name in ("kustomization.yaml", "g.yaml", "values.yaml"):
            (folder / name).write_bytes(content)
        found = well(lambda: sources(folder))
        assert found is None or all(isinstance(path, Path) for path in found)
        release = Release("r", folder, "d", values=(ValuesFile(folder / "values.yaml"),), set={"a.b": 5})
        well(lambda: base_values(release, {}))
