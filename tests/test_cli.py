"""The command line's own part: what it asks, and what it makes of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from devloop import cli
from devloop.commands import down as down_command

CONFIG = """\
version: 1
cluster: {context: kind-dev}
services:
  web: {image: web, build: {context: .}}
"""


@pytest.mark.parametrize(
    ("typed", "removes", "told"),
    [("y\n", True, ""), ("n\n", False, ""), ("", False, "nobody answered; --yes does not ask")],
)
def test_down_without_an_answer_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, removes: bool, told: str
) -> None:
    """An input that ends (cron, </dev/null) ended in an internal error."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    answers: list[bool] = []

    def down(_config: Any, _kubeconfig: Any, ask: Callable[[Sequence[str]], bool]) -> int:
        answers.append(ask(["deployment/web"]))
        return 0 if answers[0] else 1

    monkeypatch.setattr(down_command, "down", down)
    done = CliRunner().invoke(cli.main, ["-c", str(tmp_path / "config.yaml"), "down"], input=typed)
    assert answers == [removes]
    assert done.exit_code == (0 if removes else 1)
    assert "deployment/web" in done.output
    assert told in done.output
