"""The context that `devloop init` writes down, what it asks of it, and what it asks of people."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from devloop.commands.init import place_of
from devloop.commands.init_facts import with_cluster
from devloop.config.load import load
from devloop.errors import ConfigError
from devloop.init.found import Found
from devloop.init.project.scan import scan
from devloop.init.proposal.propose import propose
from devloop.init.proposal.values import Place, Proposal
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from tests.init.support import init_yes
from tests.support.kubernetes_objects import Api
from tests.support.project_files import Files, dockerfile, workload, write

HERE = Place("kind-dev", "a test")


def kubeconfig(path: Path, current: str, **servers: str) -> Path:
    """Contexts of these names, "_" for "-", each with its server."""
    named = {name.replace("_", "-"): server for name, server in servers.items()}
    content = {
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in named.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "namespace": "shop"}} for name in named],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("current", "given", "expected", "local"),
    [
        ("kind-dev", None, "kind-dev", True),
        ("prod", None, "minikube", False),
        ("", None, "minikube", False),
        ("gone", None, "minikube", False),
        ("prod", "kind-dev", "kind-dev", True),
        ("kind-dev", "prod", "prod", False),
    ],
)
def test_s29_only_a_local_context_is_proposed_and_asked(
    tmp_path: Path, current: str, given: str | None, expected: str, local: bool
) -> None:
    file = kubeconfig(
        tmp_path / "kubeconfig", current, kind_dev="https://127.0.0.1:1", prod="https://k8s.example.com"
    )
    place = place_of(given, None, file, {})
    assert (place.context, place.local) == (expected, local)


def test_a_context_that_is_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "kubeconfig", "", kind_dev="https://127.0.0.1:1")
    with pytest.raises(ConfigError, match="kind-dev"):
        place_of("kind-other", None, file, {})


@pytest.mark.parametrize("text", ["clusters: 3", "a: [", "contexts: [{}]\ncurrent-context: x"])
def test_a_broken_kubeconfig_is_reported_in_a_comment(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    made = init_yes(write(tmp_path / "project", {"Dockerfile": dockerfile(". .")}), kubeconfig=file)
    assert load(made.path).cluster.context == "minikube"
    assert "write yours" in made.path.read_text()


async def test_s29_a_context_that_is_not_local_is_not_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr("devloop.commands.init_cluster.Client", refuse)
    file = kubeconfig(tmp_path / "kubeconfig", "prod", prod="https://k8s.example.com")
    place = place_of(None, None, file, {})
    assert await with_cluster(Found("x"), place, [file], tmp_path / "config.yaml", asks=place.local) == Found(
        "x"
    )


def test_a_cluster_that_does_not_answer_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "kubeconfig", "kind-dev", kind_dev="https://127.0.0.1:1")
    made = init_yes(write(tmp_path / "project", {"Dockerfile": dockerfile(". .")}), kubeconfig=file)
    assert "context kind-dev: not asked for its workloads" in made.stdout
    assert load(made.path).cluster.context == "kind-dev"
    assert load(made.path).cluster.namespace == "shop"


async def test_workloads_of_the_cluster_are_targets_where_no_manifest_is_here(tmp_path: Path) -> None:
    state = tmp_path / "sandbox"
    state.mkdir()
    deployed = yaml.safe_load(workload("front", "web=shop-web:1", namespace="default"))
    async with (
        api_server(Options(name="init", state_dir=state)),
        Api.open(state / "kubeconfig") as api,
    ):
        await api.create("/apis/apps/v1/namespaces/default/deployments", deployed)
        place = place_of(None, None, state / "kubeconfig", {})
        found = scan(write(tmp_path / "project", {"web/Dockerfile": dockerfile(". .")}))
        config = tmp_path / "project" / "config.yaml"
        found = await with_cluster(found, place, [state / "kubeconfig"], config, asks=place.local)
        made = propose(found, place, {"image:shop-web": "web/Dockerfile"})
    assert made.place.context == "devloop-sandbox-init"
    assert [(one.image, one.targets[0].name) for one in made.services] == [("shop-web", "front")]
    assert (made.written, made.manifests) == ({}, ())


TWO = {
    "a/api/Dockerfile": dockerfile(". ."),
    "b/api/Dockerfile": dockerfile(". ."),
    "k8s/api.yaml": workload("api", "acme/api"),
}
OVERLAYS = {
    "api/Dockerfile": dockerfile(". ."),
    "base/kustomization.yaml": "resources: [api.yaml]\n",
    "base/api.yaml": workload("api", "api"),
    "overlays/east/kustomization.yaml": "resources: [../../base]\n",
    "overlays/west/kustomization.yaml": "resources: [../../base]\n",
}
BARE = {"api/Dockerfile": dockerfile(". .")}
LEFT = {
    "Dockerfile": dockerfile(". ."),
    "k8s/a.yaml": workload("first", "acme/one"),
    "k8s/b.yaml": workload("second", "acme/two"),
}


def proposed(root: Path, files: Files, answers: Mapping[str, str]) -> Proposal:
    return propose(scan(write(root / "project", files)), HERE, answers)


@pytest.mark.parametrize(
    ("files", "key", "options"),
    [
        (TWO, "image:acme/api", ["a/api/Dockerfile", "b/api/Dockerfile", "-"]),
        (OVERLAYS, "overlay:overlays/east overlays/west", ["overlays/east", "overlays/west", "base"]),
        (BARE, "write", ["yes", "no"]),
        (LEFT, "build:Dockerfile", ["acme/one", "acme/two", "-"]),
    ],
)
def test_what_the_files_do_not_say_is_a_question(
    tmp_path: Path, files: Files, key: str, options: list[str]
) -> None:
    questions = proposed(tmp_path, files, {}).questions
    assert [one.key for one in questions] == [key]
    assert [answer for answer, _ in questions[0].options] == options
    for answer in options:
        assert not proposed(tmp_path, files, {key: answer}).questions


@pytest.mark.parametrize(
    ("files", "answers", "dockerfiles"),
    [
        (TWO, {"image:acme/api": "b/api/Dockerfile"}, ["b/api/Dockerfile"]),
        (LEFT, {"build:Dockerfile": "acme/two"}, ["Dockerfile"]),
    ],
)
def test_an_answer_decides(
    tmp_path: Path, files: Files, answers: Mapping[str, str], dockerfiles: list[str]
) -> None:
    made = proposed(tmp_path, files, answers)
    assert [one.dockerfile for one in made.services] == dockerfiles
    assert all(one.targets for one in made.services)


def test_the_overlay_that_was_answered_is_taken(tmp_path: Path) -> None:
    made = proposed(tmp_path, OVERLAYS, {"overlay:overlays/east overlays/west": "overlays/west"})
    assert [one.path for one in made.manifests] == ["overlays/west"]


def test_no_manifests_are_written_where_the_answer_is_no(tmp_path: Path) -> None:
    made = proposed(tmp_path, BARE, {"write": "no"})
    assert (made.written, made.manifests, made.services[0].targets) == ({}, (), ())


def test_on_a_terminal_the_question_is_asked(tmp_path: Path) -> None:
    root = write(tmp_path / "project", TWO)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "devloop.cli", "init", "--kubeconfig", "none"],
        cwd=root,
        env={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    ) as ended:
        os.close(theirs)
        os.write(ours, b"2\n")
        out, _ = ended.communicate(timeout=60)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert "Which Dockerfile builds acme/api" in shown
    assert "b/api/Dockerfile" in out
    assert load(root / "config.yaml").services()[0].build.dockerfile == root / "b/api/Dockerfile"


@pytest.mark.parametrize(
    ("environ", "source"), [({}, "--context"), ({"DEVLOOP_CONTEXT": "kind-dev"}, "DEVLOOP_CONTEXT")]
)
def test_who_named_the_context_is_told(tmp_path: Path, environ: dict[str, str], source: str) -> None:
    file = kubeconfig(tmp_path / "kubeconfig", "", kind_dev="https://127.0.0.1:1")
    assert place_of("kind-dev", None, file, environ).why == f"named by {source}"


def test_a_namespace_that_was_asked_for_is_written_whatever_the_files_name(tmp_path: Path) -> None:
    files = {"Dockerfile": dockerfile(". ."), "k8s/web.yaml": workload("web", "web", namespace="shop")}
    place = Place("kind-dev", "a test", "mine", given=True)
    made = propose(scan(write(tmp_path / "project", files)), place, {})
    assert (made.namespace, made.services[0].targets[0].namespace) == ("mine", "shop")
