"""`devloop init --yes` on Dockerfiles and plain manifests: its config.yaml as devloop reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.config.load import load
from tests.init.layouts import BARE, MONOREPO, REGISTRY
from tests.init.support import devloop, init_yes
from tests.support.project_files import Files, dockerfile, workload, write


def test_manifests_are_named_by_a_glob_where_every_file_of_the_folder_is_one(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {**MONOREPO, "k8s/README.md": "not YAML"})
    assert load(init_yes(root).path).manifests == ["k8s/*.yaml"]


def test_a_file_that_is_no_manifest_is_not_matched_by_a_glob(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {**MONOREPO, "k8s/notes.yaml": "todo: [more]"})
    assert load(init_yes(root).path).manifests == ["k8s/api.yaml", "k8s/worker.yaml"]


def test_missing_manifests_are_written_and_can_be_applied(tmp_path: Path) -> None:
    made = init_yes(write(tmp_path / "project", BARE))
    text = (made.path.parent / "k8s" / "web.yaml").read_text()
    assert "containerPort: 3000" in text
    assert "readinessProbe" in text
    assert "kind: Service" in text


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        (REGISTRY, "redis"),
        (
            {**MONOREPO, "k8s/extra.yaml": workload("extra", "registry.example/else:1")},
            "registry.example/else",
        ),
        ({**MONOREPO, "services/api/Dockerfile.test": dockerfile(". .")}, "services/api/Dockerfile.test"),
        ({**MONOREPO, "tools/lint/Dockerfile": dockerfile(". .")}, "tools/lint/Dockerfile"),
        (
            {**MONOREPO, "a/api/Dockerfile": dockerfile(". ."), "b/api/Dockerfile": dockerfile(". .")},
            "acme/api",
        ),
    ],
)
def test_what_is_left_out_is_named_in_the_file_with_its_reason(
    tmp_path: Path, files: Files, left_out: str
) -> None:
    assert f"# - {left_out}: " in init_yes(write(tmp_path / "project", files)).path.read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("k8s/broken.yaml", "apiVersion: v1\nkind: [Service\n"),
        ("k8s/odd.yaml", "apiVersion: v1\nkind: List\nitems: 3\n"),
        ("k8s/deep.yaml", "apiVersion: v1\nkind: X\na: " + "[" * 5000),
        ("other/Dockerfile", "RUN nothing before FROM\n"),
        ("other/Dockerfile", ""),
        (
            "k8s/half.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: half}\nspec: {template: {spec: 7}}\n",
        ),
        ("k8s/binary.yaml", "kind: \0\napiVersion"),
    ],
)
def test_broken_files_are_reported_and_stop_nothing(tmp_path: Path, name: str, text: str) -> None:
    made = init_yes(write(tmp_path / "project", {**MONOREPO, name: text}))
    assert set(made.services) == {"api", "worker"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {**BARE, "config.yaml": "mine"})
    ended = devloop(root, "init", "--yes")
    assert ended.returncode == 2
    assert "config.yaml is there already" in ended.stderr
    assert (root / "config.yaml").read_text() == "mine"
    assert not (root / "k8s").exists()


def test_a_manifest_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {**BARE, "k8s/web.yaml": "mine: not yet a manifest"})
    made = init_yes(root)
    assert (root / "k8s" / "web.yaml").read_text() == "mine: not yet a manifest"
    assert load(made.path).manifests == ["k8s/api.yaml"]


def test_print_writes_nothing(tmp_path: Path) -> None:
    root = write(tmp_path / "project", BARE)
    assert "  api:\n" in init_yes(root, show=True).stdout
    assert not (root / "config.yaml").exists()
    assert not (root / "k8s").exists()


def test_a_folder_without_dockerfiles_is_an_error_that_says_so(tmp_path: Path) -> None:
    ended = devloop(write(tmp_path / "project", {"README.md": ""}), "init", "--yes")
    assert ended.returncode == 2
    assert "no Dockerfile" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["once"], ["doctor"], ["status", "-c", "other.yaml"]])
def test_without_config_yaml_every_command_names_init(tmp_path: Path, words: list[str]) -> None:
    ended = devloop(tmp_path, *words)
    assert ended.returncode == 2
    assert "devloop init" in (ended.stdout if words == ["doctor"] else ended.stderr)


def test_a_dockerfile_that_may_build_several_images_is_a_service_without_a_workload(tmp_path: Path) -> None:
    files = {**REGISTRY, "k8s/extra.yaml": workload("extra", "registry.example/else:1")}
    assert init_yes(write(tmp_path / "project", files)).services == {"project": ("project", ".", "")}


def test_arguments_and_secrets_that_the_build_needs_are_named(tmp_path: Path) -> None:
    text = "ARG BASE=node\nFROM ${BASE}\nARG API_URL\nARG BASE\nARG TARGETARCH\nARG MODE=dev\n"
    text += "RUN --mount=type=secret,id=npmrc npm ci\nCOPY . .\n"
    written = init_yes(write(tmp_path / "project", {"web/Dockerfile": text})).path.read_text()
    assert "no value here for ARG API_URL (build.args)" in written.replace("\n  # ", " ")
    assert "the build asks for secret npmrc" in written
