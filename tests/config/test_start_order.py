"""depends_on in config.yaml: names that are not there, and orders that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from devloop.config.load import load
from devloop.config.start_order import order_problems
from devloop.errors import ConfigError
from devloop.model import Release, Service, Target
from tests.support.fakes import SERVICE

CHART = Release("shop", Path("/chart"), "default", images={"web": "web.image", "db": "db.image"})


def service(name: str, *depends_on: str, workload: str = "") -> Service:
    targets = (Target("deployment", workload or name, "default", name),)
    return replace(SERVICE, name=name, image=name, targets=targets, depends_on=depends_on)


@pytest.mark.parametrize(
    ("services", "releases", "expected"),
    [
        ([service("web", "api", "db"), service("api", "db"), service("db")], [], []),
        (
            [service("web", "dbb"), service("db")],
            [],
            ["services.web.depends_on.0: no service dbb; there are: web, db"],
        ),
        ([service("web", "web")], [], ["services.web.depends_on.0: a service cannot wait for itself"]),
        (
            [service("web", "api"), service("api", "db"), service("db", "web")],
            [],
            ["services.web.depends_on: a circle: web -> api -> db -> web; leave one of them out"],
        ),
        (
            [service("a"), service("web", "api"), service("api", "db"), service("db", "api")],
            [],
            ["services.api.depends_on: a circle: api -> db -> api; leave one of them out"],
        ),
        (
            [service("web", "side", workload="web"), service("side", workload="web")],
            [],
            ["services.web.depends_on.0: side starts together with web: they are in one workload or release"],
        ),
        (
            [service("web", "db"), service("db")],
            [CHART],
            ["services.web.depends_on.0: db starts together with web: they are in one workload or release"],
        ),
        (  # web waits for api, api for db, and db is installed with web
            [service("web", "api"), service("api", "db"), service("db")],
            [CHART],
            ["services.web.depends_on: a circle: web -> api -> db; leave one of them out"],
        ),
    ],
)
def test_what_cannot_be_is_named_with_its_place(
    services: Sequence[Service], releases: Sequence[Release], expected: list[str]
) -> None:
    found = [f"{'.'.join(map(str, at))}: {text}" for at, text in order_problems(services, releases)]
    assert found == expected


def test_config_yaml_has_the_line_of_it(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text("FROM scratch\n")
    file = tmp_path / "config.yaml"
    text = "version: 1\nservices:\n  db: {image: db, build: {context: web}}\n  web:\n    image: web\n"
    file.write_text(f"{text}    build: {{context: web}}\n    depends_on: [db, db]\n")
    _, web = load(file).services()
    assert web.depends_on == ("db",)
    file.write_text(f"{text}    build: {{context: web}}\n    depends_on: [db, cache]\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.message.startswith(f"{file}:7:")
    assert caught.value.message.endswith("services.web.depends_on[1]: no service cache; there are: db, web")
