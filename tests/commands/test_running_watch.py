"""How other commands find the running watch: at the address that it announced, or at that of config.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devloop.commands.running_watch import announced, url_of
from devloop.config.load import Config, load, state_dir

URL = "http://127.0.0.1:9107"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "config.yaml"
    file.write_text("version: 1\nservices: {app: {image: app, build: {context: app}}}\n")
    return load(file)


def test_a_watch_is_found_where_it_announced_itself(config: Config) -> None:
    assert url_of(config) == "http://127.0.0.1:9100"
    with announced(config, URL):
        assert url_of(config) == URL
    assert url_of(config) == "http://127.0.0.1:9100"


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"pid": "x", "url": 1}', json.dumps({"pid": 2**22 + 1, "url": URL})]
)
def test_what_a_killed_watch_left_is_not_believed(config: Config, content: str) -> None:
    folder = state_dir(config.path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "watch.json").write_text(content)
    assert url_of(config) == "http://127.0.0.1:9100"


def test_a_watch_takes_back_only_its_own_announcement(config: Config) -> None:
    with announced(config, URL), announced(config, "http://127.0.0.1:9108"):
        pass
    with announced(config, URL):
        (state_dir(config.path) / "watch.json").write_text(json.dumps({"pid": 1, "url": "http://other"}))
    assert url_of(config) == "http://other"
