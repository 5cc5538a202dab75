"""What doctor says of this machine: real disks and sockets; the kernel's limits are files of the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devloop.adapters.watch.inotify_watches import Watches
from devloop.doctor import file_watching
from devloop.doctor.diagnosis import Machine
from devloop.doctor.file_watching import Inotify, inotify, judged
from devloop.doctor.machine import disk, docker_command
from devloop.doctor.table import examine_machine
from devloop.model import BuildSpec, Service
from devloop.watch.source import WatchRoots

pytestmark = pytest.mark.anyio


def machine(folder: Path, **environ: str) -> Machine:
    return Machine({"PATH": "/nowhere", **environ}, folder / "devloop")


@pytest.fixture
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of so many megabytes."""
    if os.geteuid():
        pytest.skip("only root may mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(tmp_path)], check=False
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("small", "grade"), [(20, "failure"), (900, "warning"), (4000, "ok")], indirect=["small"]
)
async def test_a_disk_that_is_nearly_full_is_reported_with_what_is_left(
    small: Path, grade: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(small))
    (found,) = await disk(machine(small))
    assert (found.grade, found.what) == (grade, "disk")
    assert f"free in {small}" in found.found
    if grade != "ok":
        assert found.fix is not None
        assert f"df -h {small}" in found.fix


@pytest.mark.parametrize("small", [4000], indirect=True)
async def test_a_state_folder_that_cannot_be_written_is_a_warning(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    found = await disk(machine(small))
    assert found[0].grade == "warning"
    assert f"{small}/devloop cannot be written (Read-only file system)" in found[0].found
    assert "Errno" not in found[0].found


async def test_an_engine_that_is_away_is_a_failure_and_hides_no_other(tmp_path: Path) -> None:
    found = await examine_machine(machine(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none.sock"))
    by_name = {one.what: one for one in found}
    assert by_name["build engine"].grade == "failure"
    assert f"unix://{tmp_path}/none.sock" in by_name["build engine"].found
    assert by_name["build engine"].fix
    assert "disk" in by_name


async def test_no_docker_command_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devloop.adapters.build.build_cli._USUAL", ())
    (found,) = await docker_command(machine(tmp_path))
    assert (found.grade, found.fix) == (
        "warning",
        "install docker-buildx (apt install docker-buildx-plugin)",
    )


@pytest.mark.parametrize(
    ("now", "needed", "grade", "text"),
    [
        (Inotify(8192, 128, 100, 3), 500, "ok", "500 folders to watch, 8092 inotify watches free"),
        (Inotify(8192, 128, 8000, 3), 500, "warning", "500 folders to watch, 192 of 8192 inotify watches"),
        (Inotify(8192, 128, 100, 128), 5, "warning", "all 128 inotify instances of this user are in use"),
    ],
)
def test_the_limits_of_inotify_against_what_is_needed(
    now: Inotify, needed: int, grade: str, text: str
) -> None:
    found = judged(now, needed)
    assert found.grade == grade
    assert text in found.found
    assert grade == "ok" or "sudo sysctl fs.inotify.max_user_" in str(found.fix)


async def test_what_the_kernel_allows_is_read_and_what_is_in_use_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max_user_watches").write_text("3\n")
    (tmp_path / "max_user_instances").write_text("100000\n")
    for name in "abcdefg":
        (tmp_path / "context" / name).mkdir(parents=True)
    monkeypatch.setattr(file_watching, "LIMITS", tmp_path)
    (found,) = await file_watching.file_watching([service(tmp_path / "context")])
    assert found.grade == "warning"
    assert found.found.startswith("8 folders to watch, ")


async def test_folders_are_counted_as_they_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what the ignore file shuts out, and once what lies in the contexts of two services."""
    (tmp_path / "max_user_watches").write_text("1000000\n")
    (tmp_path / "max_user_instances").write_text("100000\n")
    monkeypatch.setattr(file_watching, "LIMITS", tmp_path)
    context = tmp_path / "context"
    for name in ("node_modules/a/b", "src/lib", "docs/old"):
        (context / name).mkdir(parents=True)
    (context / "src" / "link").symlink_to(context / "docs")
    (context / ".dockerignore").write_text("node_modules\ndocs\n!docs/keep.md\n")
    (found,) = await file_watching.file_watching([service(context), service(context / "src")])
    assert found.found.startswith("4 folders to watch, ")


def service(context: Path) -> Service:
    return Service("app", "app", BuildSpec(context, context / "Dockerfile"), ())


def test_an_instance_that_this_process_opens_is_counted() -> None:
    watches = Watches(WatchRoots({}))
    descriptor = watches.open()
    try:
        now = inotify()
        if now is None:
            pytest.skip("not Linux")
        assert now.instances > 0
    finally:
        os.close(descriptor)
