"""The cluster section of config.yaml."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from devloop.config.section import Section

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Load = Literal["auto", "shared", "docker-env", "image-load", "kind", "k3d", "containerd", "registry"]


class ClusterConfig(Section):
    """Which cluster, and how images get into it."""

    context: str = Field(
        default="minikube",
        min_length=1,
        description="The kubeconfig context. The current context is never used.",
    )
    namespace: str = Field(
        default="default", pattern=LABEL, description="Namespace of every target that names none."
    )
    allow_remote: bool = Field(default=False, description="Allow a context that is not a local cluster.")
    load: Load = Field(default="auto", description="How an image reaches the nodes; auto finds it out.")
    engine: str | None = Field(
        default=None, description="The nodes' engine, for example unix:///run/docker.sock."
    )
    registry: str | None = Field(
        default=None, description="host[:port][/path] to push to, with load: registry."
    )

    @model_validator(mode="after")
    def _registry_is_named(self) -> ClusterConfig:
        if self.load == "registry" and not self.registry:
            raise ValueError('load: registry needs a registry to push to; write registry: "localhost:5000"')
        return self

    @field_validator("engine")
    @classmethod
    def _engine_is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"^(unix|tcp|ssh|npipe)://.+|^/.+", value):
            raise ValueError(
                f'"{value}" is not an engine address; write unix:///run/docker.sock or tcp://host:2376'
            )
        return f"unix://{value}" if value and value.startswith("/") else value
