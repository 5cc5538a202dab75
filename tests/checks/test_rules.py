"""Every rule finds its mistakes and stays silent on the near misses (sound.yaml, mistakes.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devloop.checks.rule import judge
from devloop.checks.rules import NAMES, RULES
from tests.support.manifest_views import CASES, view

IDS = [f"{number}-{case['rule']}" for number, case in enumerate(CASES, 1)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    report = judge(RULES, view())
    assert report.findings == ()
    assert report.not_run == ()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_mistake_is_found_by_its_rule_on_its_object(case: dict[str, Any]) -> None:
    changes = case["mistake"]
    report = judge(RULES, view(changes))
    changed = next(iter(changes)).split(" ")[0].replace("/", " ")
    found = {(one.rule, one.about) for one in report.findings}
    assert (case["rule"], case.get("about", changed)) in found
    assert {one.rule for one in report.findings} == {case["rule"], *case.get("also", ())}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_rule_is_silent_on_the_near_miss(case: dict[str, Any]) -> None:
    assert judge(RULES, view(case["near"])).findings == ()


def test_every_rule_has_a_mistake_and_there_are_forty() -> None:
    assert {case["rule"] for case in CASES} == NAMES
    assert len(CASES) >= 40
    assert len(NAMES) == len(RULES)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_an_ignored_rule_finds_nothing_and_its_finding_is_listed_apart(case: dict[str, Any]) -> None:
    ignored = {case["rule"], *case.get("also", ())}
    report = judge(RULES, view(case["mistake"], {"ignore": sorted(ignored)}))
    assert report.findings == ()
    assert {one.rule for one in report.suppressed} == ignored


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_by_default_a_rule_has_its_other_severity_or_does_not_run(case: dict[str, Any]) -> None:
    report = judge(RULES, view(case["mistake"], {"profile": "default"}))
    expected = {
        rule.name: rule.default for rule in RULES if rule.name in {case["rule"], *case.get("also", ())}
    }
    assert {one.rule: one.severity for one in report.findings} == {
        name: severity for name, severity in expected.items() if severity
    }


def test_by_default_only_what_cannot_run_or_was_declared_is_an_error() -> None:
    """The API server refuses it, its pods do not start, or config.yaml itself says otherwise."""
    refused = {
        *("renders", "schema", "name-form", "label-form", "data-keys", "object-twice", "quantity-form"),
        *("limits-hold-requests", "own-selector", "foreign-selector", "port-collision", "node-port-range"),
        *("node-port-free", "secret-base64"),
    }
    do_not_start = {"pull-policy", "image-on-node", "fits-nodes", "secret-keys"}
    declared = {"service-type", "secret-shape", "secret-shared", "image-size"}
    assert {rule.name for rule in RULES if rule.default == "error"} == refused | do_not_start | declared


def test_the_house_rules_are_those_of_the_strict_profile_alone() -> None:
    assert {rule.name for rule in RULES if rule.default is None} == {
        *("resources-set", "requests-ratio", "probes-present", "replica-count", "no-latest", "tag-form"),
        *("image-user", "image-port", "backend-exposed"),
    }


def test_an_annotation_switches_a_rule_off_for_its_object_alone() -> None:
    place = "spec/template/spec/containers/0/imagePullPolicy"
    changes = {
        f"Deployment/todo-backend {place}": "Always",
        f"Deployment/todo-frontend {place}": "Always",
        "Deployment/todo-frontend metadata/annotations": {"dev.devloop/ignore": "no-latest, pull-policy"},
    }
    report = judge(RULES, view(changes))
    assert [(one.rule, one.about) for one in report.findings] == [("pull-policy", "Deployment todo-backend")]
    assert [one.about for one in report.suppressed] == ["Deployment todo-frontend"]


def test_what_was_not_asked_is_not_run_and_never_passed() -> None:
    absent = {"cluster": "no cluster", "engine": "no engine", "schema": "no schema"}
    report = judge(RULES, view({"facts built/backend/user": "root"}, absent=absent))
    assert report.findings == ()
    needing = {rule.name: absent[rule.needs] for rule in RULES if rule.needs}
    assert dict(report.not_run) == needing
    assert len(needing) >= 8


def test_an_image_that_is_not_built_is_reported_for_every_rule_on_images() -> None:
    report = judge(RULES, view(unbuilt={"backend": "no image yet"}))
    assert {f"{rule.name} on backend" for rule in RULES if rule.needs == "engine"} == {
        name for name, why in report.not_run if why == "no image yet"
    }


def test_s30_no_finding_shows_a_value() -> None:
    values = ("hunter2", "local-only", "sk-proj0123456789abcdefghij", "pk-local-only", "gsk_plain!")
    for case in CASES:
        for finding in judge(RULES, view(case["mistake"])).findings:
            assert not any(value in finding.text for value in values), finding


@pytest.mark.parametrize("junk", [None, "text", 7, [], {}, [None], {"a": None}, [[1]], True])
def test_objects_of_any_shape_raise_nothing(junk: Any) -> None:
    """Rules read what people write: whatever stands in a place, only the schema has to mind."""
    places = (
        "Deployment/todo-backend spec",
        "Deployment/todo-backend spec/template/spec/containers",
        "Deployment/todo-backend spec/template/spec/containers/0/ports",
        "Deployment/todo-backend spec/template/spec/containers/0/env",
        "Deployment/todo-backend spec/template/spec/containers/0/resources",
        "Deployment/todo-backend spec/template/spec/containers/0/readinessProbe",
        "Deployment/todo-backend metadata/labels",
        "Service/todo-frontend spec/ports",
        "Service/todo-frontend spec/selector",
        "Secret/backend-secrets data",
        "ConfigMap/backend-config data",
        "Ingress/todo spec/rules",
    )
    for place in places:
        judge(RULES, view({place: junk}))


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `")]
    assert table == [
        f"| `{rule.name}` | {rule.default or ''} | {rule.strict} | {rule.needs or ''} | {rule.sentence} |"
        for rule in RULES
    ]
