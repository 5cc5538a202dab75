"""Files into a running container by the engine's archive calls, and what of them is refused (S36)."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devloop.adapters.docker.engine_facts import ContainerFacts, container_of
from devloop.adapters.nodes.containers import EngineContainers, Looked, refuse_container
from devloop.errors import SyncError
from devloop.model import SyncedFile, SyncFiles
from tests.adapters.conftest import Bench

RUNNING = ContainerFacts(running=True)
FILES = ("app/a.py", "app/data/b.txt")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (RUNNING, ""),
        (ContainerFacts(True, mounts=("/app/dat", "/app/data/b", "/app/a.py.d")), ""),
        (None, "not_running"),
        (ContainerFacts(False), "not_running"),
        (ContainerFacts(True, read_only=True), "read_only"),
        (ContainerFacts(True, mounts=("/app/data",)), "mounted"),
        (ContainerFacts(True, mounts=("/app/data/",)), "mounted"),
        (ContainerFacts(True, mounts=("/app/a.py",)), "mounted"),
        (ContainerFacts(True, mounts=("/",)), "mounted"),
        (ContainerFacts(True, mounts=("/tmp/../app",)), "mounted"),
    ],
)
def test_s36_a_container_into_which_nothing_may_be_written(facts: ContainerFacts | None, reason: str) -> None:
    refusal = refuse_container(facts, FILES)
    assert (refusal.reason if refusal else "") == reason


def test_s36_what_the_runtime_mounts_is_a_mount() -> None:
    refusal = refuse_container(RUNNING, ["etc/hosts"])
    assert refusal is not None
    assert refusal.reason == "mounted"
    assert refuse_container(RUNNING, ["etc/hosts.allow"]) is None


def test_what_an_engine_says_of_a_container() -> None:
    answer = {
        "State": {"Running": True},
        "HostConfig": {"ReadonlyRootfs": False, "Tmpfs": {"/run": ""}},
        "Mounts": [{"Destination": "/data"}],
    }
    assert container_of(answer) == ContainerFacts(True, False, ("/data", "/run"))
    assert not container_of({"State": {"Running": True, "Paused": True}}).running


# --- with an engine -------------------------------------------------------------------------------


def docker(*words: str) -> str:
    return subprocess.run(("docker", *words), capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def started(request: pytest.FixtureRequest, tiny: str) -> Iterator[str]:
    """A container with the options of the parameter."""
    options = getattr(request, "param", ())
    script = "trap : HUP; while :; do sleep 0.1; done"
    container = docker(
        "run", "-d", "--network", "none", *options, tiny, "sh", "-c", f"mkdir -p /app; {script}"
    )
    yield container
    docker("rm", "-f", container)


def files(content: bytes = b"new", path: str = "app/a.py") -> SyncFiles:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo(path)
        member.size, member.mode, member.uid, member.gid, member.mtime = (
            len(content),
            0o640,
            1001,
            1002,
            1_000_000,
        )
        tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("app/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.py"
        tar.addfile(link)
    written = SyncedFile(path, hashlib.sha256(content).hexdigest()), SyncedFile("app/link", "", "a.py")
    return SyncFiles(out.getvalue(), written, frozenset({"app"}))


def containers(bench: Bench) -> EngineContainers:
    return EngineContainers(bench.engine, Looked())


async def reason(ours: EngineContainers, container: str, wanted: SyncFiles, reload: str) -> str:
    """Why they cannot be synced, "" where they can."""
    refusal = await ours.refuse(container, wanted, reload)
    return refusal.reason if refusal is not None else ""


@pytest.mark.engine
async def test_s36_files_are_written_with_owner_and_mode_and_read_back(bench: Bench, started: str) -> None:
    ours = containers(bench)
    for content in (b"first", b"second", b""):
        assert await ours.refuse(started, files(content), "none") is None
        await ours.put(started, files(content))
        found = tarfile.open(fileobj=io.BytesIO(_copied(started, "/app/a.py")))  # noqa: SIM115
        member = found.next()
        assert member is not None
        assert (member.uid, member.gid, member.mode & 0o777, member.mtime) == (1001, 1002, 0o640, 1_000_000)
        assert docker("exec", started, "cat", "/app/link") == content.decode()
    assert await ours.runs(started)


def _copied(container: str, path: str) -> bytes:
    return subprocess.run(
        ("docker", "cp", f"{container}:{path}", "-"), capture_output=True, check=True
    ).stdout


@pytest.mark.engine
@pytest.mark.parametrize("started", [("--read-only", "--tmpfs", "/app")], indirect=True)
async def test_s36_a_read_only_root_is_refused(bench: Bench, started: str) -> None:
    assert await reason(containers(bench), started, files(), "none") == "read_only"


@pytest.mark.engine
async def test_s36_nothing_is_written_through_a_mount(bench: Bench, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("the user's")
    words = ("--network", "none", "-v", f"{tmp_path}:/app", tiny, "sh", "-c", "while :; do sleep 0.1; done")
    container = docker("run", "-d", *words)
    try:
        assert await reason(containers(bench), container, files(), "none") == "mounted"
        assert (tmp_path / "a.py").read_text() == "the user's"
    finally:
        docker("rm", "-f", container)


@pytest.mark.engine
async def test_s36_a_directory_that_the_process_made_a_link_of_is_refused(bench: Bench, started: str) -> None:
    script = "cd /; [ -d /app ] && mkdir /elsewhere && mv /app /elsewhere/real 2>/dev/null; true"
    subprocess.run(("docker", "exec", started, "sh", "-c", script), check=False, capture_output=True)
    busybox = ("docker", "exec", started, "/bin/busybox")
    subprocess.run((*busybox, "rm", "-rf", "/app"), check=True)
    subprocess.run((*busybox, "ln", "-s", "/tmp", "/app"), check=True)
    assert await reason(containers(bench), started, files(), "none") == "moved"


@pytest.mark.engine
async def test_s36_a_signal_that_nobody_handles_is_refused(bench: Bench, started: str) -> None:
    ours = containers(bench)
    while not (await bench.engine.caught_signals(started) or 0) & 1:  # SIGHUP: the shell has come so far
        pass
    assert await ours.refuse(started, files(), "HUP") is None
    await ours.send(started, "HUP")
    assert await reason(ours, started, files(), "USR1") == "signal_ignored"


@pytest.mark.engine
async def test_s36_what_is_read_back_otherwise_is_an_error(bench: Bench, started: str) -> None:
    good = files(b"one")
    lying = SyncFiles(
        good.archive, (SyncedFile("app/a.py", hashlib.sha256(b"two").hexdigest()),), good.folders
    )
    with pytest.raises(SyncError, match="is not what was written"):
        await containers(bench).put(started, lying)


@pytest.mark.engine
async def test_s36_a_container_that_is_gone_is_refused_and_no_file_goes_into_it(bench: Bench) -> None:
    ours = containers(bench)
    assert await reason(ours, "0" * 64, files(), "none") == "not_running"
    with pytest.raises(SyncError):
        await ours.put("0" * 64, files())
    with pytest.raises(SyncError):
        await ours.send("0" * 64, "HUP")
    assert not await ours.runs("0" * 64)
