"""A service of config.yaml: its image and the workloads that run it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from devloop.config.duration import Duration
from devloop.config.schema_build import BuildConfig
from devloop.config.schema_checks import Size
from devloop.config.schema_cluster import LABEL
from devloop.config.schema_forwards import ForwardConfig, Forwards
from devloop.config.section import Section
from devloop.model import UpdateMode

OBJECT = r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"
COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"^(?:(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=:))(?::\d+)?/)?{COMPONENT}(?:/{COMPONENT})*$"
)


class DeployConfig(Section):
    """One workload that runs the image."""

    deployment: str | None = Field(default=None, pattern=OBJECT, description="Name of a Deployment.")
    statefulset: str | None = Field(default=None, pattern=OBJECT, description="Name of a StatefulSet.")
    container: str | None = Field(
        default=None,
        pattern=LABEL,
        description="The container to set; every one that runs this image if null.",
    )
    namespace: str | None = Field(default=None, pattern=LABEL, description="cluster.namespace if null.")

    @model_validator(mode="after")
    def _one_kind(self) -> DeployConfig:
        if (self.deployment is None) == (self.statefulset is None):
            raise ValueError("write either deployment: NAME or statefulset: NAME")
        return self


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else [] if value is None else value


Deploy = Annotated[
    list[DeployConfig],
    BeforeValidator(_as_list, json_schema_input_type=DeployConfig | list[DeployConfig] | None),
]


class UpdateConfig(Section):
    """How a new image gets into a Deployment's pods."""

    mode: UpdateMode = Field(
        description="roll: they are replaced. in-place: only their container is restarted, which is faster;"
        " meanwhile it serves nothing."
    )
    stop_after: Duration | None = Field(
        default=None,
        description="In place: how long a process may take to end, 2s; then it is killed on its node. null:"
        " its grace period.",
    )


def _as_update(value: object) -> object:
    return {"mode": value} if isinstance(value, str) else value


Update = Annotated[
    UpdateConfig, BeforeValidator(_as_update, json_schema_input_type=UpdateMode | UpdateConfig)
]


class ServiceConfig(Section):
    """One image and the workloads that run it."""

    image: str = Field(description="Repository of the image, without a tag: devloop adds it.")
    build: BuildConfig
    deploy: Deploy = Field(
        default_factory=list,
        description="One workload or a list; without it the image is built and loaded only.",
    )
    rollout_timeout: Duration | None = Field(
        default=None,
        description="How long a rollout may stand still, 90s or 5m; null: the Deployment's"
        " progressDeadlineSeconds, 10m where there is none.",
    )
    update: Update = Field(
        default="roll",
        validate_default=True,
        description="How a new image gets into a Deployment's pods (docs/update.md): roll or in-place, or a"
        " mapping with `mode`.",
    )
    forward: Forwards = Field(
        default_factory=ForwardConfig,
        description="Ports of this machine that `devloop watch` forwards to a ready pod (docs/forward.md):"
        " {8080: 3000}, or a mapping with `ports`.",
    )
    max_image_size: Size | None = Field(
        default=None, description="What `devloop check` allows: bytes, or text such as 200MB."
    )

    @field_validator("image")
    @classmethod
    def _image_without_tag(cls, value: str) -> str:
        if IMAGE.match(value):
            return value
        bare = re.sub(r"(?:@.*|:[^/:]*)$", "", value)
        if bare != value and IMAGE.match(bare):
            raise ValueError(f"devloop adds the tag; write image: {bare}")
        raise ValueError(
            f'"{value}" is not an image repository; write lower case, for example registry.local/team/api'
        )
