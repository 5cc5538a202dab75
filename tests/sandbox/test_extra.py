"""`devloop sandbox` where its extra is not installed says how to install it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_WITHOUT = "import sys; sys.modules['{package}'] = None; from devloop.cli import main; main()"


def _devloop(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(package=package), *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ["cryptography", "dns", "google.protobuf"])
@pytest.mark.parametrize("words", [("up",), ("status", "--json"), ()])
def test_sandbox_without_its_extra_says_how_to_install_it(package: str, words: tuple[str, ...]) -> None:
    done = _devloop(package, "sandbox", *words)
    assert done.returncode == 2
    assert "pip install 'devloop[sandbox]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_without_the_extra_still_lists_everything() -> None:
    done = _devloop("cryptography", "--help")
    assert done.returncode == 0
    assert "sandbox" in done.stdout
    assert "watch" in done.stdout
