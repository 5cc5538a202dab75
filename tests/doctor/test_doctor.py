"""`devloop doctor` on a project: each thing that a first-time user trips over, with its fix."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from devloop.adapters.lock import Owner, TargetLocks
from devloop.adapters.private_folder import private_folder
from devloop.config import load as configs
from devloop.doctor.diagnosis import Diagnosis, Examined, Machine
from devloop.doctor.table import examine
from devloop.model import Target
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from tests.support.kubernetes_objects import Api
from tests.support.project_files import shop, workload, write

pytestmark = pytest.mark.anyio
PROJECT = shop("devloop-sandbox-doctor")
CONFIG = PROJECT["config.yaml"]


class Doctor:
    """A project beside an API server of the sandbox's, with state and kubeconfig of its own."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state = folder / "project", folder / "state" / "devloop"
        self.cluster = self.state / "sandbox" / "doctor"
        self.cluster.mkdir(parents=True)
        self.kubeconfig = self.cluster / "kubeconfig"
        self.watches: tuple[str, ...] = ()

    async def __call__(self, kubeconfig: Path | None = None, **files: str) -> list[Diagnosis]:
        """What is not ok, with these files over PROJECT's ("_" for "/", a folder's name by "__")."""
        write(self.root, {**PROJECT, **files})
        config = configs.load(self.root / "config.yaml")
        used = kubeconfig or self.kubeconfig
        machine = Machine({**os.environ, "KUBECONFIG": str(used)}, self.state)
        given = Examined(machine, config, config.services(), (used,), self.watches)
        found = await examine(given, used, ())
        # Of the node there is none here: images do not reach one.
        return [
            one for one in found if one.grade != "ok" and one.what not in ("images", "build engine", "disk")
        ]


@pytest.fixture
async def doctor(tmp_path: Path) -> AsyncIterator[Doctor]:
    made = Doctor(tmp_path)
    async with api_server(Options(name="doctor", state_dir=made.cluster)):
        yield made


def texts(found: list[Diagnosis]) -> list[tuple[str, str, str]]:
    return [(one.grade, one.what, one.found) for one in found]


async def test_a_project_that_fits_has_nothing_to_say(doctor: Doctor) -> None:
    assert texts(await doctor()) == []


async def test_a_container_that_runs_another_image(doctor: Doctor) -> None:
    (found,) = await doctor(**{"k8s/web.yaml": workload("web", "shop-web:1")})
    assert (found.grade, found.what) == ("failure", "service web")
    assert (
        found.found == "no container of deployment/web (k8s/web.yaml:1) runs shop; it has: web (shop-web:1)"
    )
    assert found.fix == "image: shop-web for the service in config.yaml, or image: shop in k8s/web.yaml:1"


async def test_two_services_on_one_container(doctor: Doctor) -> None:
    other = "  api: {image: api, build: {context: web}, deploy: {deployment: web, container: web}}\nmanifests"
    found = await doctor(**{"config.yaml": CONFIG.replace("manifests", other)})
    shared = [one.found for one in found if one.grade == "failure"]
    assert shared == [
        "deployment/web: container web is set by web and by api",
        "deployment/web: container web is set by api and by web",
    ]


@pytest.mark.parametrize(
    ("pattern", "fix"),
    [
        ("k8s/*.yml", "k8s/*.yaml matches k8s/web.yaml"),
        ("k9s/*.yaml", "*/*.yaml matches k8s/web.yaml"),
        ("k8s/prod-*.yaml", "k8s/**/*.yaml matches k8s/web.yaml"),
    ],
)
async def test_a_glob_that_matches_nothing(doctor: Doctor, pattern: str, fix: str) -> None:
    found = await doctor(**{"config.yaml": CONFIG.replace("k8s/*.yaml", pattern)})
    assert ("failure", "manifests", f"manifests: {pattern} matches no file") in texts(found)
    assert [one.fix for one in found if one.what == "manifests"] == [fix]


async def test_kinds_that_the_cluster_does_not_serve(doctor: Doctor) -> None:
    monitor = "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: web}\n"
    found = await doctor(**{"k8s/monitor.yaml": f"{monitor}---\n{monitor.replace('web', 'api')}"})
    assert {(one.grade, one.what) for one in found} == {("failure", "kinds")}
    served = "context devloop-sandbox-doctor serves no monitoring.coreos.com/v1"
    assert f"k8s/monitor.yaml:1: servicemonitor/web: {served}" in found[0].found
    assert f"k8s/monitor.yaml:5: servicemonitor/api: {served}" in found[1].found
    assert all(one.fix for one in found)


async def test_a_kind_that_a_manifest_defines_itself_is_none_of_those(doctor: Doctor) -> None:
    define = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shops.acme.dev}
spec: {group: acme.dev, names: {kind: Shop, plural: shops}}
---
apiVersion: acme.dev/v1
kind: Shop
metadata: {name: one}
"""
    found = await doctor(**{"k8s/shop.yaml": define})
    assert not [one for one in found if "shop/one" in one.found or "acme.dev/v1" in one.found]


async def test_a_missing_namespace_is_named_as_such(doctor: Doctor) -> None:
    config = CONFIG.replace(
        "context: devloop-sandbox-doctor", "context: devloop-sandbox-doctor, namespace: todo"
    )
    (found,) = await doctor(**{"config.yaml": config})
    assert texts([found]) == [
        (
            "failure",
            "namespaces",
            "todo does not exist in context devloop-sandbox-doctor; deployment/web is to go there",
        )
    ]
    assert found.fix == "kubectl --context devloop-sandbox-doctor create namespace todo"


async def test_a_namespace_that_the_manifests_bring_is_not_missing(doctor: Doctor) -> None:
    config = CONFIG.replace(
        "context: devloop-sandbox-doctor", "context: devloop-sandbox-doctor, namespace: todo"
    )
    own = "apiVersion: v1\nkind: Namespace\nmetadata: {name: todo}\n"
    assert texts(await doctor(**{"config.yaml": config, "k8s/all.yaml": own})) == []


async def test_the_namespace_of_a_target_without_a_manifest_is_asked_for_too(doctor: Doctor) -> None:
    config = CONFIG.replace("{deployment: web}", "{deployment: web, namespace: gone}").replace(
        'manifests: ["k8s/*.yaml"]\n', ""
    )
    found = await doctor(**{"config.yaml": config})
    assert (
        "failure",
        "namespaces",
        "gone does not exist in context devloop-sandbox-doctor; service web is to go there",
    ) in texts(found)


async def test_a_secret_that_pods_name_and_nobody_brings(doctor: Doctor) -> None:
    named = workload("web", "shop:1").replace(
        "image: shop:1}", "image: shop:1, envFrom: [{secretRef: {name: shop-keys}}]}"
    )
    (found,) = await doctor(**{"k8s/web.yaml": named})
    assert found.found == "Secret shop-keys is not in namespace default; deployment/web asks for it"
    assert "create secret generic shop-keys" in str(found.fix)


def locks_of(doctor: Doctor, path: str) -> TargetLocks:
    server = yaml.safe_load(doctor.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return TargetLocks(private_folder(), server, Owner("this-host", 4711, path))


async def test_a_target_that_another_devloop_holds(doctor: Doctor) -> None:
    with locks_of(doctor, "/home/me/other/config.yaml").hold(Target("deployment", "web", "default")):
        (found,) = await doctor()
    assert (found.grade, found.what) == ("failure", "service web")
    assert found.found.endswith("held by another devloop, pid 4711 on this-host: /home/me/other/config.yaml")
    assert "kill 4711" in str(found.fix)


async def test_the_projects_own_watch_may_hold_its_target(doctor: Doctor) -> None:
    own = str(doctor.root / "config.yaml")
    with locks_of(doctor, own).hold(Target("deployment", "web", "default")):
        assert texts(await doctor()) == []


@pytest.mark.parametrize("own", [True, False])
async def test_a_target_that_another_project_wrote_last(doctor: Doctor, own: bool) -> None:
    path = str(doctor.root / "config.yaml") if own else "/home/me/other/config.yaml"
    deployed = yaml.safe_load(workload("web", "shop:1", namespace="default"))
    deployed["metadata"]["annotations"] = {"dev.devloop/owner": Owner("this-host", 1, path).dump()}
    async with Api.open(doctor.kubeconfig) as api:
        await api.create("/apis/apps/v1/namespaces/default/deployments", deployed)
    found = await doctor()
    assert [(one.grade, one.what) for one in found] == ([] if own else [("warning", "service web")])
    assert all(one.found.endswith("/home/me/other/config.yaml on this-host") for one in found)


async def test_probes_that_cost_seconds_per_save(doctor: Doctor) -> None:
    probe = "image: shop:1, readinessProbe: {httpGet: {port: 80}, initialDelaySeconds: 20}}"
    (found,) = await doctor(**{"k8s/web.yaml": workload("web", "shop:1").replace("image: shop:1}", probe)})
    assert (found.grade, found.what) == ("warning", "service web")
    assert "make every save wait up to 30 s" in found.found


async def test_what_runs_in_the_cluster_counts_where_there_are_no_manifests(doctor: Doctor) -> None:
    deployed = yaml.safe_load(workload("web", "other:1", namespace="default"))
    async with Api.open(doctor.kubeconfig) as api:
        await api.create("/apis/apps/v1/namespaces/default/deployments", deployed)
    (found,) = await doctor(**{"config.yaml": CONFIG.replace('manifests: ["k8s/*.yaml"]\n', "")})
    assert found.found == "no container of deployment/web (in the cluster) runs shop; it has: web (other:1)"
    assert found.fix == "image: other for the service in config.yaml, or image: shop in the cluster"


async def test_an_own_sandbox_that_runs_and_is_not_selected(doctor: Doctor, tmp_path: Path) -> None:
    found = await doctor(kubeconfig=tmp_path / "nothing")
    assert [(one.grade, one.what) for one in found] == [("failure", "cluster"), ("warning", "sandbox")]
    assert found[1].found == (
        "sandbox doctor runs and is not used: its context devloop-sandbox-doctor is not in"
        f" {tmp_path / 'nothing'}"
    )
    assert found[1].fix == f"export KUBECONFIG={doctor.kubeconfig} DEVLOOP_CONTEXT=devloop-sandbox-doctor"


async def test_an_own_sandbox_beside_another_cluster_of_config_yaml(doctor: Doctor, tmp_path: Path) -> None:
    entries = yaml.safe_load(doctor.kubeconfig.read_text().replace("devloop-sandbox-doctor", "kind-other"))
    entries["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kind").write_text(yaml.safe_dump(entries))
    config = CONFIG.replace("devloop-sandbox-doctor", "kind-other")
    found = await doctor(kubeconfig=tmp_path / "kind", **{"config.yaml": config})
    assert [one.what for one in found] == ["cluster", "sandbox"]  # what else asks it would say the same
    by_name = {one.what: one for one in found}
    assert by_name["cluster"].grade == "failure"
    assert by_name["sandbox"].found == (
        "sandbox doctor runs and is not used: the context of config.yaml is kind-other"
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "a folder, not a file"),
        (lambda path: os.mkfifo(path), "a FIFO, not a file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not UTF-8"),
        (lambda path: path.write_text("clusters: ["), "kubeconfig"),
    ],
)
async def test_an_unreadable_kubeconfig(doctor: Doctor, tmp_path: Path, make: object, says: str) -> None:
    path = tmp_path / "kubeconfig"
    make(path)  # type: ignore[operator]
    found = {one.what: one for one in await doctor(kubeconfig=path)}
    assert found["cluster"].grade == "failure"
    assert str(path) in found["cluster"].found
    assert says in found["cluster"].found
    assert "Errno" not in found["cluster"].found


async def test_another_user_of_the_metrics_port(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}")
        (found,) = await doctor(**{"config.yaml": config})
        strict = config.replace(f'127.0.0.1:{port}"', f'127.0.0.1:{port}", strict: true')
        (refused,) = await doctor(**{"config.yaml": strict})
        doctor.watches = (f"http://127.0.0.1:{port}",)
        assert await doctor(**{"config.yaml": config}) == []  # it is a watch of this very project
    assert (found.grade, found.what, refused.grade) == ("warning", "metrics", "failure")
    assert f"port {port} on 127.0.0.1 is in use by" in found.found
    assert f"(pid {os.getpid()})" in found.found
    assert "the next free one will be taken" in found.found
    assert "metrics: {listen:" in str(found.fix)


async def test_a_broken_manifest_and_a_broken_dockerfile(doctor: Doctor) -> None:
    found = await doctor(**{"k8s/web.yaml": "a: [", "web/Dockerfile": "FROM python\nCOPY only-one\n"})
    by_name = {one.what: one for one in found}
    assert by_name["manifests"].found.startswith("k8s/web.yaml:2: ")
    assert by_name["Dockerfile of web"].found.startswith("web/Dockerfile: Dockerfile:2: ")
    # What the broken file would have deployed is not known: no failure of its own.
    assert by_name["service web"].grade == "warning"
    assert "some manifests gave nothing" in by_name["service web"].found


async def test_a_fault_in_one_check_hides_no_other(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fall(_: object) -> list[Diagnosis]:
        raise ZeroDivisionError("a fault")

    from devloop.doctor import table

    faulty = tuple(replace(one, look=fall) if one.what == "metrics" else one for one in table.PROJECT)
    monkeypatch.setattr(table, "PROJECT", faulty)
    (found,) = await doctor()
    assert (found.grade, found.what) == ("failure", "metrics")
    assert "internal error in the check of metrics: ZeroDivisionError" in found.found


# --- the command ----------------------------------------------------------------------------------


def command(root: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devloop.cli", "doctor", *words],
        cwd=root,
        env={
            "HOME": str(root),
            "XDG_STATE_HOME": str(root / "state"),
            "KUBECONFIG": str(root / "none"),
            "DOCKER_HOST": f"unix://{root}/none.sock",
            "PATH": os.environ["PATH"],
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_line_has_a_grade_and_failures_end_with_exit_code_3(tmp_path: Path) -> None:
    ended = command(write(tmp_path, PROJECT))
    assert ended.returncode == 3, ended.stderr
    grades = [line.split(" ")[0] for line in ended.stdout.splitlines() if line and not line.startswith(" ")]
    assert set(grades[:-1]) <= {"ok", "warning", "failure"}
    assert "failure  build engine: " in ended.stdout
    assert "failure  cluster: " in ended.stdout
    assert ended.stdout.rstrip().splitlines()[-1].endswith("2 failures")
    assert ended.stderr == ""


def test_json_has_each_check_with_its_fix(tmp_path: Path) -> None:
    ended = command(write(tmp_path, PROJECT), "--json")
    answer = json.loads(ended.stdout)
    assert answer["failures"] == 2
    engine = next(one for one in answer["checks"] if one["check"] == "build engine")
    assert engine["grade"] == "failure"
    assert engine["fix"]


def test_without_a_config_yaml_the_machine_is_looked_at_all_the_same(tmp_path: Path) -> None:
    ended = command(tmp_path)
    assert ended.returncode == 2
    assert "failure  config: no config.yaml in " in ended.stdout
    assert "devloop init" in ended.stdout
    assert "failure  build engine: " in ended.stdout


def test_a_wrong_config_yaml_is_one_of_the_failures(tmp_path: Path) -> None:
    ended = command(write(tmp_path, {**PROJECT, "config.yaml": CONFIG.replace("image", "imgae")}))
    assert ended.returncode == 2
    assert "did you mean image?" in ended.stdout


def test_a_service_that_is_not_there_is_a_wrong_command_line(tmp_path: Path) -> None:
    ended = command(write(tmp_path, PROJECT), "wep")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "there are: web" in ended.stderr


NOBODY_READS = """
import os, sys
from pathlib import Path
from devloop.adapters.kubernetes.api.kubeconfig import read_context
os.setgid(65534)
os.setuid(65534)
read_context([Path(sys.argv[1])], "kind-dev")
"""


def test_a_kubeconfig_that_this_user_may_not_read(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to become somebody else")
    write(tmp_path, PROJECT)
    secret = tmp_path / "kubeconfig"
    secret.write_text("{}")
    secret.chmod(0)
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:3]:
        if folder.stat().st_uid == 0 and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-c", NOBODY_READS, str(secret)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"kubeconfig {secret} cannot be read: Permission denied" in ended.stderr
