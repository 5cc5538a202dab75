"""`devloop init --yes` on projects that describe themselves: compose, skaffold, kustomize, charts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devloop.config.load import load
from tests.init.layouts import COMPOSE, KUSTOMIZE, PLAIN_CHART, SKAFFOLD, STAGES, UMBRELLA, template
from tests.init.support import Ended, init_yes
from tests.support.project_files import Files, dockerfile, workload, write


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


def test_an_image_that_skaffold_requires_is_an_argument_and_is_built_first(tmp_path: Path) -> None:
    """As in skaffold's own examples/microservices."""
    skaffold = """
apiVersion: skaffold/v4beta14
kind: Config
build:
  artifacts:
    - {image: app, context: app, requires: [{image: base, alias: BASE}]}
    - {image: base, context: base, docker: {buildArgs: {LEVEL: "2"}}}
manifests: {rawYaml: [k8s/*]}
"""
    based = (
        "ARG PREFIX=docker.io/\nARG BASE\nFROM ${PREFIX}golang AS builder\nCOPY . .\nFROM $BASE\nCOPY . .\n"
    )
    files = {
        "skaffold.yaml": skaffold, "app/Dockerfile": based, "base/Dockerfile": dockerfile(". ."),
        "k8s/app.yaml": workload("app", "app"),
    }  # fmt: skip
    made = init_yes(write(tmp_path / "shop", files))
    assert set(made.services) == {"app"}
    text = made.path.read_text()
    assert "args: {BASE: base}" in text
    assert "#   docker build -t base --build-arg LEVEL=2 base\n" in text
    assert "# - base/Dockerfile: the base of app/Dockerfile; build it first" in text
    files["skaffold.yaml"] = skaffold.replace(", requires: [{image: base, alias: BASE}]", "")
    assert (
        "no value here for ARG BASE (build.args)" in init_yes(write(tmp_path / "two", files)).path.read_text()
    )


def test_files_that_compose_mounts_become_secrets_and_config_maps_with_the_commands_that_make_them(
    tmp_path: Path,
) -> None:
    """As awesome-compose has them: a password file, a proxy's configuration, the Docker socket."""
    compose = """
services:
  api: {build: api, secrets: [db_password], volumes: ["./api:/app", "./api/main.py:/app/main.py"]}
  db:
    image: mariadb:10
    secrets: [db_password, {source: token, target: /etc/token}, other]
    environment: [MYSQL_ROOT_PASSWORD_FILE=/run/secrets/db_password]
  proxy:
    image: nginx
    configs: [robots]
    volumes:
      - ./proxy/nginx.conf:/etc/nginx/conf.d/default.conf:ro
      - {type: bind, source: ./rules, target: /etc/rules}
      - ./assets:/usr/share/nginx/html
      - /var/run/docker.sock:/var/run/docker.sock
secrets: {db_password: {file: db/password.txt}, token: {environment: TOKEN}, other: {external: true}}
configs: {robots: {file: proxy/robots.txt}}
"""
    files = {
        "compose.yaml": compose, "api/Dockerfile": dockerfile(". ."), "api/main.py": "",
        "db/password.txt": "hunter2hunter2\n", "proxy/nginx.conf": "", "proxy/robots.txt": "",
        "rules/a.yaml": "", "rules/b.yaml": "", "assets/img/a.svg": "", "assets/index.html": "",
    }  # fmt: skip
    made = init_yes(write(tmp_path / "shop", files))
    commands = [
        "kubectl create secret generic db-password --from-file=db_password=db/password.txt",
        'kubectl create secret generic token --from-literal=token="$TOKEN"',
        "kubectl create configmap robots --from-file=robots=proxy/robots.txt",
        "kubectl create configmap proxy-nginx-conf --from-file=proxy/nginx.conf",
        "kubectl create configmap proxy-rules --from-file=rules",
    ]
    text = made.path.read_text()
    assert text.count("kubectl") == len(commands)
    assert all(f"#   {command}\n" in text and f"    {command}\n" in made.stdout for command in commands)
    assert "# - secret other of db: its content is not in compose.yaml\n" in text
    assert "# - assets of proxy: no pod sees this machine's files; /usr/share/nginx/html needs" in text
    assert "# - /var/run/docker.sock of proxy" in text
    assert "api of" not in text
    written = {path.name: path.read_text() for path in made.path.parent.glob("k8s/*.yaml")}
    assert not any("hunter2" in one for one in written.values())
    mounted = {name: (_mounts(one), _volumes(one)) for name, one in written.items()}
    password = {"name": "file-0", "mountPath": "/run/secrets/db_password", "subPath": "db_password"}
    secret = {"name": "file-0", "secret": {"secretName": "db-password"}}
    assert mounted["api.yaml"] == ([password], [secret])
    assert mounted["db.yaml"][0][1] == {"name": "file-1", "mountPath": "/etc/token", "subPath": "token"}
    assert mounted["proxy.yaml"][0] == [
        {"name": "file-0", "mountPath": "/robots", "subPath": "robots"},
        {"name": "file-1", "mountPath": "/etc/nginx/conf.d/default.conf", "subPath": "nginx.conf"},
        {"name": "file-2", "mountPath": "/etc/rules"},
    ]
    assert mounted["proxy.yaml"][1][2] == {"name": "file-2", "configMap": {"name": "proxy-rules"}}


def test_each_command_makes_something_of_a_name_of_its_own(tmp_path: Path) -> None:
    """The second of two of one name failed: it was there already."""
    compose = """
services:
  api: {build: api, env_file: [.env, .env.local]}
  proxy:
    image: nginx
    volumes: ["./proxy/conf.d:/etc/nginx/conf.d", "./extra/conf.d:/etc/nginx/extra", "./proxy/conf.d:/again"]
"""
    files = {
        "compose.yaml": compose, "api/Dockerfile": dockerfile(". ."), ".env": "A=1", ".env.local": "B=2",
        "proxy/conf.d/a.conf": "", "extra/conf.d/a.conf": "",
    }  # fmt: skip
    made = init_yes(write(tmp_path / "shop", files))
    commands = [line[4:] for line in made.path.read_text().splitlines() if line.startswith("#   kubectl")]
    assert commands == [
        "kubectl create secret generic api-env --from-env-file=.env --from-env-file=.env.local",
        "kubectl create configmap proxy-conf-d --from-file=proxy/conf.d",
        "kubectl create configmap proxy-conf-d-2 --from-file=extra/conf.d",
    ]
    proxy = (made.path.parent / "k8s" / "proxy.yaml").read_text()
    assert [one["configMap"]["name"] for one in _volumes(proxy)] == [
        "proxy-conf-d", "proxy-conf-d-2", "proxy-conf-d",
    ]  # fmt: skip


def _pod(text: str) -> dict[str, Any]:
    spec: dict[str, Any] = next(yaml.safe_load_all(text))["spec"]["template"]["spec"]
    return spec


def _mounts(text: str) -> list[dict[str, Any]]:
    return list(_pod(text)["containers"][0].get("volumeMounts", []))


def _volumes(text: str) -> list[dict[str, Any]]:
    return list(_pod(text).get("volumes", []))


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


def test_a_cronjobs_image_is_said_to_be_set_when_its_manifest_is_applied(tmp_path: Path) -> None:
    cron = (
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: backup}\n"
        "spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: "
        "{containers: [{name: backup, image: backup}]}}}}}\n"
    )
    files = {"backup/Dockerfile": dockerfile(". ."), "k8s/backup.yaml": cron}
    made = init_yes(write(tmp_path / "project", files))
    text = " ".join(made.path.read_text().replace("#", "").split())
    assert "CronJob backup gets this image when its manifest or release is applied" in text
    assert "No deploy: here, for that names Deployments and StatefulSets alone" in text
    assert "service backup: backup -> CronJob backup" in made.stdout


def test_each_file_below_manifests_has_what_it_brings_beside_it(tmp_path: Path) -> None:
    files = {
        "web/Dockerfile": dockerfile(". ."),
        "k8s/web.yaml": workload("web", "web"),
        "k8s/db.yml": workload("db", "postgres:16"),
        "k8s/values.yaml": "a: 1\n",
    }
    text = init_yes(write(tmp_path / "project", files)).path.read_text()
    assert re.search(r"- k8s/web.yaml +# Deployment web$", text, re.MULTILINE)
    assert re.search(r"- k8s/db.yml +# Deployment db$", text, re.MULTILINE)


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
        "services: {a: {image: x, secrets: 5, configs: [7, {}], volumes: [{}, 5, {type: bind}]}}",
        "{services: {a: {image: x, secrets: [s]}}, secrets: {s: {file: ../../out}}}",
    ],
)
def test_odd_compose_files_stop_nothing(tmp_path: Path, text: str) -> None:
    made = init_yes(write(tmp_path / "project", {"compose.yaml": text, "Dockerfile": dockerfile(". .")}))
    assert made.services == {"project": ("project", ".", "deployment/project")}
