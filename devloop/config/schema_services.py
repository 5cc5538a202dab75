"""A service of config.yaml: its image and the workloads that run it."""

from __future__ import annotations

import re
import signal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from devloop.config.duration import Duration
from devloop.config.schema_build import BuildConfig
from devloop.config.schema_checks import Size
from devloop.config.schema_cluster import LABEL
from devloop.config.schema_forwards import ForwardConfig, Forwards
from devloop.config.schema_hooks import HooksConfig, HooksField
from devloop.config.section import Section
from devloop.model import NO_RELOAD, RESTART, AtEnd, Trigger, UpdateMode

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


class SignalConfig(Section):
    """The signal by which a process takes up files that were written into its container."""

    signal: str = Field(description="Its name: HUP, USR1, ... The process has to handle it.")


def _as_reload(value: object) -> object:
    """`none`, `restart`, or the name of the signal without its SIG."""
    if value in (None, NO_RELOAD, RESTART):
        return value
    name = value.get("signal") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(name, str):
        raise ValueError("write reload: none, reload: restart or reload: {signal: HUP}")
    short = name.upper().removeprefix("SIG")
    if f"SIG{short}" not in signal.Signals.__members__ or short in ("KILL", "STOP"):
        raise ValueError(f'"{name}" is no signal that a process can handle; write reload: {{signal: HUP}}')
    return short


Reload = Annotated[
    str, BeforeValidator(_as_reload, json_schema_input_type=Literal["none", "restart"] | SignalConfig)
]


class UpdateConfig(Section):
    """How a new image gets into a Deployment's pods."""

    mode: UpdateMode = Field(
        description="roll: they are replaced. in-place: only their container is restarted, which is faster;"
        " meanwhile it serves nothing. sync: changed files are written into their containers, and the image"
        " follows."
    )
    stop_after: Duration | None = Field(
        default=None,
        description="In place: how long a process may take to end, 2s; then it is killed on its node. null:"
        " its grace period.",
    )
    reload: Reload | None = Field(
        default=None,
        description="With sync, and there it has to be written: how the process takes up the files. none: it"
        " watches them itself. {signal: HUP}: it gets that signal. restart: as in-place.",
    )
    at_end: AtEnd = Field(
        default="bake",
        description="With sync, when watch ends. bake: the containers are restarted once, with the image that"
        " holds what was synced. leave: they are left as they are, and a warning says so.",
    )

    @model_validator(mode="after")
    def _of_sync(self) -> UpdateConfig:
        if self.mode == "sync" and self.reload is None:
            raise ValueError(
                "with sync, say how the process takes up the files: {mode: sync, reload: none} if it watches"
                " them itself, {mode: sync, reload: {signal: HUP}}, or restart"
            )
        if self.mode != "sync" and self.model_fields_set & {"reload", "at_end"}:
            raise ValueError(f"reload and at_end are for mode: sync, not for {self.mode}")
        return self


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
        " mapping with `mode`, which sync needs.",
    )
    trigger: Trigger = Field(
        default="auto",
        description="What `devloop watch` does at a save: auto, it rolls it out; manual, it waits for"
        " `devloop trigger` (docs/control.md).",
    )
    depends_on: list[str] = Field(
        default_factory=list,
        description="Services that have to be live before this one is rolled out for the first time.",
    )
    hooks: HooksField = Field(
        default_factory=HooksConfig,
        description="Commands that run with the trips of the service (docs/hooks.md).",
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
