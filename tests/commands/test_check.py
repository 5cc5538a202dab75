"""`devloop check` as a process: formats, exit codes, what was not run, what is switched off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from devloop.checks.background import CheckFailedError, CheckWatch, Json, by_process
from devloop.config import load as configs
from devloop.config.load import Config
from devloop.events import Checked, Event
from devloop.model import Superseded, Timing
from devloop.sinks.wording import lines_of
from tests.support.fakes import SERVICE

CONFIG = """\
version: 1
cluster: {{context: nowhere, namespace: shop}}
services:
  web:
    image: web
    build: {{context: .}}
    deploy: {{deployment: web}}
manifests: [k8s.yaml]
checks: {{profile: strict, ignore: [{}]}}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: web
          imagePullPolicy: Always
          ports: [{containerPort: 8000}]
          resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 100m, memory: 128Mi}}
          readinessProbe: {httpGet: {port: 8000}}
          livenessProbe: {httpGet: {port: 8000}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    write(tmp_path)
    return tmp_path


def write(project: Path, *, replicas: int = 1, ignore: str = "") -> None:
    (project / "config.yaml").write_text(CONFIG.format(ignore))
    (project / "k8s.yaml").write_text(DEPLOYMENT.replace("REPLICAS", str(replicas)))


def check(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "KUBECONFIG": str(project / "none")}
    command = [sys.executable, "-m", "devloop.cli", "check", *words]
    return subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)


def test_what_devloop_would_deploy_is_judged_and_exits_0(project: Path) -> None:
    """The template's `web` without a tag and its Always are replaced before anything runs (S15)."""
    done = check(project, "--offline")
    assert done.returncode == 0, done.stdout
    assert "not run: image-on-node, fits-nodes, node-port-free, image-size" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 errors, 0 warnings, 7 rules not run")


def test_an_error_exits_1_in_every_format_with_file_and_line(project: Path) -> None:
    write(project, replicas=11)
    text = check(project, "--offline")
    assert text.returncode == 1
    assert (
        "error    k8s.yaml:5  Deployment web: 11 replicas; 1 to 10 is the rule  [replica-count]"
        in text.stdout
    )
    report = json.loads(check(project, "--offline", "--format", "json").stdout)
    assert [(one["rule"], one["file"], one["line"]) for one in report["findings"]] == [
        ("replica-count", "k8s.yaml", 5)
    ]
    assert report["not_run"]["image-size"] == "--offline"
    line = check(project, "--offline", "--format", "github").stdout.splitlines()[0]
    assert line == (
        "::error file=k8s.yaml,line=5,title=devloop check%3A replica-count"
        "::Deployment web: 11 replicas; 1 to 10 is the rule"
    )


BARE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 12
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}, {name: proxy, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-api}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
"""


def test_by_default_a_deployment_as_people_write_it_has_no_errors(project: Path) -> None:
    """No limits, no probes, no declared port, nginx without a tag: all of that runs."""
    (project / "k8s.yaml").write_text(BARE)
    assert check(project, "--offline").returncode == 1
    (project / "config.yaml").write_text(
        (project / "config.yaml").read_text().replace("profile: strict, ", "")
    )
    done = check(project, "--offline", "--format", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["errors"], report["profile"]) == (0, 0, "default")
    assert {one["rule"] for one in report["findings"]} == {"target-port"}
    assert "image-user" not in report["not_run"]


def test_an_unknown_profile_is_refused_with_those_there_are(project: Path) -> None:
    (project / "config.yaml").write_text((project / "config.yaml").read_text().replace("strict", "lax"))
    done = check(project, "--offline")
    assert done.returncode == 2
    assert "default" in done.stderr
    assert "strict" in done.stderr


def test_a_kustomization_is_rendered_and_judged(project: Path) -> None:
    write(project, replicas=11)
    (project / "dev").mkdir()
    (project / "k8s.yaml").rename(project / "dev" / "web.yaml")
    (project / "dev" / "kustomization.yaml").write_text("namePrefix: dev-\nresources: [web.yaml]\n")
    config = (project / "config.yaml").read_text()
    assert "k8s.yaml" in config
    (project / "config.yaml").write_text(config.replace("k8s.yaml", "dev"))
    found = json.loads(check(project, "--offline", "--format", "json").stdout)["findings"]
    assert [(one["rule"], one["about"], one["file"]) for one in found] == [
        ("replica-count", "Deployment dev-web", "dev")
    ]


def test_a_rule_that_config_switches_off_is_counted(project: Path) -> None:
    write(project, replicas=11, ignore="replica-count")
    done = check(project, "--offline")
    assert (done.returncode, "1 switched off" in done.stdout) == (0, True)


def test_a_rule_that_does_not_exist_exits_2(project: Path) -> None:
    write(project, ignore="replica-counts")
    done = check(project, "--offline")
    assert (done.returncode, "no rule replica-counts" in done.stderr) == (2, True)


def test_a_cluster_that_is_away_exits_3_and_its_rules_are_not_run(project: Path) -> None:
    done = check(project)
    assert done.returncode == 3, done.stderr
    assert "not run: image-on-node, fits-nodes" in done.stdout
    assert "the cluster is not reachable" in done.stdout
    write(project, replicas=0)
    assert check(project).returncode == 1


def test_a_manifest_that_is_no_yaml_is_a_finding(project: Path) -> None:
    (project / "k8s.yaml").write_text("kind: [\n")
    done = check(project, "--offline")
    assert (done.returncode, "[renders]" in done.stdout) == (1, True)


async def test_watch_tells_what_is_new_and_what_is_gone(project: Path) -> None:
    write(project, replicas=0)
    heard: list[Event] = []
    more = anyio.Event()

    def emit(event: Event) -> None:
        heard.append(event)
        more.set()

    async def reported(number: int) -> None:
        nonlocal more
        while len(heard) < number:
            await more.wait()
            more = anyio.Event()

    config = configs.load(project / "config.yaml")
    rules = CheckWatch(lambda: config, by_process(()), emit)
    async with anyio.create_task_group() as group:
        group.start_soon(rules.run)
        rules.wake()
        await reported(1)
        text = (project / "k8s.yaml").read_text()
        (project / "k8s.yaml").write_text("# one line more\n" + text.replace("replicas: 0", "replicas: 12"))
        rules.wake()
        await reported(2)
        group.cancel_scope.cancel()
    line = "k8s.yaml:6: Deployment web: 12 replicas; 1 to 10 is the rule [replica-count]"
    assert heard == [Checked((), 0, 1, 0), Checked((("error", line),), 1, 1, 0)]
    assert [one.text for one in lines_of(heard[1], project)] == [
        f"check: error: {line}",
        "check: 1 error, 0 warnings, 1 gone (devloop check)",
    ]


async def judged(config: Callable[[], Config | None], *reports: Json) -> list[Event]:
    """What is reported of judgements that give these reports, one after the other."""
    heard: list[Event] = []
    left = list(reports)
    looked = anyio.Event()

    async def look(_: Config) -> Json:
        nonlocal looked
        looked.set()
        looked = anyio.Event()
        return left.pop(0)

    rules = CheckWatch(config, look, heard.append)
    async with anyio.create_task_group() as group:
        group.start_soon(rules.run)
        while left:
            seen = looked
            rules.wake()
            with anyio.move_on_after(0.2) as late:
                await seen.wait()
            await anyio.wait_all_tasks_blocked()
            if late.cancelled_caught:
                break
        group.cancel_scope.cancel()
    return heard


def finding(rule: str, about: str, text: str, line: int = 0) -> Json:
    found = {"rule": rule, "severity": "error", "file": "k8s.yaml", "line": line}
    return {"findings": [{**found, "about": about, "text": text}], "errors": 1, "warnings": 0}


NOTHING_FOUND: Json = {"findings": [], "errors": 0, "warnings": 0}


async def test_watch_judges_nothing_while_config_yaml_is_refused(project: Path) -> None:
    """The reload says why it is; the check's process would say the same once more, at every save."""
    assert await judged(lambda: None, finding("renders", "k8s.yaml", "no YAML")) == []


async def test_watch_leaves_what_cannot_be_rendered_to_who_applies_it(project: Path) -> None:
    config = configs.load(project / "config.yaml")
    heard = await judged(lambda: config, NOTHING_FOUND, finding("renders", "k8s.yaml", "no YAML"))
    assert heard == [Checked((), 0, 1, 0)]


async def test_a_finding_about_a_file_names_it_once(project: Path) -> None:
    config = configs.load(project / "config.yaml")
    heard = await judged(lambda: config, NOTHING_FOUND, finding("no-tabs", "k8s.yaml", "a tab", 3))
    assert heard == [Checked((("error", "k8s.yaml:3: a tab [no-tabs]"),), 0, 1, 0)]


async def test_what_was_judged_while_config_yaml_turned_invalid_is_left_to_the_reload(project: Path) -> None:
    configs_seen: list[Config | None] = [configs.load(project / "config.yaml"), None]
    heard: list[Event] = []
    done = anyio.Event()

    async def look(_: Config) -> Json:
        raise CheckFailedError("config.yaml:1: no")

    def config() -> Config | None:
        if len(configs_seen) == 1:
            done.set()
        return configs_seen.pop(0)

    rules = CheckWatch(config, look, heard.append)
    async with anyio.create_task_group() as group:
        group.start_soon(rules.run)
        rules.wake()
        with anyio.fail_after(5):
            await done.wait()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert heard == []


async def test_a_first_judgement_that_failed_is_tried_again_after_the_next_trip(project: Path) -> None:
    config = configs.load(project / "config.yaml")
    over = Superseded("build", Timing(0.0, 0.0, ()))
    looks: list[bool] = []

    async def look(_: Config) -> Json:
        looks.append(True)
        if len(looks) == 1:
            raise CheckFailedError("helm is not there")
        return NOTHING_FOUND

    rules = CheckWatch(lambda: config, look, lambda _: None)
    async with anyio.create_task_group() as group:
        group.start_soon(rules.run)
        for expected in (1, 2, 2):
            rules.ended(SERVICE, over)
            await anyio.wait_all_tasks_blocked()
            assert len(looks) == expected
        group.cancel_scope.cancel()


async def test_the_first_trips_of_all_services_are_one_judgement(project: Path) -> None:
    looks = 0
    config = configs.load(project / "config.yaml")

    over = Superseded("build", Timing(0.0, 0.0, ()))

    async def look(_: Config) -> Json:
        nonlocal looks
        looks += 1
        rules.ended(SERVICE, over)  # the other service's first trip ends meanwhile
        return NOTHING_FOUND

    rules = CheckWatch(lambda: config, look, lambda _: None)
    async with anyio.create_task_group() as group:
        group.start_soon(rules.run)
        rules.ended(SERVICE, over)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert looks == 1
