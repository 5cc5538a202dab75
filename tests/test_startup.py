"""What a command imports: no library that it does not need, for the user waits for each of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
version: 1
cluster: {context: none, allow_remote: true}
services:
  app: {image: app, build: {context: .}}
"""
# Nobody listens there, so the command ends once it has tried.
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: it, user: {token: none}}]
contexts: [{name: none, context: {cluster: it, user: it}}]
"""
SHOWN = {"rich", "prometheus_client", "starlette", "uvicorn"}  # what `watch` shows and serves
SELDOM = {"psutil", "cryptography", "watchfiles", "helm_python", "kubernetes_validate", "mcp"}
CLIENTS = {"aiohttp", "kubernetes", "docker"}
LOOP = {"anyio", "asyncio", "ssl"}
CONFIGURATION = {"pydantic", "yaml", "devloop.model", "devloop.events"}
ALL = SHOWN | SELDOM | CLIENTS | LOOP | CONFIGURATION


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


def imported(folder: Path, *words: str) -> tuple[set[str], int]:
    """Every module that the command imported, with the packages they lie in, and its exit code."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "devloop.cli", *words],
        cwd=folder,
        env={
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DOCKER_HOST": f"unix://{folder}/none.sock",
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    modules = re.findall(r"^import time: .*\| +(\S+)$", ended.stderr, re.MULTILINE)
    return {*modules, *(module.partition(".")[0] for module in modules)}, ended.returncode


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", "status --help", "mcp --help", "completion bash", "status --nothing"],
)
def test_what_the_command_line_alone_answers_imports_no_library(folder: Path, words: str) -> None:
    modules, code = imported(folder, *words.split())
    assert code == (2 if words == "status --nothing" else 0)
    assert "click" in modules
    assert not modules & ALL


@pytest.mark.parametrize("words", ["status", "once", "watch", "check"])
def test_an_invalid_config_is_reported_before_any_client_is_imported(folder: Path, words: str) -> None:
    (folder / "config.yaml").write_text(CONFIG + "nothing: 1\n")
    modules, code = imported(folder, *words.split())
    assert code == 2
    assert "pydantic" in modules
    assert not modules & (SHOWN | SELDOM | CLIENTS)


@pytest.mark.parametrize("words", ["schema", "check --offline", "init --print", "history"])
def test_what_reads_files_alone_needs_no_client(folder: Path, words: str) -> None:
    """`devloop watch` runs the check beside itself, at each manifest that is saved."""
    modules, code = imported(folder, *words.split())
    assert code == 0
    unwanted = SHOWN | SELDOM | CLIENTS
    assert not modules & (unwanted - {"kubernetes_validate"} if "check" in words else unwanted)


@pytest.mark.parametrize("words", ["pause", "rebuild", "restart"])
def test_what_only_speaks_to_a_running_watch_needs_no_client(folder: Path, words: str) -> None:
    modules, code = imported(folder, words)
    assert code == 3, "there is none"
    assert not modules & (SHOWN | SELDOM | CLIENTS)


@pytest.mark.parametrize("words", ["status", "once", "explain", "diff", "wait"])
def test_what_looks_at_the_cluster_imports_what_asks_it_and_nothing_that_shows(
    folder: Path, words: str
) -> None:
    modules, code = imported(folder, words)
    assert code == 3, "the cluster does not answer"
    assert {"aiohttp", "kubernetes"} <= modules
    assert not modules & (
        (SHOWN | SELDOM | {"docker"}) - {"kubernetes_validate"}
    )  # kubernetes takes that along
