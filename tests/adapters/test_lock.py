from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devloop.adapters.lock import Owner, hold, holder, lock_path
from devloop.errors import HeldError
from devloop.model import Target

TARGET = Target("deployment", "todo", "default")
SERVER = "https://127.0.0.1:6443"
HOLD = """
import sys, pathlib
from devloop.adapters.lock import Owner, hold
from devloop.model import Target
with hold(pathlib.Path(sys.argv[1]), "https://127.0.0.1:6443", Target("deployment", "todo", "default"),
          Owner.here(pathlib.Path("/home/me/a/config.yaml"))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another devloop, in a process of its own, that holds the target."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_s26_a_second_devloop_is_told_who_holds_the_target(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(HeldError) as caught, hold(tmp_path, SERVER, TARGET, Owner("h", 1, "p")):
        pass
    assert f"pid {other.pid}" in caught.value.message
    assert "/home/me/a/config.yaml" in caught.value.message
    assert caught.value.exit_code == 3
    found = holder(tmp_path, SERVER, TARGET)
    assert found is not None
    assert found.pid == other.pid
    other.communicate("")
    assert holder(tmp_path, SERVER, TARGET) is None


def test_s26_the_lock_of_a_killed_devloop_is_free(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.communicate()
    assert lock_path(tmp_path, SERVER, TARGET).exists()
    with hold(tmp_path, SERVER, TARGET, Owner("h", 1, "p")):
        assert holder(tmp_path, SERVER, TARGET) == Owner("h", 1, "p")


def test_s26_other_servers_namespaces_and_targets_have_locks_of_their_own(tmp_path: Path) -> None:
    owner = Owner("h", 1, "p")
    with (
        hold(tmp_path, SERVER, TARGET, owner),
        hold(tmp_path, "https://127.0.0.1:7443", TARGET, owner),
        hold(tmp_path, SERVER, Target("deployment", "todo", "dev"), owner),
        hold(tmp_path, SERVER, Target("statefulset", "todo", "default"), owner),
        pytest.raises(HeldError),
        hold(tmp_path, SERVER, Target("deployment", "todo", "default", container="x"), owner),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"host": "a", "pid": "x", "path": ""}'])
def test_s26_an_owner_that_no_devloop_wrote_is_none(text: str) -> None:
    assert Owner.parse(text) is None


def test_s26_an_owner_survives_the_annotation() -> None:
    owner = Owner.here(Path("/a/config.yaml"))
    assert Owner.parse(owner.dump()) == owner
