"""Each layout that people have: what `devloop init --yes` makes of it; `devloop doctor` passes then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.five_minutes import RUNS
from devloop.commands.doctor import doctor
from tests.init.layouts import LAYOUTS
from tests.init.support import init_yes
from tests.support.project_files import Files, Result, write
from tests.support.sample_project import Sandbox

NAMES = [name for name, _, _ in LAYOUTS]


def test_there_are_twelve_and_no_two_have_one_name() -> None:
    assert len(set(NAMES)) == len(LAYOUTS) >= 12


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in LAYOUTS], ids=NAMES)
def test_the_services_of_a_layout(tmp_path: Path, files: Files, expected: Result) -> None:
    assert init_yes(write(tmp_path / "project", files)).services == expected


def test_the_runs_in_a_terminal_edit_what_is_there() -> None:
    """bench/five_minutes.py, whose screens are docs/five-minutes.md."""
    expected = {id(files): services for _, files, services in LAYOUTS}
    assert len(RUNS) == 6
    for run in RUNS.values():
        assert set(run.services) == set(expected[id(run.files)])
        assert run.service in run.services
        assert ": one" in run.files[run.edited]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One empty cluster for all."""
    cluster = Sandbox(f"init-{os.getpid()}", tmp_path_factory.mktemp("state"))
    cluster.up()
    yield cluster
    cluster.down()


@pytest.mark.engine
@pytest.mark.sandbox
@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in LAYOUTS], ids=NAMES)
def test_doctor_passes_on_what_init_wrote(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sandbox: Sandbox,
    files: Files,
    expected: Result,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = init_yes(write(tmp_path / "project", files), kubeconfig=sandbox.kubeconfig)
    assert sandbox.context in made.path.read_text()
    assert set(made.services) == set(expected)
    code = doctor(made.path, None, None, sandbox.kubeconfig, names=(), output="")
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert all(name in printed for name in expected), printed
