"""Kustomizations through the machine's own kubectl, onto a real API server; old and absent ones refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import pytest

from devloop.adapters.kubernetes import kustomize
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.kustomize import plain, render, version_of
from devloop.adapters.kubernetes.manifests import read_manifests
from devloop.errors import ConfigError
from tests.support.kubernetes_objects import DEPLOYMENTS, Api, applied, ref

BASE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: placeholder:1, imagePullPolicy: Always}
        - {name: db, image: postgres:16}
"""
OVERLAY = """\
resources: [../base]
namePrefix: dev-
images:
  - {name: placeholder, newName: docker.io/library/todo, newTag: "7"}
  - {name: postgres, newTag: "17"}
configMapGenerator:
  - {name: settings, literals: [colour=red]}
"""
# What Debian's kubernetes-client 1.20.5 says.
OLD = """{"clientVersion": {"major": "1", "minor": "20", "gitVersion": "v1.20.2"}}"""


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    for name, text in {"base": "resources: [web.yaml]\n", "dev": OVERLAY}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(text)
    (tmp_path / "base" / "web.yaml").write_text(BASE)
    return tmp_path / "dev"


async def test_s15_the_live_tag_wins_over_new_tag_where_new_name_is_the_services(
    api: Api, cluster: KubernetesCluster, overlay: Path
) -> None:
    created = await applied(cluster, [overlay], [ref("1")])
    assert [line.partition("-")[0] for line in created] == ["configmap/dev", "deployment/dev"]
    spec = (await api.get(f"{DEPLOYMENTS}/dev-web"))["spec"]["template"]["spec"]
    assert [(c["name"], c["image"]) for c in spec["containers"]] == [("web", ref("1")), ("db", "postgres:17")]
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert await applied(cluster, [overlay], [ref("1")]) == ()
    assert await applied(cluster, [overlay], [], ["todo"]) == (), "its image is not loaded: held back"


async def test_what_kustomize_says_comes_with_the_folder(overlay: Path) -> None:
    (overlay / "kustomization.yaml").write_text("resources: [../nowhere]\n")
    with pytest.raises(ConfigError) as caught:
        await render(overlay)
    assert str(overlay) in caught.value.message
    assert "nowhere" in "\n".join((caught.value.message, *caught.value.evidence))
    assert caught.value.reason == "InvalidKustomization"


def stand_in(folder: Path, printed: str) -> dict[str, str]:
    """An environment whose kubectl says this of its version, and does not render."""
    folder.mkdir()
    command = folder / "kubectl"
    command.write_text(f"#!/bin/sh\n[ $1 = version ] || exec sleep 600\necho '{printed}'\n")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}


async def test_a_kubectl_below_1_21_is_refused_by_name(tmp_path: Path, overlay: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs kubectl 1\.21 or newer; the one on PATH is 1\.20"
    ) as caught:
        await render(overlay, stand_in(tmp_path / "old", OLD))
    assert "install kubectl" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="printed no version: what"):
        await render(overlay, stand_in(tmp_path / "odd", "what"))


async def test_no_kubectl_is_refused_by_name(tmp_path: Path, overlay: Path) -> None:
    with pytest.raises(ConfigError, match="there is no kubectl on PATH") as caught:
        await render(overlay, {"PATH": str(tmp_path)})
    assert caught.value.reason == "NoKubectl"
    assert str(overlay) in caught.value.message


async def test_cancelling_ends_kubectl(tmp_path: Path, overlay: Path) -> None:
    new = json.dumps({"clientVersion": {"major": "1", "minor": "32+"}})
    environ = stand_in(tmp_path / "slow", new)
    await kustomize.require(overlay, environ)  # asked once: what follows is the rendering alone
    async with anyio.create_task_group() as group:
        group.start_soon(render, overlay, environ)
        while not sleepers(tmp_path / "slow"):
            await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert not sleepers(tmp_path / "slow")


def sleepers(folder: Path) -> list[str]:
    """Processes with this folder first on their PATH."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PATH={folder}:".encode() in environ.read_bytes():
                found.append(environ.parent.name)
        except OSError:
            continue
    return found


def test_what_kubectl_says_is_freed_from_its_logs_marks() -> None:
    printed = (
        'E1122 15:04:47.718850   29724 run.go:72] "command failed" err=<',
        "\ttrouble configuring builtin PatchTransformer",
        " >",
    )
    assert plain(printed) == ["trouble configuring builtin PatchTransformer"]
    assert plain(("error: accumulating resources",)) == ["accumulating resources"]


def test_the_file_of_a_kustomization_is_no_manifest(overlay: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_manifests([overlay / "kustomization.yaml"])
    assert f"write its folder below manifests: in config.yaml, {overlay}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        (OLD, (1, 20)),
        ('{"clientVersion": {"major": "1", "minor": "32+"}, "kustomizeVersion": "v5.5.0"}', (1, 32)),
        ("", None),
        ("[]", None),
        ('{"clientVersion": {"major": "", "minor": ""}}', None),
    ],
)
def test_versions_as_kubectl_writes_them(printed: str, version: tuple[int, int] | None) -> None:
    assert version_of(printed.encode()) == version
