"""The build section of a service in config.yaml: what docker build takes, with its secrets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from devloop.config.duration import Duration
from devloop.config.section import Section


class SecretConfig(Section):
    """A build secret as docker's `--secret`: an id, and a file or an environment variable."""

    id: str = Field(min_length=1, description="The id that RUN --mount=type=secret,id=… asks for.")
    file: str | None = Field(default=None, description="Path of the file that holds the value.")
    env: str | None = Field(
        default=None, description="Name of the environment variable that holds the value."
    )

    @model_validator(mode="after")
    def _one_source(self) -> SecretConfig:
        if (self.file is None) == (self.env is None):
            raise ValueError("a secret has either file: PATH or env: VARIABLE")
        return self


def _secret(value: object) -> object:
    """docker's short form, "id=x,src=y" or "id=x,env=Y", as a mapping."""
    if not isinstance(value, str):
        return value
    names = {"id": "id", "src": "file", "source": "file", "env": "env"}
    found: dict[str, str] = {}
    for part in value.split(","):
        key, equals, text = part.strip().partition("=")
        if key == "type" and text in ("file", "env"):
            continue
        if not equals or key not in names:
            raise ValueError('write a secret as "id=NAME,src=PATH" or "id=NAME,env=VARIABLE"')
        found[names[key]] = text
    return found


def _argument(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        raise ValueError("a name of a build argument is one word of letters, digits and _")
    return name


class BuildConfig(Section):
    """How the image is built: what `docker build` takes."""

    context: str = Field(min_length=1, description="Folder of the build context, relative to config.yaml.")
    dockerfile: str = Field(
        default="Dockerfile",
        min_length=1,
        description="A bare name lies in the context; a path with / is relative to config.yaml.",
    )
    target: str | None = Field(
        default=None, min_length=1, description="The stage to build; the last one if null."
    )
    args: dict[Annotated[str, AfterValidator(_argument)], str] = Field(
        default_factory=dict, description="Build arguments."
    )
    secrets: list[
        Annotated[SecretConfig, BeforeValidator(_secret, json_schema_input_type=SecretConfig | str)]
    ] = Field(default_factory=list, description='Build secrets: {id, file}, {id, env} or "id=x,src=y".')
    platform: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]+/[a-z0-9_]+(/v[0-9]+)?$",
        description="os/arch; the nodes' own if null.",
    )
    idle_timeout: Duration = Field(
        default=600.0, description="How long a build or load may show no progress before it is ended."
    )
    pull_idle_timeout: Duration = Field(default=120.0, description="The same for pulling a base image.")
