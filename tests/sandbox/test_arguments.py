"""Arguments of `devloop sandbox` that cannot be meant: refused before anything is made or removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devloop_sandbox.cli import sandbox, state_dir


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    return tmp_path / "state"


def run(*words: str) -> Result:
    return CliRunner().invoke(sandbox, words)


@pytest.mark.parametrize("verb", ["up", "down", "status"])
@pytest.mark.parametrize("name", ["", ".", "..", "../..", "a/b", "A B", "-a", "a_b", "a" * 41])
def test_a_name_that_is_no_dns_label_is_refused(home: Path, verb: str, name: str) -> None:
    kept = home / "devloop" / "sandbox" / "default" / "log"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    done = run(verb, f"--name={name}")
    assert done.exit_code == 2
    assert "lower-case letters and digits" in done.output
    assert [path.name for path in kept.parent.parent.iterdir()] == ["default"]
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("engine", ["tcp://127.0.0.1:2375", "ssh://host", "nonsense"])
def test_an_engine_that_is_no_socket_of_this_machine_is_refused(home: Path, engine: str) -> None:
    done = run("up", "--engine", engine)
    assert done.exit_code == 2
    assert "unix:///" in done.output
    assert not home.exists()


@pytest.mark.parametrize(
    "words",
    [("--port", "65536"), ("--port", "-1"), ("--backoff-scale", "-1"), ("--backoff-scale", "nan")]
    + [("--node-port-range", text) for text in ("5-3", "1-70000", "x", "0-5")],
)
def test_numbers_out_of_range_are_refused(home: Path, words: tuple[str, str]) -> None:
    done = run("up", *words)
    assert done.exit_code == 2
    assert words[0] in done.output
    assert not home.exists()


def test_no_engine_is_an_error_with_a_hint() -> None:
    done = run("up")
    assert done.exit_code == 3
    assert "no engine answers" in done.output
    assert "hint: " in done.output


def test_state_lies_at_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_dir("x").is_absolute()
