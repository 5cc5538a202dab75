"""The objects that `-o json` and `-o yaml` print are those of docs/output.md; every command has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from devloop import cli
from devloop.checks.rule import Finding, Report
from devloop.clock import Clock
from devloop.commands import diff, doctor, down, explain, verify
from devloop.commands.output import concealed, dumped
from devloop.commands.verify import Verified
from devloop.delta.delta import NotProven
from devloop.deploy.diff import Difference, Preview, differences
from devloop.deploy.teardown import Teardown
from devloop.doctor.diagnosis import Diagnosis
from devloop.errors import ReleaseError
from devloop.model import Release
from devloop.rollout.service_status import Standing
from devloop.sinks import findings, standing, summary
from devloop.sinks.outcomes import describe, error_fields
from devloop.sinks.past_trips import past_trips
from devloop_sandbox import daemon
from tests.support.fakes import SERVICE
from tests.support.sample_project import ROOT
from tests.support.trips import failed_trip, live_trip

PAGE = (ROOT / "docs" / "output.md").read_text()
SHAPES = {
    name: json.loads(text)
    for name, text in re.findall(r"<!-- shape: (\w+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
}
# Commands that print no result, and those whose result is a file or a stream.
WITHOUT = {"init", "watch", "logs", "mcp", "completion"}


def shape(value: object) -> object:
    """The keys, and the types of what they have."""
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shape(item) for item in value[:1]]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else "text"


def produced() -> Iterator[tuple[str, object]]:
    release = Release("web", Path("/chart"), "default")
    trip = SHAPES["once"]["services"]["web"]
    yield "once", summary.running_as_object({"web": {**trip, "trip": 7}}, SHAPES["once"]["problems"])
    error = ReleaseError("m", reason="CrashLoopBackOff", evidence=("x",), hint="h")
    yield "error", {"stage": "rollout", **error_fields(error)}
    one = Standing(
        "live", "Running", {"Ready": 1}, "f", "i", ("i",), 1, 1, "http://x", forwards=("http://y",)
    )
    yield "status", standing.as_object({"web": one}, {"web": "live"})
    yield "doctor", doctor.as_object([Diagnosis("warning", "metrics", "port", "fix")])
    finding = Finding("no-latest", "error", "Deployment web", "no tag", "k8s/web.yaml", 12)
    yield "check", findings.as_object(Report("default", (finding,), (), (("image-size", "--offline"),)))
    yield "diff", diff.as_object([Difference("deployment/web", "default", "change", ("-",))], [release])
    yield "explain", {"services": {"web": explain.as_object(SERVICE, (explain.Group(("a",), None),))}}
    yield "verify", {"services": {"web": verify.as_object(Verified("r", 1, ()))}}
    yield "down", down.as_object(Teardown((release,), ("deployment/web",), (), {"shop": ["configmap/x"]}))
    yield "sandbox", daemon.Status(True, 1, "s", "c", "k").as_dict()


@pytest.mark.parametrize("name", [name for name, _ in produced()])
def test_what_is_printed_has_the_documented_shape(name: str) -> None:
    assert shape(dict(produced())[name]) == shape(SHAPES[name])


def test_each_outcome_of_once_has_the_documented_keys() -> None:
    clock, documented = Clock(), SHAPES["once"]["services"]["web"]
    found = describe(live_trip(lambda _: None, clock))
    assert found.keys() == documented.keys()
    assert found["seconds"].keys() == documented["seconds"].keys()
    assert describe(failed_trip(lambda _: None, clock))["error"].keys() == SHAPES["error"].keys()


def test_a_trip_of_the_history_has_the_documented_keys(tmp_path: Path) -> None:
    entry = {"event": "trip_ended", "service": "web", "at": 2.0, "outcome": "live"}
    (tmp_path / "journal.jsonl").write_text(json.dumps(entry, separators=(",", ":")) + "\n")
    (trip,) = past_trips(tmp_path, (), 9)
    assert trip.keys() == SHAPES["history"]["trips"][0].keys()


def test_what_stops_a_delta_is_in_the_object() -> None:
    groups = (explain.Group(("p",), NotProven("RunAfter", "RUN npm ci reads it", line=4), goes_on=True),)
    (group,) = explain.as_object(SERVICE, groups)["groups"]
    assert (group["how"], group["reason"], group["line"], group["advice"]) == ("run", "RunAfter", 4, None)


def test_each_object_says_what_would_be_done_with_it() -> None:
    item = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "1"}}
    other = {**item, "data": {"a": "2"}}
    found = differences(
        [
            Preview("configmap/new", "x", None, item),
            Preview("configmap/same", "x", item, item),
            Preview("configmap/other", "x", item, other),
            Preview("configmap/gone", "x", item, None),
        ]
    )
    assert [(one.name, one.change) for one in found] == [
        ("configmap/new", "create"),
        ("configmap/other", "change"),
        ("configmap/gone", "delete"),
    ]


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_both_spell_the_same_object(output: str) -> None:
    value = {"list": (1, 2.5, None, True), "text": "1.10", "more": ["a\nb", "ä", "no"]}
    read = (json.loads if output == "json" else yaml.safe_load)(dumped(value, output))
    assert read == {**value, "list": [1, 2.5, None, True]}


def test_no_secret_is_in_an_object() -> None:
    hidden = concealed(
        {"a": ["x s3cret\ny", 5], "b": {"c": "s3cret\ny"}}, lambda text: text.replace("s3cret\ny", "***")
    )
    assert hidden == {"a": ["x ***", 5], "b": {"c": "***"}}


def commands() -> dict[str, click.Command]:
    context = click.Context(cli.main)
    found = {name: cli.main.get_command(context, name) for name in cli.main.list_commands(context)}
    return {name: one for name, one in found.items() if one is not None}


@pytest.mark.parametrize("name", sorted(commands().keys() - WITHOUT - {"sandbox"}))
def test_every_command_takes_o(name: str) -> None:
    options = [option for param in commands()[name].params for option in param.opts]
    assert {"-o", "--output"} <= set(options)


@pytest.mark.parametrize("name", sorted(commands().keys() - WITHOUT - {"sandbox"}))
def test_without_it_there_are_lines(name: str) -> None:
    command = commands()[name]
    (option,) = (param for param in command.params if "-o" in param.opts)
    assert option.handle_parse_result(click.Context(command), {}, [])[0] == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["status"], ""),
        (["status", "-o", "json"], "json"),
        (["status", "-o", "yaml"], "yaml"),
        (["status", "--json"], "json"),
        (["status", "--json", "-o", "yaml"], "yaml"),
        (["once", "--json"], "json"),
        (["check", "--format", "text"], ""),
        (["check", "--format", "github"], "github"),
        (["check", "--format", "json"], "json"),
        (["check", "-o", "github"], "github"),
    ],
)
def test_older_spellings_mean_the_same(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[str] = []

    def note(*_: Any, output: str, **__: Any) -> int:
        given.append(output)
        return 0

    (tmp_path / "config.yaml").write_text("version: 1\nservices: {a: {image: a, build: {context: .}}}\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setattr(f"devloop.commands.{words[0]}.{words[0]}", note)
    done = CliRunner().invoke(cli.main, [*words, "-c", str(tmp_path / "config.yaml")])
    assert (done.exit_code, given) == (0, [expected]), done.output


def test_the_page_names_no_other_shape() -> None:
    assert set(SHAPES) == {name for name, _ in produced()} | {"history", "rollback", "control"}
