"""`devloop init --yes` on projects that describe themselves: compose, skaffold, kustomize, charts."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.config.load import load
from tests.init.layouts import Files, dockerfile, workload, write
from tests.init.support import Ended, Result, init_yes

COMPOSE = {
    "compose.yaml": """
name: shop
services:
  api:
    build: {context: ., dockerfile: docker/api.Dockerfile, target: run, args: {LEVEL: 2}}
    ports: ["8080:8000"]
    environment: {DATABASE_URL: "postgres://db/shop", TOKEN: "${TOKEN}", LEVEL: "${LEVEL:-info}"}
    depends_on: [db]
  worker:
    build: {context: ., dockerfile: docker/api.Dockerfile, target: run, args: {LEVEL: 2}}
    command: python -m worker
    env_file: .env
  web:
    build: ./web
    image: shop/web:${TAG:-dev}
  db:
    image: postgres:16
    environment: [POSTGRES_HOST_AUTH_METHOD=trust]
    volumes: ["data:/var/lib/postgresql/data", "./seed:/seed"]
    ports: ["5432"]
volumes: {data: {}}
""",
    "docker/api.Dockerfile": "FROM python:3.12 AS run\nCOPY src ./src\nEXPOSE 8000\n",
    "src/main.py": "",
    "web/Dockerfile": dockerfile(". .", port=3000),
    ".env": "TOKEN=hunter2hunter2\n",
}
SKAFFOLD = {
    "skaffold.yaml": """
apiVersion: skaffold/v4beta11
kind: Config
build:
  artifacts:
    - image: gcr.io/acme/front
      context: src/front
    - image: gcr.io/acme/back
      docker: {dockerfile: src/back/Dockerfile, buildArgs: {MODE: dev}}
    - image: gcr.io/acme/java
      jib: {}
manifests:
  rawYaml: [kubernetes/*.yaml]
""",
    "src/front/Dockerfile": dockerfile(". ."),
    "src/back/Dockerfile": dockerfile("src/back ./"),
    "src/back/main.go": "",
    "kubernetes/front.yaml": workload("frontend", "server=gcr.io/acme/front"),
    "kubernetes/back.yaml": workload("backend", "server=gcr.io/acme/back"),
    "old/front.yaml": workload("frontend", "server=gcr.io/acme/front:v0"),
}
KUSTOMIZE = {
    "api/Dockerfile": dockerfile(". ."),
    "deploy/base/kustomization.yaml": "resources: [api.yaml]\n",
    "deploy/base/api.yaml": workload("api", "api=registry.example/api:1"),
    "deploy/overlays/dev/kustomization.yaml": (
        "namespace: shop\nnamePrefix: dev-\nresources: [../../base, namespace.yaml]\n"
        "patches: [{path: patch.yaml}]\nimages: [{name: registry.example/api, newName: shop/api}]\n"
    ),
    "deploy/overlays/dev/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    "deploy/overlays/dev/patch.yaml": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec: {replicas: 1}\n"
    ),
    "deploy/overlays/prod/kustomization.yaml": "resources: [../../base]\n",
}
HELPERS = """{{- define "app.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}
"""


def template(name: str, image: str = "{{ .Values.image.repository }}:{{ .Values.image.tag }}") -> str:
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n"
        "  selector:\n    matchLabels: {app: x}\n  template:\n    metadata:\n      labels: {app: x}\n"
        f'    spec:\n      containers:\n        - name: main\n          image: "{image}"\n'
    )


UMBRELLA = {
    "services/frontend/Dockerfile": dockerfile(". .", port=3000),
    "services/backend/Dockerfile": dockerfile(". ."),
    "chart/Chart.yaml": (
        "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n"
        "  - {name: frontend, version: 1.0.0}\n  - {name: backend, version: 1.0.0}\n"
    ),
    "chart/values.yaml": "backend: {image: {tag: one}}\n",
    "chart/values-dev.yaml": "frontend: {replicas: 1}\n",
    "chart/values-prod.yaml": "frontend: {replicas: 9}\n",
    **{
        f"chart/charts/{name}/{file}": text
        for name in ("frontend", "backend")
        for file, text in {
            "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n",
            "values.yaml": f"image: {{repository: shop-{name}, tag: latest}}\nreplicas: 2\n",
            "templates/deployment.yaml": template("{{ .Release.Name }}-{{ .Chart.Name }}"),
        }.items()
    },
}
PLAIN_CHART = {
    "Dockerfile": dockerfile(". ."),
    "helm/app/Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n",
    "helm/app/values.yaml": "image: {repository: acme/app, tag: latest}\n",
    "helm/app/templates/_helpers.tpl": HELPERS,
    "helm/app/templates/deployment.yaml": template('{{ include "app.fullname" . }}'),
}
STAGES = {
    "Dockerfile": "FROM golang AS build\nCOPY cmd cmd\nFROM scratch AS api\nFROM scratch AS worker\n",
    "cmd/main.go": "",
    "deploy/api.yaml": workload("api", "ghcr.io/acme/mono-api:main"),
    "deploy/worker.yaml": workload("worker", "ghcr.io/acme/mono-worker:main"),
}
ROWS: list[tuple[str, Files, Result]] = [
    (
        "compose",
        COMPOSE,
        {
            "api": ("shop-api", ".", "deployment/api deployment/worker"),
            "web": ("shop/web", "web", "deployment/web"),
        },
    ),
    (
        "skaffold",
        SKAFFOLD,
        {
            "front": ("gcr.io/acme/front", "src/front", "deployment/frontend"),
            "back": ("gcr.io/acme/back", ".", "deployment/backend"),
        },
    ),
    ("kustomize", KUSTOMIZE, {"api": ("shop/api", "api", "deployment/dev-api@shop")}),
    (
        "umbrella chart",
        UMBRELLA,
        {
            "backend": ("shop-backend", "services/backend", "deployment/shop-backend"),
            "frontend": ("shop-frontend", "services/frontend", "deployment/shop-frontend"),
        },
    ),
    (
        "stages",
        STAGES,
        {
            "api": ("ghcr.io/acme/mono-api", ".", "deployment/api"),
            "worker": ("ghcr.io/acme/mono-worker", ".", "deployment/worker"),
        },
    ),
    ("chart", PLAIN_CHART, {"app": ("acme/app", ".", "deployment/app")}),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_services_of_a_project_that_describes_itself(
    tmp_path: Path, files: Files, expected: Result
) -> None:
    assert init_yes(write(tmp_path / "project", files)).services == expected


@pytest.mark.parametrize("files", [UMBRELLA, PLAIN_CHART], ids=["umbrella", "chart"])
def test_without_helm_templates_are_read_as_text(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_helm = init_yes(write(tmp_path / "one" / "project", files)).services
    monkeypatch.setattr("devloop.adapters.helm.runner_selection.importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert init_yes(write(tmp_path / "two" / "project", files)).services == with_helm


def test_s30_values_that_are_not_in_compose_yaml_are_named_and_not_copied(tmp_path: Path) -> None:
    root = init_yes(write(tmp_path / "project", COMPOSE)).path.parent
    written = {path.name: path.read_text() for path in root.rglob("*.yaml")}
    assert not any("hunter2" in text for text in written.values())
    assert "# - {name: TOKEN" in written["api.yaml"]
    assert "--from-env-file=.env" in written["config.yaml"]
    assert "secretRef: {name: worker-env, optional: true}" in written["worker.yaml"]


def test_a_compose_service_that_is_pulled_gets_a_manifest_too(tmp_path: Path) -> None:
    text = (init_yes(write(tmp_path / "project", COMPOSE)).path.parent / "k8s" / "db.yaml").read_text()
    assert "image: postgres:16" in text
    assert "mountPath: /var/lib/postgresql/data" in text
    assert "containerPort: 5432" in text
    assert "/seed" not in text


def test_a_worker_of_compose_that_opens_no_port_gets_no_probe(tmp_path: Path) -> None:
    root = init_yes(write(tmp_path / "project", COMPOSE)).path.parent
    assert "readinessProbe" in (root / "k8s" / "api.yaml").read_text()
    assert "readinessProbe" not in (root / "k8s" / "worker.yaml").read_text()


def test_a_dockerfile_that_compose_does_not_build_is_left_out(tmp_path: Path) -> None:
    files = {**COMPOSE, "docker/prod/api.Dockerfile": dockerfile(". .")}
    made = init_yes(write(tmp_path / "project", files))
    assert set(made.services) == {"api", "web"}
    assert "# - docker/prod/api.Dockerfile: no build section names it" in made.path.read_text()


def test_kinds_that_a_plain_cluster_does_not_serve_are_passed_over(tmp_path: Path) -> None:
    crd = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: x}\n"
    made = init_yes(write(tmp_path / "project", {**STAGES, "deploy/argo/app.yaml": crd}))
    assert manifests_of(made) == ["deploy/*.yaml"]
    assert "deploy/argo/app.yaml: Application" in made.stdout


def manifests_of(made: Ended) -> list[str]:
    return load(made.path).manifests


def test_skaffold_decides_what_is_deployed(tmp_path: Path) -> None:
    made = init_yes(write(tmp_path / "project", SKAFFOLD))
    assert manifests_of(made) == ["kubernetes/*.yaml"]
    assert load(made.path).services()[1].build.args == {"MODE": "dev"}
    assert "gcr.io/acme/java" in made.stdout


@pytest.mark.parametrize("prefix", ["", "namePrefix: {}-\n"])
@pytest.mark.parametrize(
    ("overlays", "expected"),
    [
        (("dev", "prod"), "deploy/overlays/dev"),
        (("local", "dev"), "deploy/overlays/local"),
        (("production", "staging"), "deploy/base"),
        (("europe", "asia"), "deploy/base"),
        (("europe",), "deploy/overlays/europe"),
        ((), "deploy/base"),
    ],
)
def test_the_overlay_for_this_machine(
    tmp_path: Path, overlays: tuple[str, ...], expected: str, prefix: str
) -> None:
    files = {name: text for name, text in KUSTOMIZE.items() if "overlays" not in name}
    files |= {
        f"deploy/overlays/{one}/kustomization.yaml": f"{prefix.format(one)}resources: [../../base]\n"
        for one in overlays
    }
    made = init_yes(write(tmp_path / "project", files))
    assert manifests_of(made) == [expected]


def test_of_two_folders_that_bring_one_workload_the_near_one_is_taken(tmp_path: Path) -> None:
    files = {
        "api/Dockerfile": dockerfile(". ."),
        "deploy/prod/api.yaml": workload("api", "shop-api"),
        "deploy/dev/api.yaml": workload("api", "shop-api"),
    }
    made = init_yes(write(tmp_path / "project", files))
    assert manifests_of(made) == ["deploy/dev/api.yaml"]
    assert "# - deploy/prod: deploy/dev brings Deployment api already" in made.path.read_text()


def test_the_release_of_an_umbrella_chart_says_which_values_hold_the_images(tmp_path: Path) -> None:
    config = load(init_yes(write(tmp_path / "project", UMBRELLA)).path)
    release = config.releases()[0]
    assert dict(release.images) == {"backend": "backend.image", "frontend": "frontend.image"}
    assert [file.path.name for file in release.values] == ["values-dev.yaml"]


def test_values_with_a_registry_beside_the_repository_are_not_given_the_whole_name(tmp_path: Path) -> None:
    image = "{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}"
    files = {
        **PLAIN_CHART,
        "helm/app/values.yaml": "image: {registry: ghcr.io, repository: acme/app, tag: latest}\n",
        "helm/app/templates/deployment.yaml": template("app", image),
    }
    made = init_yes(write(tmp_path / "project", files))
    assert made.services == {"app": ("ghcr.io/acme/app", ".", "deployment/app")}
    assert not load(made.path).releases()[0].images


@pytest.mark.parametrize(
    "text",
    [
        "services: 3",
        "services: {a: 3, b: {build: 7}, c: {build: {context: ../out}}}",
        "[]",
        "a: [",
        "services: {a: {ports: x}}",
    ],
)
def test_odd_compose_files_stop_nothing(tmp_path: Path, text: str) -> None:
    made = init_yes(write(tmp_path / "project", {"compose.yaml": text, "Dockerfile": dockerfile(". .")}))
    assert made.services == {"project": ("project", ".", "deployment/project")}
