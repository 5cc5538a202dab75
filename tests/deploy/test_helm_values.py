"""Values put together as Helm does, and the digest that an upgrade hangs on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devloop.deploy.helm_values import base_values, digest, merged, nested, with_images
from devloop.errors import ConfigError
from devloop.model import Release, ValuesFile


@pytest.fixture
def release(tmp_path: Path) -> Release:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: demo\n")
    (chart / "values.yaml").write_text(
        "front: {image: {pullPolicy: Never}}\nback: {image: {pullPolicy: Always}}\n"
    )
    (tmp_path / "a.yaml").write_text("one: 1\nmap: {a: 1, b: 1}\n")
    (tmp_path / "b.yaml").write_text("map: {b: 2, c: null}\nlist: [2]\n")
    files = (
        ValuesFile(tmp_path / "a.yaml"),
        ValuesFile(tmp_path / "b.yaml"),
        ValuesFile(tmp_path / "none.yaml", optional=True),
    )
    return Release("demo", chart, "default", values=files)


def test_later_wins_mapping_by_mapping(release: Release) -> None:
    one = replace(release, set={"map.a": 3, r"map.x\.y": 4}, set_env={"map.secret": "SECRET"})
    assert base_values(one, {"SECRET": "s"}) == {
        "one": 1,
        "list": [2],
        "map": {"a": 3, "b": 2, "c": None, "x.y": 4, "secret": "s"},
    }
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert nested("a", 1) == {"a": 1}


def test_what_is_missing_is_named(release: Release, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"map.x takes its value from NOPE, which is not in the environment"
    ):
        base_values(replace(release, set_env={"map.x": "NOPE"}), {})
    with pytest.raises(ConfigError, match=r"none.yaml does not exist"):
        base_values(replace(release, values=(ValuesFile(tmp_path / "none.yaml"),)), {})
    (tmp_path / "a.yaml").write_text("a: 1\nb: [\n")
    with pytest.raises(ConfigError, match=r"a.yaml:3"):
        base_values(release, {})


def test_s22_images_get_repository_tag_and_a_policy_that_is_never_always(release: Release) -> None:
    one = replace(release, images={"f": "front.image", "b": "back.image", "x": "other.image"})
    values = with_images(one, {"back": {"keep": 1}}, {"f": "localhost:5000/f:dl-1", "b": "b:dl-2"})
    assert values == {
        "front": {"image": {"repository": "localhost:5000/f", "tag": "dl-1", "pullPolicy": "Never"}},
        "back": {"keep": 1, "image": {"repository": "b", "tag": "dl-2", "pullPolicy": "IfNotPresent"}},
    }


def test_the_digest_follows_chart_and_values_and_nothing_else(release: Release) -> None:
    first = digest(release, {"a": 1})
    assert len(first) == 16
    assert digest(release, {"a": 1}) == first
    assert digest(release, {"a": 2}) != first
    (release.chart / "templates" / ".web.yaml.swp").write_text("an editor's")
    assert digest(release, {"a": 1}) == first
    (release.chart / "templates" / "web.yaml").write_text("kind: Pod\n")
    assert digest(release, {"a": 1}) != first
