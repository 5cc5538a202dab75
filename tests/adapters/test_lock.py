from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devloop.adapters import private_folder as private
from devloop.adapters.lock import Owner, TargetLocks, file_name, take
from devloop.adapters.nodes.minikube import Minikube
from devloop.adapters.private_folder import place, private_folder
from devloop.errors import HeldError, PlatformError
from devloop.model import Target

TARGET = Target("deployment", "todo", "default")
SERVER = "https://127.0.0.1:6443"
OWNER = Owner("h", 1, "p")
HOLD = """
import sys, pathlib
from devloop.adapters.lock import Owner, TargetLocks
from devloop.model import Target
locks = TargetLocks(pathlib.Path(sys.argv[1]), "https://127.0.0.1:6443",
                    Owner.here(pathlib.Path("/home/me/a/config.yaml")))
with locks.hold(Target("deployment", "todo", "default")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def locks(folder: Path) -> TargetLocks:
    return TargetLocks(folder, SERVER, OWNER)


@pytest.fixture
def other(folder: Path) -> subprocess.Popen[str]:
    """Another devloop, in a process of its own, that holds the target."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_s26_a_second_devloop_learns_who_holds_the_target(
    locks: TargetLocks, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(HeldError) as caught, locks.hold(TARGET):
        pass
    assert f"pid {other.pid}" in caught.value.message
    assert "/home/me/a/config.yaml" in caught.value.message
    assert caught.value.exit_code == 3
    found = locks.holder(TARGET)
    assert found is not None
    assert found.pid == other.pid
    other.communicate("")
    assert locks.holder(TARGET) is None
    with locks.hold(TARGET):
        pass


def test_s26_the_lock_of_a_killed_devloop_is_free(
    folder: Path, locks: TargetLocks, other: subprocess.Popen[str]
) -> None:
    other.kill()
    other.communicate()
    assert (folder / file_name(SERVER, TARGET)).exists()
    with locks.hold(TARGET):
        assert TargetLocks(folder, SERVER, OWNER).holder(TARGET) == OWNER


def test_s26_the_services_of_one_process_share_a_workload_until_the_last_leaves_it(
    folder: Path, locks: TargetLocks
) -> None:
    sidecar = Target("deployment", "todo", "default", container="sidecar")
    stranger = TargetLocks(folder, SERVER, Owner("h", 2, "q"))
    with locks.hold(TARGET):
        with locks.hold(sidecar), locks.hold(sidecar):
            pass
        with pytest.raises(HeldError), stranger.hold(sidecar):
            pass
    with stranger.hold(sidecar):
        pass


def test_s26_other_servers_namespaces_and_targets_have_locks_of_their_own(
    folder: Path, locks: TargetLocks
) -> None:
    stranger = TargetLocks(folder, SERVER, Owner("h", 2, "q"))
    elsewhere = TargetLocks(folder, "https://127.0.0.1:7443", Owner("h", 2, "q"))
    with (
        locks.hold(TARGET),
        elsewhere.hold(TARGET),
        stranger.hold(Target("deployment", "todo", "dev")),
        stranger.hold(Target("statefulset", "todo", "default")),
        pytest.raises(HeldError),
        stranger.hold(Target("deployment", "todo", "default", container="x")),
    ):
        pass


@pytest.mark.parametrize(
    "spelling", ["https://LOCALHOST:6443", "https://127.0.0.1:6443/", "https://[::1]:6443"]
)
def test_s26_another_spelling_of_the_server_is_the_same_server(spelling: str) -> None:
    assert file_name(spelling, TARGET) == file_name(SERVER, TARGET)
    assert file_name("https://10.0.0.1", TARGET) == file_name("https://10.0.0.1:443/", TARGET)


def test_s26_files_that_nobody_holds_are_swept_and_held_ones_stay(
    folder: Path, locks: TargetLocks, other: subprocess.Popen[str]
) -> None:
    with locks.hold(Target("deployment", "left", "default")):
        pass
    locks.sweep()
    assert [path.name for path in folder.iterdir()] == [file_name(SERVER, TARGET)]
    other.communicate("")
    locks.sweep()
    assert list(folder.iterdir()) == []


def test_s26_a_file_that_was_swept_between_opening_and_locking_locks_nobody_out_and_nobody_in(
    folder: Path, locks: TargetLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is forced: swept away just after it was opened."""
    name, real = file_name(SERVER, TARGET), private.open_file
    opened: list[int] = []

    def open_and_sweep(at: Path, inside: int, file: str, flags: int) -> int:
        handle = real(at, inside, file, flags)
        if not opened:
            os.unlink(file, dir_fd=inside)
        opened.append(handle)
        return handle

    monkeypatch.setattr(private, "open_file", open_and_sweep)
    with locks.hold(TARGET):
        monkeypatch.undo()
        assert len(opened) == 2
        assert take(folder, name) is None, "the lock is on the file that has the name"


@pytest.mark.parametrize(
    "variable", ["XDG_RUNTIME_DIR", "HOME", "TMPDIR", "XDG_STATE_HOME", "USER", "LOGNAME"]
)
def test_s26_no_variable_of_the_environment_moves_the_folder(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = private_folder()
    monkeypatch.setenv(variable, str(tmp_path))
    assert private_folder() == before
    monkeypatch.delenv(variable)
    assert private_folder() == before
    assert before.stat().st_uid == os.geteuid()
    assert before.stat().st_mode & 0o777 == 0o700


def test_s26_who_has_no_home_of_his_own_has_a_folder_of_his_own_all_the_same() -> None:
    unknown, nobody = 4_100_000_000, 65534
    assert place(unknown) == Path(f"/tmp/devloop-{unknown}")
    assert place(nobody) == Path(f"/tmp/devloop-{nobody}"), "/nonexistent is no home"


def test_s26_a_folder_of_another_user_is_refused(folder: Path) -> None:
    """Root makes one for nobody; for everyone else /usr is one."""
    victim = folder.parent / "victim"
    victim.write_text("mine")
    if os.geteuid() == 0:
        folder.mkdir(mode=0o777)
        os.chown(folder, 65534, 65534)
        (folder / file_name(SERVER, TARGET)).symlink_to(victim)
    else:
        folder = Path("/usr")
    locks = TargetLocks(folder, SERVER, OWNER)
    with pytest.raises(PlatformError, match="belongs to the user") as caught, locks.hold(TARGET):
        pass
    assert str(folder) in caught.value.message
    with pytest.raises(PlatformError, match="belongs to the user"):
        locks.holder(TARGET)
    assert victim.read_text() == "mine"


@pytest.mark.anyio
@pytest.mark.parametrize("home", ["/home/me", "/home/" + "long/" * 20])
async def test_s26_sshs_socket_lies_there_too_where_its_path_is_short_enough(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `ssh` and a `minikube` of the test's own say what they were called with."""
    monkeypatch.setattr(
        "devloop.adapters.nodes.minikube.private_folder", lambda: Path(home) / ".local/state/devloop/run"
    )
    for name, line in (("minikube", "echo 192.168.49.2"), ("ssh", 'echo "$*"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    monkeypatch.setenv("PATH", environ["PATH"])
    shell = await Minikube("p", environ).machine("n")
    code, output = await shell.run("true")
    assert code == 0
    wanted = "none" if "long" in home else "/home/me/.local/state/devloop/run/ssh-192.168.49.2"
    assert f"ControlPath={wanted} " in output


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o1777])
def test_s26_a_folder_that_others_may_enter_is_refused_with_the_remedy(
    mode: int, folder: Path, locks: TargetLocks
) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PlatformError, match="others can enter") as caught, locks.hold(TARGET):
        pass
    assert caught.value.hint == f"chmod 700 {folder}"


def test_s26_a_link_in_the_place_of_the_folder_is_not_followed(folder: Path, locks: TargetLocks) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    with pytest.raises(PlatformError, match="it is a link"), locks.hold(TARGET):
        pass
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "dangling", "second name", "fifo", "folder"])
def test_s26_what_is_no_plain_file_of_ours_is_neither_locked_nor_written(
    kind: str, folder: Path, locks: TargetLocks
) -> None:
    folder.mkdir(mode=0o700)
    victim, file = folder.parent / "victim", folder / file_name(SERVER, TARGET)
    victim.write_text("mine")
    match kind:
        case "link":
            file.symlink_to(victim)
        case "dangling":
            file.symlink_to(folder.parent / "yet to come")
        case "second name":
            os.link(victim, file)
        case "fifo":
            os.mkfifo(file)
        case _:
            file.mkdir()
    with pytest.raises(PlatformError) as caught, locks.hold(TARGET):
        pass
    assert str(file) in caught.value.message
    assert victim.read_text() == "mine"
    assert not (folder.parent / "yet to come").exists()
    locks.sweep()  # leaves alone what it does not understand
    assert file.exists() or file.is_symlink()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"host": "a", "pid": "x", "path": ""}'])
def test_s26_an_owner_that_no_devloop_wrote_is_none(text: str) -> None:
    assert Owner.parse(text) is None


def test_s26_an_owner_survives_the_annotation() -> None:
    owner = Owner.here(Path("/a/config.yaml"))
    assert Owner.parse(owner.dump()) == owner


@pytest.mark.parametrize("call", [(os, "ftruncate"), (os, "pwrite"), (os, "pread"), (fcntl, "flock")])
def test_s26_a_lock_file_that_cannot_be_used_is_an_expected_error_and_can_be_had_later(
    locks: TargetLocks, monkeypatch: pytest.MonkeyPatch, call: tuple[object, str]
) -> None:
    """A full disk, or a home folder whose server locks nothing. It ended `devloop watch`."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*call, full)
        if call[1] != "pread":
            with pytest.raises(PlatformError, match="No space left on device") as caught, locks.hold(TARGET):
                pass
            assert caught.value.reason == "NoLock"
    with locks.hold(TARGET):  # it was not left locked
        other = TargetLocks(locks._folder, SERVER, OWNER)
        with monkeypatch.context() as patch:
            patch.setattr(*call, full)
            with pytest.raises(PlatformError):
                other.hold(TARGET).__enter__()
