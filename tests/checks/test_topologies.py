"""On the five deployments the rules find what the documents prescribe (docs/topologies.md), and no more."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml

from devloop.checks.facts import Facts
from devloop.checks.origin import from_release
from devloop.checks.rule import Report, View, judge
from devloop.checks.rules import RULES
from devloop.checks.subject import Subject
from devloop.config.schema_checks import ChecksConfig
from devloop.image_refs import repository
from devloop.model import Release
from tests.support.manifest_views import schema
from tests.topologies import helm
from tests.topologies.deployments import ALL, BY_NAME, ROOT, Topology

OFFLINE = {"cluster": "not asked", "engine": "not asked"}
ROW = re.compile(r"^\| (\d{3}) \| `([\w-]+)` \| (\w+ [\w-]+) \| ([\d, -]+) \|", re.MULTILINE)


def rendered(topology: Topology) -> tuple[Subject, ...]:
    images = {name: f"{one['image']}:dl-0123456789abcdef" for name, one in topology.services.items()}
    found: list[Subject] = []
    for name in topology.releases:
        chart = topology.chart(name)
        texts = helm.render(chart, topology.values(name, images), name=name, namespace=topology.namespace)
        manifest = "\n".join(
            f"---\n# Source: {path}\n{text}" for path, text in sorted(texts.items()) if "NOTES" not in path
        )
        found += from_release(Release(name, chart, topology.namespace), manifest, topology.folder)
    return tuple(found)


@functools.cache
def report(name: str) -> Report:
    topology = BY_NAME[name]
    config = yaml.safe_load((topology.folder / "config.yaml").read_text())
    services = {repository(one["image"]): key for key, one in topology.services.items()}
    settings = ChecksConfig.model_validate(config["checks"])
    facts = Facts(images=services, schema=schema(), absent=OFFLINE, settings=settings)
    return judge(RULES, View(rendered(topology), facts))


@pytest.mark.parametrize("path", [*(topology.folder for topology in ALL), ROOT / "config.manifests.yaml"])
def test_house_rules_hold_for_the_examples(path: Path) -> None:
    config = yaml.safe_load((path / "config.yaml" if path.is_dir() else path).read_text())
    assert config["checks"]["profile"] == "strict"


@pytest.mark.parametrize("name", [topology.name for topology in ALL])
def test_nothing_is_found_but_what_is_switched_off(name: str) -> None:
    assert report(name).findings == ()


@pytest.mark.parametrize("name", [topology.name for topology in ALL])
def test_what_is_switched_off_is_listed_with_the_documents_line(name: str) -> None:
    text = (ROOT / "docs" / "topologies.md").read_text()
    listed = {(rule, about) for number, rule, about, _ in ROW.findall(text) if number == name[:3]}
    assert listed == {(one.rule, one.about) for one in report(name).suppressed}
    assert all(lines.strip() for _, _, _, lines in ROW.findall(text))


@pytest.mark.parametrize("name", [topology.name for topology in ALL])
def test_every_rendered_object_has_a_line_of_its_template(name: str) -> None:
    topology = BY_NAME[name]
    for subject in rendered(topology):
        lines = (topology.folder / subject.file).read_text().splitlines()
        assert "kind:" in lines[subject.line(("kind",)) - 1]
        assert "name:" in lines[subject.line(("metadata", "name")) - 1]
        for container in subject.containers():
            assert "image:" in lines[subject.line((*container.place, "image")) - 1]
