"""`devloop diff` ends as diff(1) and kubectl do: 0 nothing, 1 something, more if there was no comparison."""

from __future__ import annotations

from typing import Any

import pytest

from devloop.commands import diff as command
from devloop.commands.frame import Project, load_project
from devloop.deploy.diff import Difference
from devloop.errors import ConfigError, DevloopError, PatchError, PlatformError, ReleaseError
from devloop.model import Release


@pytest.fixture
def project(tmp_path: Any) -> Project:
    (tmp_path / "config.yaml").write_text("version: 1\nservices: {a: {image: a, build: {context: .}}}\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return load_project(tmp_path / "config.yaml", None, None, None)


def answer(monkeypatch: pytest.MonkeyPatch, *found: Difference) -> None:
    left = [Release("old", None, "default")]  # type: ignore[arg-type]
    monkeypatch.setattr(command, "in_session", lambda *_: (list(found), left))


def test_nothing_to_change(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch)
    assert command.diff(project, output="") == 0
    assert "nothing would change" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["", "json", "yaml"])
def test_something_to_change(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    answer(monkeypatch, Difference("deployment/web", "x", "change", ("--- live x/deployment/web", "+a: 1")))
    assert command.diff(project, output=output) == 1
    shown = capsys.readouterr().out
    assert "+a: 1" in shown
    assert "release old" in shown


@pytest.mark.parametrize(
    "error", [ReleaseError("no chart"), PatchError("refused"), ConfigError("bad"), PlatformError("away")]
)
def test_no_comparison_is_neither(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: DevloopError
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(command, "in_session", fail)
    with pytest.raises(DevloopError) as caught:
        command.diff(project, output="")
    assert caught.value.exit_code > 1
    assert caught.value.message == error.message
