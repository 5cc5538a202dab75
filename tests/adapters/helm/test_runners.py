"""One contract, two helms: the library in its worker process, and a `helm` command (a stand-in over it)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from devloop.adapters.helm import records
from devloop.adapters.helm.command import CommandRunner
from devloop.adapters.helm.runner import KubeTarget, Runner
from devloop.adapters.helm.runner_selection import choose
from devloop.adapters.helm.sdk import SdkRunner
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.lock import Owner
from devloop.clock import Clock
from devloop.errors import ConfigError, PlatformError, ReleaseError
from devloop.model import Release, ReleaseView
from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.engine, pytest.mark.timeout(240), pytest.mark.anyio]
STANDIN = Path(__file__).parents[2] / "standins" / "helm"
TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {colour: {{ required "colour is required" .Values.colour | quote }}}
{{- if .Values.image }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "{{ .Values.image }}"}]}
{{- end }}
"""
SCHEMA = {"properties": {"colour": {"type": "string"}}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place(sandbox: Sandbox) -> KubeTarget:
    return KubeTarget((sandbox.kubeconfig,), f"devloop-sandbox-{sandbox.name}")


@pytest.fixture
def standin(tmp_path: Path) -> str:
    """The stand-in as an executable `helm` of its own folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    helm = folder / "helm"
    helm.write_text(STANDIN.read_text().replace("/usr/bin/env python3", sys.executable))
    helm.chmod(0o755)
    return str(helm)


@pytest.fixture(params=["sdk", "command"])
def runner(request: pytest.FixtureRequest, place: KubeTarget, standin: str) -> Runner:
    if request.param == "sdk":
        return SdkRunner(place, os.environ)
    return CommandRunner(standin, place, os.environ)


@pytest.fixture
def release(tmp_path: Path, namespace: str) -> Release:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("{image: ''}\n")
    (chart / "values.schema.json").write_text(json.dumps(SCHEMA))
    (chart / "templates" / "all.yaml").write_text(TEMPLATE)
    return Release("demo", chart, namespace)


@pytest.fixture
async def cluster(place: KubeTarget) -> AsyncIterator[KubernetesCluster]:
    owner = Owner("here", 1, "config.yaml")
    async with KubernetesCluster(
        place.kubeconfig, place.context, owner=owner, clock=Clock(), emit=lambda _: None
    ) as opened:
        yield opened


def colour(sandbox: Sandbox, release: Release) -> str:
    words = ("get", "configmap", "demo-settings", "-n", release.namespace)
    return sandbox.kubectl(*words, "-o", "jsonpath={.data.colour}", check=False).stdout


async def test_a_release_from_nothing_to_nothing(
    runner: Runner, release: Release, cluster: KubernetesCluster, sandbox: Sandbox
) -> None:
    assert await records.find(cluster.client, release) is None
    await runner.install(release, {"colour": "red"}, "first note")
    assert await records.find(cluster.client, release) == ReleaseView(1, "deployed", "first note")
    assert colour(sandbox, release) == "red"
    await runner.upgrade(release, {"colour": "blue"}, "second note")
    assert await records.find(cluster.client, release) == ReleaseView(2, "deployed", "second note")
    assert colour(sandbox, release) == "blue"
    await runner.uninstall(release)
    assert await records.find(cluster.client, release) is None
    assert colour(sandbox, release) == ""
    await runner.uninstall(release)  # what is gone is no error


async def test_values_of_an_earlier_upgrade_are_not_kept(
    runner: Runner, release: Release, sandbox: Sandbox
) -> None:
    await runner.install(release, {"colour": "red", "image": "web:1"}, "")
    await runner.upgrade(release, {"colour": "red"}, "")
    assert sandbox.kubectl("get", "deployment", "-n", release.namespace, "-o", "name").stdout == ""


async def test_rendering_writes_nothing(runner: Runner, release: Release, sandbox: Sandbox) -> None:
    text = await runner.render(release, {"colour": "red"}, upgrade=False)
    assert "name: demo-settings" in text
    assert 'colour: "red"' in text
    assert colour(sandbox, release) == ""


@pytest.mark.parametrize(
    "values, expected",
    [({}, "colour is required"), ({"colour": 1}, "colour")],
    ids=["a template's own error", "the values' schema"],
)
async def test_what_helm_refuses_is_reported_in_its_words(
    runner: Runner, release: Release, values: dict[str, object], expected: str
) -> None:
    with pytest.raises(ReleaseError) as caught:
        await runner.install(release, values, "")
    assert expected in "\n".join((caught.value.message, *caught.value.evidence))
    assert caught.value.message.startswith("helm install of release demo in namespace")


async def test_s22_after_a_patch_another_value_is_a_conflict_and_an_equal_one_is_none(
    runner: Runner, release: Release, sandbox: Sandbox
) -> None:
    await runner.install(release, {"colour": "red", "image": "web:1"}, "")
    patch = ("set", "image", "deployment/web", "main=web:2", "-n", release.namespace)
    sandbox.kubectl(*patch, "--field-manager=devloop")
    with pytest.raises(ReleaseError) as caught:
        await runner.upgrade(release, {"colour": "red", "image": "web:3"}, "")
    assert caught.value.reason == "Conflict"
    assert 'conflict with "devloop"' in caught.value.message
    await runner.upgrade(release, {"colour": "blue", "image": "web:2"}, "")
    assert colour(sandbox, release) == "blue"


async def test_a_server_that_is_gone_is_the_platforms_fault(
    release: Release, tmp_path: Path, standin: str, sandbox: Sandbox
) -> None:
    text = sandbox.kubeconfig.read_text()
    gone = tmp_path / "kubeconfig"
    gone.write_text(re.sub(r"https://[^\s\"]+", "https://127.0.0.1:1", text))
    nowhere = KubeTarget((gone,), f"devloop-sandbox-{sandbox.name}")
    for runner in (SdkRunner(nowhere, os.environ), CommandRunner(standin, nowhere, os.environ)):
        with pytest.raises(PlatformError):
            await runner.install(release, {"colour": "red"}, "")


async def test_cancelling_waits_for_its_end(
    runner: Runner, release: Release, cluster: KubernetesCluster
) -> None:
    with anyio.move_on_after(0.05):
        await runner.install(release, {"colour": "red"}, "whole")
    assert await records.find(cluster.client, release) == ReleaseView(1, "deployed", "whole")


async def test_s26_the_lock_is_held_by_the_helm_itself(
    runner: Runner, release: Release, tmp_path: Path
) -> None:
    """Whoever opens the file again while a helm runs does not get the lock, be devloop dead or not."""
    path = tmp_path / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    seen: list[bool] = []

    async def close_early() -> None:
        await anyio.sleep(0.1)  # the helm has started by then, or takes the descriptor at its start
        os.close(handle)
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                seen.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(runner.install, release, {"colour": "red"}, "", (handle,))
        group.start_soon(close_early)
    assert seen == [True]


async def test_s23_a_pending_revision_is_given_up_and_the_next_upgrade_goes_on(
    runner: Runner, release: Release, cluster: KubernetesCluster, sandbox: Sandbox
) -> None:
    await runner.install(release, {"colour": "red"}, "")
    name = "sh.helm.release.v1.demo.v1"
    path = f"{records.SECRETS.format(release.namespace)}/{name}"
    secret = await cluster.client.get(path)
    held = records.decode(secret["data"]["release"])
    held["info"]["status"] = "pending-install"
    body = {"metadata": {"labels": {"status": "pending-install"}}, "data": {"release": records.encode(held)}}
    patch = "application/merge-patch+json"
    await cluster.client.request("PATCH", path, body=body, content_type=patch)
    with pytest.raises(ReleaseError, match="in progress"):
        await runner.upgrade(release, {"colour": "blue"}, "")
    view = await records.find(cluster.client, release)
    assert view is not None
    assert view.pending
    await records.give_up(cluster.client, release, view)
    await runner.upgrade(release, {"colour": "blue"}, "")
    assert colour(sandbox, release) == "blue"


async def test_the_library_signs_as_the_command_does(
    place: KubeTarget, release: Release, cluster: KubernetesCluster
) -> None:
    await SdkRunner(place, os.environ).install(release, {"colour": "red"}, "")
    item = await cluster.client.get(f"/api/v1/namespaces/{release.namespace}/configmaps/demo-settings")
    assert [entry["manager"] for entry in item["metadata"]["managedFields"]] == ["helm"]


def test_the_choice(place: KubeTarget, standin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"PATH": str(Path(standin).parent)}
    assert isinstance(choose(place, found), SdkRunner)
    assert isinstance(choose(place, {**found, "DEVLOOP_HELM": standin}), CommandRunner)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(choose(place, found), CommandRunner)
    with pytest.raises(ConfigError, match="neither the library nor a helm command"):
        choose(place, {"PATH": "/nonexistent"})
