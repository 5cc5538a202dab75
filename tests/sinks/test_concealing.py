"""Which values are known secrets, and that they are masked wherever they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.model import BuildSpec, Secret, Service, Target
from devloop.release import Release, ValuesFile
from devloop.sinks.concealing import (
    SECRET_PATH,
    conceal_all,
    concealer,
    known_release_values,
    known_values,
)


def test_s30_values_come_from_files_environment_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine x\n  password hunter22\n\nab\n")
    spec = BuildSpec(
        tmp_path,
        tmp_path / "Dockerfile",
        args={"TOKEN": "argument-value", "DEBUG": "1"},
        secrets=(
            Secret("a", tmp_path / "netrc"),
            Secret("b", None, "TOKEN"),
            Secret("c", None, "UNSET"),
            Secret("d", tmp_path / "missing"),
        ),
    )
    found = known_values([Service("s", "s", spec, ())], {"TOKEN": "from-environment"})
    assert found == {
        "machine x": "a",
        "password hunter22": "a",
        "from-environment": "b",
        "argument-value": "TOKEN",
    }


def test_a_build_argument_that_is_the_services_own_name_is_no_secret(tmp_path: Path) -> None:
    spec = BuildSpec(tmp_path, tmp_path / "Dockerfile", args={"NAME": "todo-backend", "KEY": "s3cr3t-value"})
    target = Target("deployment", "todo-backend", "default")
    assert known_values([Service("backend", "team/todo", spec, (target,))], {}) == {"s3cr3t-value": "KEY"}


def test_s30_every_text_in_a_value_is_masked() -> None:
    value = {"a": ["x hunter22", {"b": "hunter22", "n": 1}], "c": None}
    assert conceal_all(value, concealer(["hunter22"])) == {"a": ["x ***", {"b": "***", "n": 1}], "c": None}


def test_the_longest_value_goes_first() -> None:
    assert concealer(["abcd", "abcdefgh"])("abcdefgh abcd") == "*** ***"


def test_without_secrets_nothing_changes() -> None:
    assert concealer([""])("text") == "text"


def test_a_named_value_is_replaced_by_its_name() -> None:
    assert concealer({"hunter22": "TOKEN"})("using hunter22") == "using [TOKEN]"


def test_s30_values_learned_later_are_masked_too() -> None:
    conceal = concealer(["first-value"])
    conceal.learn({"second-value": "TOKEN"})
    assert conceal("first-value second-value") == "*** [TOKEN]"


@pytest.mark.parametrize(
    "path, secret",
    [
        ("secrets.databaseUrl", True),
        ("backend.secrets.openaiApiKey", True),
        ("global.betterAuthSecret", True),
        ("databaseUrl", True),
        ("db.password", True),
        ("existingSecret", False),
        ("ingress.tlsSecret", False),
        ("imagePullSecret", False),
        ("secret", False),
        ("secretName", False),
        ("secrets.name", False),
        ("secrets.existingSecret", False),
        ("backend.image.tag", False),
    ],
)
def test_s30_which_helm_values_are_secret(path: str, secret: bool) -> None:
    assert bool(SECRET_PATH.search(path)) is secret


def test_s30_values_of_a_release_are_known_from_the_environment_and_from_files(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("secrets: {apiKey: sk-in-a-file}\nexistingSecret: made-by-hand\n")
    release = Release(
        "r", tmp_path, "default", values=(ValuesFile(values),), set_env={"anything": "VARIABLE"}
    )
    found = known_release_values([release], {"VARIABLE": "from-outside"})
    assert found == {"sk-in-a-file": "secrets.apiKey", "from-outside": "anything"}
