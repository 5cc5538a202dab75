"""A sandbox of the test run's own, in a state folder of its own, and a kubectl that talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One `devloop sandbox` by its name; `run("up")` and the like call the real command."""

    name: str
    home: Path

    @property
    def state(self) -> Path:
        return self.home / "devloop" / "sandbox" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_STATE_HOME": str(self.home), "PYTHONPATH": str(REPOSITORY)}

    def run(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "devloop_sandbox.cli", verb, "--name", self.name, *more]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def kubectl(
        self, *words: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """The machine's kubectl; a failure shows its output."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox with quick back-off; gone, with all it made, at the end."""
    made = Sandbox(f"test-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("state"))
    up = made.run("up", "--backoff-scale", "0.1")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    down = made.run("down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def namespace(sandbox: Sandbox) -> Iterator[str]:
    """A namespace for one test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    sandbox.kubectl("create", "namespace", name)
    yield name
    sandbox.kubectl("delete", "namespace", name, "--wait=false")
