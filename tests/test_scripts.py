"""scripts/common.sh: a step says what it does while it does it, and an engine that is in use is not ended."""

from __future__ import annotations

import os
import pty
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = f'source "{ROOT / "scripts" / "common.sh"}"; '


def bash(script: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ("bash", "-c", SOURCE + script), capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), **environ},
    )  # fmt: skip


def on_a_terminal(script: str, tmp_path: Path) -> str:
    """What a person sees, as it was written: with the line that moves."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        ("bash", "-c", SOURCE + script), stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "NO_COLOR": "1"},
    ) as process:  # fmt: skip
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 30)[0]:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
            seen += piece
        process.wait(timeout=30)
    os.close(leader)
    return seen.decode()


def test_a_step_says_what_it_does_before_it_is_done(tmp_path: Path) -> None:
    done = bash('step -t "about a minute" "make it" true', tmp_path)
    lines = done.stderr.splitlines()
    assert lines[0] == "  make it (about a minute) ..."
    assert lines[1].startswith("  make it 0.")


def test_a_step_shows_the_elapsed_time_on_a_terminal(tmp_path: Path) -> None:
    wait = f"until grep -q make {tmp_path}/seen; do sleep 0.05; done"
    seen = on_a_terminal(
        f"(sleep 0.6; echo make >{tmp_path}/seen) & step 'make it' bash -c '{wait}'", tmp_path
    )
    assert "\r\x1b[K  | make it 0 s" in seen
    assert "  make it 0." in seen.splitlines()[-1]


def test_the_line_that_moves_fits_the_terminal(tmp_path: Path) -> None:
    seen = on_a_terminal(f"step '{'long ' * 40}' sleep 0.6", tmp_path)
    moving = [part for part in seen.split("\r\x1b[K") if part.startswith(("  | ", "  / "))]
    assert moving
    assert max(map(len, moving)) < 80


def test_a_step_that_fails_shows_the_end_of_its_output(tmp_path: Path) -> None:
    done = bash("""step "break it" bash -c 'echo the reason; exit 3'""", tmp_path)
    assert done.returncode == 1
    assert "break it failed after" in done.stderr
    assert "    the reason" in done.stderr
    assert "exit status 3" in done.stderr


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like the engine that scripts/ started; no engine is ended for this test."""
    place = tmp_path / "state" / "devloop" / "scripts"
    place.mkdir(parents=True)
    stand_in = tmp_path / "dockerd"
    stand_in.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    stand_in.chmod(0o755)
    with subprocess.Popen((stand_in, "--pidfile", place / "dockerd.pid"), start_new_session=True) as process:
        (place / "dockerd.pid").write_text(f"{process.pid}\n")
        yield process
        process.kill()


def commands(tmp_path: Path, containers: str) -> str:
    """A PATH on which `docker ps -q` lists these."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    docker = folder / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" != ps ] || printf "{containers}"\n')
    docker.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


NOBODY = "DOCKER_SOCKET=/nowhere/docker.sock; "


def test_an_engine_whose_containers_run_is_not_ended(tmp_path: Path, engine: subprocess.Popen[bytes]) -> None:
    done = bash(NOBODY + "engine_down", tmp_path, PATH=commands(tmp_path, "one\\ntwo\\n"))
    assert done.returncode == 0, done.stderr
    assert "keeps running: 2 of its containers run" in done.stderr
    assert engine.poll() is None


def test_an_engine_with_a_connected_client_is_not_ended(
    tmp_path: Path, engine: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
        with server.accept()[0]:
            done = bash(f"DOCKER_SOCKET={path}; engine_down", tmp_path, PATH=commands(tmp_path, ""))
    assert "keeps running: 1 of its clients are connected" in done.stderr
    assert engine.poll() is None


def test_an_engine_that_nobody_uses_is_ended(tmp_path: Path, engine: subprocess.Popen[bytes]) -> None:
    done = bash(NOBODY + "engine_down", tmp_path, PATH=commands(tmp_path, ""))
    assert done.returncode == 0, done.stderr
    assert engine.wait(timeout=10) != 0
    assert not (tmp_path / "state" / "devloop" / "scripts" / "dockerd.pid").exists()


def test_a_process_that_has_the_engines_number_is_not_ended(tmp_path: Path) -> None:
    place = tmp_path / "state" / "devloop" / "scripts"
    place.mkdir(parents=True)
    with subprocess.Popen(("sleep", "60")) as other:
        (place / "dockerd.pid").write_text(f"{other.pid}\n")
        done = bash(NOBODY + "engine_down", tmp_path, PATH=commands(tmp_path, ""))
        assert done.returncode == 0, done.stderr
        assert other.poll() is None
        other.kill()


def demo_clone(tmp_path: Path) -> Path:
    """As much of a copy of this repository as `scripts/demo --down` takes."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    common = clone / "scripts" / "common.sh"  # whoever is connected to this machine's engine does not count
    common.write_text(common.read_text().replace("=/var/run/docker.sock", "=/nowhere/docker.sock"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone / name)
    (clone / ".demo").mkdir()
    devloop = clone / ".venv" / "bin" / "devloop"
    devloop.parent.mkdir(parents=True)
    devloop.write_text("#!/bin/sh\n")
    devloop.chmod(0o755)
    (devloop.parent / "python").symlink_to("/bin/true")
    return clone


def demo_down(tmp_path: Path, clone: Path, containers: str = "") -> str:
    """What it says; `containers`: those that run on the engine."""
    done = subprocess.run(
        (clone / "scripts" / "demo", "--down"), capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PATH": commands(tmp_path, containers)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_demo_ends_no_engine_that_it_did_not_start(
    tmp_path: Path, engine: subprocess.Popen[bytes]
) -> None:
    """scripts/setup started it: the demo's folder names another process, or none."""
    clone = demo_clone(tmp_path)
    demo_down(tmp_path, clone)
    assert not (clone / ".demo").exists()
    assert engine.poll() is None


def test_the_demo_knows_its_engine_until_nobody_uses_it(
    tmp_path: Path, engine: subprocess.Popen[bytes]
) -> None:
    clone = demo_clone(tmp_path)
    (clone / ".demo" / "engine.pid").write_text(f"{engine.pid}\n")
    (clone / ".demo" / "config.yaml").write_text("version: 1\n")
    assert "keeps running: 1 of its containers run" in demo_down(tmp_path, clone, "one\\n")
    assert engine.poll() is None
    assert [file.name for file in (clone / ".demo").iterdir()] == ["engine.pid"]
    demo_down(tmp_path, clone)
    assert engine.wait(timeout=10) != 0
    assert not (clone / ".demo").exists()
