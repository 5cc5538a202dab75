"""What README.md and docs/ say can be done is done; what they link to exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from devloop.cli import main
from devloop.config import load as configs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text()

# What starts a machine's worth of things, or needs a foreign cluster, and where it is run instead.
ELSEWHERE = {
    "scripts/test": "runs this test",
    "scripts/demo": "test_the_demo",
    "scripts/demo --down": "test_the_demo",
    "devloop watch": "tests/e2e",
    "devloop once": "tests/e2e",
    "devloop status": "tests/e2e",
    "devloop wait": "tests/e2e",
    "devloop sandbox up": "tests/contract, tests/e2e",
    "devloop schema": "test_commands_of_the_readme_exist",
    "python bench/loop.py": "test_the_bench",
}


def commands() -> set[str]:
    """Every command of ours in the README: in backquotes, and on indented lines, with or without `$`."""
    spans = re.findall(r"`([^`\n]+)`", README)
    lines = [line.strip().removeprefix("$ ").partition("  ")[0].partition(" #")[0].strip()
             for line in README.splitlines() if line.startswith("    ")]  # fmt: skip
    ours = re.compile(r"^(devloop|scripts/\w+|python bench/\w+\.py)( [\w<>./-]+)*$")
    return {text for text in (*spans, *lines) if ours.match(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in LINK.findall(text):
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_commands_of_the_readme_exist() -> None:
    found = commands()
    assert {"scripts/demo", "scripts/test", "devloop once"} <= found
    for command in sorted(found):
        words = command.split()
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), command
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), command
        else:
            group: click.Command | None = main
            for word in words[1:]:
                if word.startswith("-") or not isinstance(group, click.Group):
                    break
                group = group.get_command(click.Context(group), word)
                assert group, f"devloop has no command {word!r}, README says `{command}`"


@pytest.mark.parametrize("command", sorted(c for c in commands() if c not in ELSEWHERE))
def test_other_commands_of_the_readme_run(command: str, tmp_path: Path) -> None:
    """Without a cluster they may say so (2, 3), or find fault with the machine (1), in their own words."""
    done = subprocess.run(
        (sys.executable, "-m", "devloop.cli", *command.split()[1:]),
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "none"), "XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode in (0, 1, 2, 3), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_accepts_the_readmes_example(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.S)
    assert block
    text = "\n".join(line.removeprefix("   ") for line in block[1].splitlines())
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "config.yaml").write_text(text)
    assert list(configs.load(tmp_path / "config.yaml").by_name) == list(yaml.safe_load(text)["services"])
    done = subprocess.run(
        (sys.executable, "-m", "devloop.cli", "schema"), capture_output=True, text=True, check=True
    )
    assert set(yaml.safe_load(text)) <= set(json.loads(done.stdout)["properties"])


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """The working tree's files in a folder of their own, as a fresh clone has them."""
    root = tmp_path / "clone"
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.endswith(".whl"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    if (ROOT / ".venv").is_dir():  # scripts/test has just made it from nothing
        (root / ".venv").symlink_to(ROOT / ".venv")
    yield root
    subprocess.run(
        (root / "scripts" / "demo", "--down"),
        check=False,
        capture_output=True,
        timeout=120,
        env=environ(root),
    )


def environ(root: Path) -> dict[str, str]:
    """A state of its own: a demo that somebody else runs stays as it is."""
    return {**os.environ, "XDG_STATE_HOME": str(root.parent / "state")}


@pytest.mark.engine
@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_demo(clone: Path) -> None:
    for number in (1, 2):  # cold, and again
        begun = time.monotonic()
        done = subprocess.run(
            (clone / "scripts" / "demo",), capture_output=True, text=True, check=False, cwd=clone,
            timeout=420, env=environ(clone),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "live in" in done.stdout + done.stderr
        assert "  median " in done.stderr
        print(f"demo, run {number}: {time.monotonic() - begun:.1f} s")
    down = subprocess.run(
        (clone / "scripts" / "demo", "--down"), capture_output=True, text=True, check=False, cwd=clone,
        timeout=120, env=environ(clone),
    )  # fmt: skip
    assert down.returncode == 0, down.stdout + down.stderr
    assert not (clone / ".demo").exists()


@pytest.mark.engine
@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_bench() -> None:
    done = subprocess.run(
        (sys.executable, "bench/loop.py", "small", "--edits", "1", "--json"),
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=230,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["small"]["save_to_serving"] > 0
    assert report["small"]["floor"] > 0
