"""Lines of findings: of plain manifests, and of the templates that a rendered text came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.checks.origin import from_file, from_release, sources, template_lines
from devloop.errors import ConfigError
from devloop.model import Release

TEMPLATE = """\
{{- if .Values.enabled }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-web
  labels:
    {{- include "labels" . | nindent 4 }}
spec:
  template:
    spec:
      containers:
        - name: web
          image: "{{ .Values.image }}"
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
{{- end }}
"""
RENDERED = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: todo-web
  labels:
    app: web
    name: other
spec:
  template:
    spec:
      containers:
        - name: web
          image: "web:1.0.0"
          resources:
            limits:
              cpu: 500m
"""


def test_a_rendered_object_has_the_lines_of_its_template(tmp_path: Path) -> None:
    templates = tmp_path / "charts" / "web" / "templates"
    templates.mkdir(parents=True)
    (templates / "deployment.yaml").write_text(TEMPLATE)
    manifest = f"---\n# Source: todo/templates/deployment.yaml\n{RENDERED}"
    release = Release("todo", tmp_path / "charts" / "web", "shop")
    (subject,) = from_release(release, manifest, tmp_path)
    assert (subject.file, subject.namespace) == ("charts/web/templates/deployment.yaml", "shop")
    container = ("spec", "template", "spec", "containers", 0)
    assert subject.line(("kind",)) == 3
    assert subject.line(("metadata", "name")) == 5
    assert subject.line((*container, "image")) == 13
    assert subject.line((*container, "resources")) == 14
    assert subject.line((*container, "resources", "limits", "cpu")) == 14  # the values' own: the key above
    assert subject.line((*container, "livenessProbe")) == 12  # what is missing: where it would stand


def test_a_line_that_the_template_does_not_have_takes_the_one_above() -> None:
    assert template_lines(["a: 1", "b: 2", "new: 3", "c: 4"], ["a: x", "# words", "b: y", "c: z"]) == [
        1,
        3,
        3,
        4,
    ]


def test_objects_of_one_file_keep_their_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "k8s.yaml"
    path.write_text(
        "kind: Service\nmetadata: {name: one}\n---\nkind: List\nitems:\n"
        "  - kind: Secret\n    metadata:\n      name: two\n      namespace: own\n"
    )
    one, two = from_file(path, tmp_path, "shop")
    assert (one.name, one.namespace, one.line(("metadata", "name"))) == ("one", "shop", 2)
    assert (two.name, two.namespace, two.line(("metadata", "name"))) == ("two", "own", 8)


def test_yaml_that_is_none_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Service\nmetadata: [\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:3"):
        from_file(tmp_path / "bad.yaml", tmp_path, "shop")


def test_sources_are_distinguished() -> None:
    text = (
        "---\n# Source: a/templates/x.yaml\nkind: A\n---\nkind: B\n---\n"
        "# Source: a/templates/y.yaml\nkind: C\n"
    )
    assert [name for name, _ in sources(text)] == ["a/templates/x.yaml", "a/templates/y.yaml"]
    assert [body.count("kind") for _, body in sources(text)] == [2, 1]
