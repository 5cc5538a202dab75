"""The shape of `releases:` in config.yaml, and the Release that comes out of it (docs/releases.md)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from devloop.config.paths import absolute
from devloop.config.section import Section
from devloop.files import is_file
from devloop.model import Release, ValuesFile

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
RELEASE = re.compile(r"^[a-z0-9]([-.a-z0-9]{0,51}[a-z0-9])?$")  # Helm's own limit: 53
VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class ValuesConfig(Section):
    """One values file of a release."""

    file: str = Field(min_length=1, description="Path, beside config.yaml first, then in the chart.")
    optional: bool = Field(default=False, description="Whether it may be absent.")


class NamespaceConfig(Section):
    """How the release's namespace is made where it does not exist."""

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the new namespace.")


def _values(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


def _namespace(value: object) -> object:
    return ({} if value else None) if isinstance(value, bool) else value


class ReleaseConfig(Section):
    """One Helm release."""

    chart: str = Field(min_length=1, description="Folder of the chart, relative to config.yaml.")
    namespace: str | None = Field(default=None, pattern=LABEL, description="cluster.namespace if null.")
    create_namespace: Annotated[
        NamespaceConfig | None,
        BeforeValidator(_namespace, json_schema_input_type=NamespaceConfig | bool | None),
    ] = Field(default=None, description="Make the namespace if it is missing: true or {labels: {…}}.")
    values: list[
        Annotated[ValuesConfig, BeforeValidator(_values, json_schema_input_type=ValuesConfig | str)]
    ] = Field(default_factory=list, description="Values files in order; a later one wins.")
    set_: dict[str, Any] = Field(
        default_factory=dict, alias="set", description="Single values by dotted path, over the files."
    )
    set_env: dict[str, str] = Field(
        default_factory=dict,
        description="Values by dotted path from the environment; on no command line, in no log.",
    )
    images: dict[str, str] = Field(
        default_factory=dict,
        description="Service -> path in the values that gets repository, tag and pullPolicy.",
    )

    @field_validator("set_env")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for path, name in value.items():
            if not VARIABLE.match(name):
                raise ValueError(f"{path} takes the name of an environment variable, such as DATABASE_URL")
        return value

    @field_validator("set_", "set_env", "images")
    @classmethod
    def _paths(cls, value: dict[str, Any], info: Any) -> dict[str, Any]:
        paths = value.values() if info.field_name == "images" else value.keys()
        for path in paths:
            if not path or ".." in path or path.startswith(".") or path.endswith("."):
                raise ValueError(f'"{path}" is not a path in the values; write it as backend.image')
        return value

    def release(self, name: str, root: Path, namespace: str) -> Release:
        """With absolute paths; `namespace` where it names none."""
        chart = absolute(root, self.chart)
        return Release(
            name,
            chart,
            self.namespace or namespace,
            None if self.create_namespace is None else dict(self.create_namespace.labels),
            tuple(ValuesFile(_values_path(root, chart, one.file), one.optional) for one in self.values),
            dict(self.set_),
            dict(self.set_env),
            dict(self.images),
        )


def _values_path(root: Path, chart: Path, text: str) -> Path:
    """Beside config.yaml, else in the chart; a file that is nowhere is looked for beside config.yaml."""
    beside, inside = absolute(root, text), absolute(chart, text)
    return inside if not os.path.lexists(beside) and is_file(inside) else beside
