"""Who hears of what: services by their ignore file, manifests by their globs."""

from __future__ import annotations

import os
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from devloop.config import load as configs
from devloop.model import BuildSpec, Service
from devloop.watch.interests import config_interest, manifest_interest, service_interest


def service(context: Path) -> Service:
    return Service("app", "app", BuildSpec(context, context / "Dockerfile"), ())


def test_ignored_folders_are_not_entered_unless_an_exception_lies_below(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("node_modules\n**/cache\ndocs\n!docs/keep.md\n")
    enters = service_interest(service(tmp_path), lambda path: True).enters
    assert not enters(tmp_path / "node_modules")
    assert not enters(tmp_path / "src" / "cache")
    assert enters(tmp_path / "docs")
    assert enters(tmp_path / "src")
    assert enters(tmp_path)


def test_a_changed_ignore_file_counts_at_once(tmp_path: Path) -> None:
    enters = service_interest(service(tmp_path), lambda path: True).enters
    assert enters(tmp_path / "docs")
    (tmp_path / ".dockerignore").write_text("docs\n")
    assert not enters(tmp_path / "docs")
    (tmp_path / "Dockerfile.dockerignore").write_text("other\n")  # goes before the general one
    assert enters(tmp_path / "docs")
    (tmp_path / "Dockerfile.dockerignore").write_text("[\n")  # refused by the trip
    assert enters(tmp_path / "other")


def test_the_dockerfile_and_both_ignore_files_always_count(tmp_path: Path) -> None:
    found = service_interest(service(tmp_path), lambda path: False).files
    names = {path.name for path in found}
    assert names == {"Dockerfile", "Dockerfile.dockerignore", ".dockerignore"}


@pytest.mark.parametrize(
    ("pattern", "path", "counts"),
    [
        ("k8s/*.yaml", "k8s/a.yaml", True),
        ("k8s/*.yaml", "k8s/a.yml", False),
        ("k8s/*.yaml", "k8s/sub/a.yaml", False),
        ("k8s/**/*.yaml", "k8s/a.yaml", True),
        ("k8s/**/*.yaml", "k8s/a/b/c.yaml", True),
        ("*/k8s/[ab].yaml", "app/k8s/a.yaml", True),
        ("*/k8s/[ab].yaml", "app/k8s/c.yaml", False),
        ("../k8s/?.yaml", "../k8s/a.yaml", True),
    ],
)
def test_manifest_globs_match_as_pathlib_does(tmp_path: Path, pattern: str, path: str, counts: bool) -> None:
    root = tmp_path / "project"
    file = (root / path).resolve()
    file.parent.mkdir(parents=True)
    file.write_text("")
    config = write_config(root, f"manifests: ['{pattern}']\n")
    interest = manifest_interest(config)
    assert interest.concerns(file) is counts
    assert (file in config.manifest_files()) is counts
    if counts:
        top = next(folder for folder in interest.folders if file.is_relative_to(folder))
        for folder in file.parents:
            if folder != top and folder.is_relative_to(top):
                assert interest.enters(folder)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_a_glob_matches_and_is_no_file_is_not_left_out(tmp_path: Path, kind: str) -> None:
    """A manifest that became a FIFO was dropped without a word. Reading it says what it is."""
    config = write_config(tmp_path, "manifests: ['k8s/*']\n")
    (tmp_path / "k8s" / "folder").mkdir(parents=True)
    (tmp_path / "k8s" / ".#editor").symlink_to("nobody@nowhere.1")  # Emacs's lock
    odd = tmp_path / "k8s" / "odd.yaml"
    if kind == "fifo":
        os.mkfifo(odd)
    else:
        with socket.socket(socket.AF_UNIX) as one, chdir(tmp_path / "k8s"):
            one.bind(odd.name)
    assert config.manifest_files() == (odd,)


def test_a_manifest_glob_does_not_enter_deeper_than_it_reaches(tmp_path: Path) -> None:
    interest = manifest_interest(write_config(tmp_path, "manifests: ['k8s/*.yaml']\n"))
    assert interest.folders == (tmp_path / "k8s",)
    assert not interest.enters(tmp_path / "k8s" / "charts" / "deep")


def test_s28_config_yaml_is_watched(tmp_path: Path) -> None:
    assert config_interest(write_config(tmp_path, "")).files == {tmp_path / "config.yaml"}


def write_config(root: Path, more: str) -> configs.Config:
    (root / "app").mkdir(parents=True, exist_ok=True)
    (root / "app" / "Dockerfile").write_text("FROM scratch\n")
    services = "services: {app: {image: app, build: {context: app}}}\n"
    (root / "config.yaml").write_text(f"version: 1\n{services}{more}")
    return configs.load(root / "config.yaml")
