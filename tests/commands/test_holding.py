"""`rollback`, `resume` and `down` beside another devloop that holds the workload (S26)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
import yaml

from devloop.adapters.lock import Owner, TargetLocks
from devloop.adapters.private_folder import private_folder
from devloop.commands.session import held_beside_own
from devloop.errors import HeldError
from devloop.model import Target
from devloop.wiring import Session
from devloop_sandbox.options import Options
from devloop_sandbox.server import api_server
from tests.support.fakes import SERVICE
from tests.support.project_files import shop, write

SERVER = "https://127.0.0.1:6443"
OURS, THEIRS = Owner("h", 1, "/home/me/shop/config.yaml"), Owner("h", 2, "/home/me/other/config.yaml")


@contextmanager
def held_by(folder: Path, owner: Owner) -> Iterator[None]:
    with TargetLocks(folder, SERVER, owner).hold(SERVICE.targets[0]):
        yield


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """As much of a session as it takes."""
    locks = TargetLocks(tmp_path / "run", SERVER, OURS)
    setup = SimpleNamespace(owner=OURS)
    return cast("Session", SimpleNamespace(locks=locks, hold=locks.hold, services=(SERVICE,), setup=setup))


def test_s26_another_project_is_refused(session: Session, tmp_path: Path) -> None:
    with (
        held_by(tmp_path / "run", THEIRS),
        pytest.raises(HeldError, match=THEIRS.path),
        held_beside_own(session),
    ):
        pass


def test_s26_beside_a_watch_of_this_config_it_is_done(session: Session, tmp_path: Path) -> None:
    """That watch sees the annotation, and stays away."""
    with held_by(tmp_path / "run", OURS), held_beside_own(session):
        pass


def test_s26_meanwhile_nobody_else_begins(session: Session, tmp_path: Path) -> None:
    with held_beside_own(session), pytest.raises(HeldError), held_by(tmp_path / "run", THEIRS):
        pass
    with held_by(tmp_path / "run", THEIRS):
        pass


async def test_s26_a_watch_that_is_refused_announces_no_metrics(tmp_path: Path) -> None:
    """It printed the port that it would have served them on, and then that it is refused."""
    state = tmp_path / "sandbox"
    state.mkdir()
    root = write(tmp_path / "project", shop("devloop-sandbox-refused"))
    async with api_server(Options(name="refused", state_dir=state)):
        kubeconfig = state / "kubeconfig"
        server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        with TargetLocks(private_folder(), server, THEIRS).hold(Target("deployment", "web", "default")):
            ended = await anyio.run_process(
                [
                    sys.executable,
                    "-m",
                    "devloop.cli",
                    "watch",
                    "--port",
                    "0",
                    "--kubeconfig",
                    str(kubeconfig),
                ],
                cwd=root,
                check=False,
                env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            )
    assert (ended.returncode, ended.stdout) == (3, b"")
    assert f"held by another devloop: pid 2 on h, {THEIRS.path}" in ended.stderr.decode()
