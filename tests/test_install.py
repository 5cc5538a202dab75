"""What `pip install` brings works in a bare environment, far from this clone."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# It asks a package index, which `scripts/test --fast` does without.
pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    """Its output; the environment of the tests stays out of it."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def bare(place: Path) -> Path:
    """The Python of a new environment that holds nothing but pip."""
    venv.create(place, with_pip=True)
    return place / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of this tree, and the wheel that the sdist makes."""
    place = tmp_path_factory.mktemp("built")
    python = bare(place / "builder")
    run(python, "-m", "pip", "install", "-q", "--no-compile", "hatchling", cwd=place)
    run(python, "-m", "hatchling", "build", "-d", place / "tree", cwd=ROOT)
    (sdist,) = (place / "tree").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "sdist", cwd=unpacked)
    (wheel,) = (place / "tree").glob("*.whl")
    (again,) = (place / "sdist").glob("*.whl")
    return {"wheel": wheel, "sdist": sdist, "wheel of the sdist": again}


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `devloop` of an environment into which the sdist's wheel was installed, with what it depends on."""
    place = tmp_path_factory.mktemp("installed")
    python = bare(place / "venv")
    wheel = built["wheel of the sdist"]
    run(
        python, "-m", "pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", wheel, cwd=place
    )
    return python.with_name("devloop")


def test_the_sdist_makes_the_same_wheel(built: dict[str, Path]) -> None:
    def names(wheel: str) -> set[str]:
        return set(zipfile.ZipFile(built[wheel]).namelist())

    assert names("wheel") == names("wheel of the sdist")
    assert {name.partition("/")[0] for name in names("wheel")} == {
        "devloop",
        "devloop_sandbox",
        next(name for name in names("wheel") if name.endswith("/METADATA")).partition("/")[0],
    }


def test_the_command_runs_without_the_clone(installed: Path, tmp_path: Path) -> None:
    assert "devloop watch" in run(installed, "--help", cwd=tmp_path)
    assert run(installed, "--version", cwd=tmp_path).startswith("devloop, version ")
    assert "complete" in run(installed, "completion", "bash", cwd=tmp_path)
    assert '"services"' in run(installed, "schema", cwd=tmp_path)


def test_init_runs_without_the_clone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text("FROM scratch\nEXPOSE 8080\n")
    config = run(installed, "init", "--print", cwd=tmp_path)
    assert "build: {context: web}" in config
    assert not (tmp_path / "config.yaml").exists()


def test_the_sandbox_names_its_extra(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        (installed, "sandbox", "up"), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'devloop[sandbox]'" in done.stderr


def test_nothing_is_imported_from_the_clone(installed: Path, tmp_path: Path) -> None:
    where = run(
        installed.with_name("python"),
        "-c",
        "import devloop, devloop_sandbox; print(devloop.__file__)",
        cwd=tmp_path,
    )
    assert where.startswith(str(installed.parents[1]))
    assert sys.prefix not in where
