from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devloop.config.load import Config, load


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the sockets: a short path, as that of a home folder is."""
    with tempfile.TemporaryDirectory(prefix="dl-") as folder:
        monkeypatch.setattr("devloop.control.place.private_folder.private_folder", lambda: Path(folder))
        yield Path(folder)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\n"
        "cluster: {context: test}\n"
        "services:\n"
        "  backend: {image: todo-backend, build: {context: src}}\n"
        "  other: {image: other, build: {context: src}}\n"
    )
    return load(file)
