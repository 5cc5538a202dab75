"""What the charts render, and what Dockerfiles, folders and config.yaml say, against the documents' rows."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import schemas
from tests.topologies import dockerfiles, expected, helm
from tests.topologies.deployments import ALL, BY_NAME, Topology

SCHEMA = "1.36"
NAMES = [topology.name for topology in ALL]
Objects = dict[tuple[str, str], Any]


def of(*kinds: str) -> pytest.MarkDecorator:
    found = [subject for name in NAMES for subject in expected.subjects(name, *kinds)]
    return pytest.mark.parametrize("subject", found, ids=str)


def check(subject: expected.Subject, thing: Any) -> None:
    wrong = [
        f"line {line}, {path}: {difference}"
        for line, path, wanted in subject.rows
        if (difference := expected.differs(expected.at(thing, path), wanted))
    ]
    assert not wrong, f"{subject}:\n" + "\n".join(wrong)


@functools.cache
def rendered(name: str, release: str, files: tuple[str, ...], given: str, called: str | None) -> Objects:
    """Each object is valid for the API's schema, whatever values it was rendered with."""
    topology = BY_NAME[name]
    chart = topology.chart(release)
    places = [file if (chart / file).is_file() else str(topology.folder / file) for file in files]
    values = helm.values_of(chart, places, {**expected.given(name), **json.loads(given)})
    text = helm.render(chart, values, name=called or release, namespace=topology.namespace)
    found = helm.objects(text)
    for item in found.values():
        schemas.validate(item, SCHEMA)
    return found


def everything(
    name: str,
    files: tuple[str, ...] = (),
    given: dict[str, Any] | None = None,
    called: str | None = None,
) -> Objects:
    """Of all releases of the deployment."""
    found: Objects = {}
    for release in BY_NAME[name].releases:
        found |= rendered(name, release, files, json.dumps(given or {}), called)
    return found


@of("object")
def test_objects_are_as_the_document_says(subject: expected.Subject) -> None:
    kind, _, name = subject.name.partition("/")
    found = everything(subject.topology, subject.values, dict(subject.given or {}), subject.release)
    check(subject, found[kind, name])


@of("kinds")
def test_the_release_makes_these_objects_and_no_others(subject: expected.Subject) -> None:
    kinds = sorted(kind for kind, _ in rendered(subject.topology, subject.name, (), "{}", None))
    check(subject, {"kinds": kinds})


@of("chart")
def test_chart_yaml(subject: expected.Subject) -> None:
    chart = chart_named(subject)
    check(subject, yaml.safe_load((chart / "Chart.yaml").read_text()))


@of("defaults")
def test_default_values(subject: expected.Subject) -> None:
    check(subject, yaml.safe_load((chart_named(subject) / "values.yaml").read_text()))


def chart_named(subject: expected.Subject) -> Path:
    topology = BY_NAME[subject.topology]
    return next(
        topology.chart(name) for name in topology.releases if topology.chart(name).name == subject.name
    )


@of("tree")
def test_the_chart_has_exactly_the_files_of_the_document(subject: expected.Subject) -> None:
    folder = BY_NAME[subject.topology].folder / subject.name
    check(subject, {"files": sorted(path.name for path in folder.iterdir())})


@of("config")
def test_config_yaml(subject: expected.Subject) -> None:
    topology = BY_NAME[subject.topology]
    whole = {"services": topology.services, "releases": topology.releases}
    check(subject, expected.at(whole, subject.name))


@of("dockerfile")
def test_dockerfiles(subject: expected.Subject) -> None:
    check(subject, dockerfiles.facts(BY_NAME[subject.topology].dockerfile(subject.name)))


@pytest.mark.parametrize("topology", ALL, ids=lambda topology: topology.name)
def test_every_base_can_be_replaced_by_a_build_argument(topology: Topology) -> None:
    for service in topology.services:
        path = topology.dockerfile(service)
        assert dockerfiles.local_bases(path) == set(topology.bases[service])
        froms = [line for line in path.read_text().splitlines() if line.startswith("FROM ")]
        assert all(line.startswith("FROM ${") for line in froms)


@of("before")
def test_what_a_person_makes_beforehand(subject: expected.Subject) -> None:
    """kubectl itself says what its line makes, without a cluster."""
    name = subject.name.partition("/")[2]
    words = next(words for words in BY_NAME[subject.topology].before if name in words)
    text = subprocess.check_output(["kubectl", *words, "--dry-run=client", "-o", "yaml"], text=True)
    made = yaml.safe_load(text)
    schemas.validate(made, SCHEMA)
    check(subject, made)


@pytest.mark.parametrize(
    "attempt", [attempt for name in NAMES for attempt in expected.attempts(name)], ids=str
)
def test_values_that_break_a_rule_are_refused_and_near_misses_are_not(attempt: expected.Attempt) -> None:
    topology = BY_NAME[attempt.topology]
    (release,) = topology.releases
    chart = topology.chart(release)
    values = helm.values_of(chart, (), {**expected.given(attempt.topology), **attempt.values})
    if attempt.text is None:
        helm.render(chart, values, name=release)
    else:
        with pytest.raises(helm.RefusedError) as refusal:
            helm.render(chart, values, name=release)
        assert attempt.text in str(refusal.value)


@pytest.mark.parametrize("topology", ALL, ids=lambda topology: topology.name)
def test_helm_lint_finds_nothing(topology: Topology) -> None:
    for release in topology.releases:
        assert helm.lint(topology.chart(release), topology.values(release)) == []


@pytest.mark.parametrize("topology", ALL, ids=lambda topology: topology.name)
def test_services_select_exactly_the_pods_of_their_deployment(topology: Topology) -> None:
    """001 lines 149-154, 405; and the port that a Service sends to is one that its pods open."""
    found = everything(topology.name)
    pods = {name: item["spec"]["template"] for (kind, name), item in found.items() if kind == "Deployment"}
    assert len(pods) == 2
    chosen = []
    for (kind, _), item in found.items():
        if kind != "Service":
            continue
        selector = item["spec"]["selector"].items()
        matching = [name for name, pod in pods.items() if selector <= pod["metadata"]["labels"].items()]
        assert len(matching) == 1
        chosen += matching
        (port,) = item["spec"]["ports"]
        open_ports = pods[matching[0]]["spec"]["containers"][0]["ports"]
        assert any(port["targetPort"] in (entry["containerPort"], entry["name"]) for entry in open_ports)
    assert sorted(chosen) == sorted(pods)


def test_both_secrets_of_000_sign_with_the_same_key() -> None:
    """000 lines 120 and 129: shared with the backend, 32 bytes or more, whatever it is set to."""
    for given in ({}, {"global.betterAuthSecret": "another-secret-of-more-than-32-bytes"}):
        found = everything("000-umbrella", (), given)
        front = found["Secret", "todo-frontend-secrets"]["data"]["BETTER_AUTH_SECRET"]
        back = found["Secret", "todo-backend-secrets"]["data"]["BETTER_AUTH_SECRET"]
        assert front == back


def test_the_umbrella_takes_its_objects_from_two_subcharts() -> None:
    """000 lines 135-146."""
    topology = BY_NAME["000-umbrella"]
    text = helm.render(topology.chart("todo-chatbot"), {}, name="todo-chatbot")
    for part in ("frontend", "backend"):
        mine = {path: body for path, body in text.items() if f"/charts/{part}/" in path}
        assert {kind for kind, _ in helm.objects(mine)} == {"Deployment", "Service", "ConfigMap", "Secret"}


@pytest.mark.parametrize(
    ("name", "given", "restarted"),
    [
        ("000-umbrella", {"backend.config.llmProvider": "openai"}, {"todo-backend"}),
        (
            "001-root-context",
            {"config.logLevel": "error"},
            {"todo-chatbot-backend", "todo-chatbot-frontend"},
        ),
        ("001-root-context", {"secrets.openaiApiKey": "sk-2"}, {"todo-chatbot-backend"}),
        ("002-split-contexts", {"config.groqModel": "other"}, {"todo-chatbot-backend"}),
        (
            "003-stages-and-secrets",
            {"config.debug": "true"},
            {"todo-chatbot-backend", "todo-chatbot-frontend"},
        ),
        ("004-two-charts", {"config.logLevel": "DEBUG"}, {"todo-backend"}),
    ],
)
def test_a_changed_config_changes_the_pods_that_read_it(
    name: str, given: dict[str, Any], restarted: set[str]
) -> None:
    """001 line 175; the pod template changes by the checksum alone."""
    before, after = everything(name), everything(name, (), given)
    changed = {
        key[1]
        for key, item in before.items()
        if key[0] == "Deployment" and item["spec"]["template"] != after[key]["spec"]["template"]
    }
    assert changed == restarted


def test_no_configmap_holds_a_credential() -> None:
    """000 line 159, 001 line 400."""
    for topology in ALL:
        for (kind, name), item in everything(topology.name).items():
            if kind == "ConfigMap":
                for key, value in item["data"].items():
                    assert not any(word in key for word in ("SECRET", "KEY", "PASSWORD", "DATABASE")), (
                        name,
                        key,
                    )
                    assert not value.startswith(("sk-", "gsk_", "postgresql"))


def test_requests_are_at_most_limits_and_001_asks_for_half() -> None:
    """001 lines 392 and 394."""
    amounts = {"m": 1, "Mi": 2**20, "Gi": 2**30}

    def number(text: str) -> float:
        unit = next((unit for unit in amounts if text.endswith(unit)), "")
        return float(text.removesuffix(unit)) * amounts.get(unit, 1000)

    for topology in ALL:
        for (kind, _), item in everything(topology.name).items():
            if kind == "Deployment":
                limits, requests = (
                    expected.at(item, f"$c.resources.{key}") for key in ("limits", "requests")
                )
                shares = [number(requests[key]) / number(limits[key]) for key in ("cpu", "memory")]
                assert all(0 < share <= 1 for share in shares)
                if topology.name == "001-root-context":
                    assert all(0.5 <= share <= 0.75 for share in shares)
