"""The sections of config.yaml as pydantic models, and the values of model/ that they become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator

from devloop.config.paths import absolute, check_pattern, dockerfile_path, matching
from devloop.config.schema_checks import ChecksConfig
from devloop.config.schema_cluster import ClusterConfig
from devloop.config.schema_releases import RELEASE, ReleaseConfig
from devloop.config.schema_services import ServiceConfig
from devloop.config.section import Section
from devloop.model import NO_RELOAD, BuildSpec, Forward, Release, Secret, Service, Target

SERVICE = re.compile(r"^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$")
LISTEN = re.compile(r"^(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})$")


class MetricsConfig(Section):
    """Where /metrics, /healthz and /api/status are served."""

    enabled: bool = Field(default=True, description="Whether they are served at all.")
    listen: str = Field(default="127.0.0.1:9100", description="host:port; port 0 takes any free one.")
    strict: bool = Field(
        default=False,
        description="Fail where the port is in use; otherwise the next free one is taken, and printed.",
    )

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        match = LISTEN.match(value)
        if not match or int(match["port"]) > 65535:
            raise ValueError(f'"{value}" is not host:port; write "127.0.0.1:9100"')
        return value

    @property
    def address(self) -> tuple[str, int]:
        """Host (IPv6 without its brackets) and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class GcConfig(Section):
    """What the garbage collection of images leaves."""

    keep: int = Field(default=5, ge=1, description="Images per service that were live, kept for a rollback.")


class LogsConfig(Section):
    """What `devloop watch` and `devloop logs` show of the pods' logs."""

    mute: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Lines that are left out: probes, access, or regular expressions.",
    )

    @field_validator("mute")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{pattern}" is no regular expression: {error}') from error
        return value


class Config(Section):
    """devloop's config.yaml. Paths are relative to the file."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    by_name: dict[str, ServiceConfig] = Field(
        alias="services", min_length=1, description="The services, by name."
    )
    manifests: list[Annotated[str, AfterValidator(check_pattern)]] = Field(
        default_factory=list,
        description="Plain YAML files (globs) and folders of kustomizations, applied with the live tags "
        "put in, again when they change.",
    )
    releases_by_name: dict[str, ReleaseConfig] = Field(
        default_factory=dict, alias="releases", description="Helm releases, by name (docs/releases.md)."
    )
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    gc: GcConfig = Field(default_factory=GcConfig)
    logs: LogsConfig = Field(default_factory=LogsConfig, description="What is shown of the pods' logs.")
    checks: ChecksConfig = Field(default_factory=ChecksConfig, description="For `devloop check`.")
    secrets: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Build arguments and environment variables whose values are shown nowhere, beside those "
        "whose names say so.",
    )
    _path: Path = PrivateAttr(default=Path("config.yaml"))
    _namespace_given: bool = PrivateAttr(default=False)

    @field_validator("by_name", mode="before")
    @classmethod
    def _service_names(cls, value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            if not SERVICE.match(str(name)):
                raise ValueError(
                    f'"{name}" is not a service name; use letters, digits, "-", "_" and ".", at most 63'
                )
        return value

    @field_validator("releases_by_name", mode="before")
    @classmethod
    def _release_names(cls, value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            if not RELEASE.match(str(name)):
                raise ValueError(f'"{name}" is not a release name; use a-z, 0-9, "-" and ".", at most 53')
        return value

    def came_from(self, path: Path) -> Config:
        """Remember the absolute path of the file; paths are relative to its folder."""
        self._path = path
        return self

    def with_cluster(self, cluster: ClusterConfig, *, namespace_given: bool) -> Config:
        """The same with the command line's cluster section."""
        changed = self.model_copy(update={"cluster": cluster})
        changed._namespace_given = namespace_given
        return changed

    @property
    def namespace_given(self) -> bool:
        """Whether cluster.namespace is from the command line or the environment."""
        return self._namespace_given

    @property
    def path(self) -> Path:
        """The absolute path of the file this came from."""
        return self._path

    @property
    def root(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self._path.parent

    def services(self) -> tuple[Service, ...]:
        """The services with absolute paths and every target's namespace filled, in the file's order."""
        return tuple(self._service(name, section) for name, section in self.by_name.items())

    def manifest_files(self) -> tuple[Path, ...]:
        """The files that `manifests` matches now, and folders of kustomizations, in order, each once."""
        found: dict[Path, None] = {}
        for pattern in self.manifests:
            found.update(dict.fromkeys(sorted(matching(self.root, pattern))))
        return tuple(found)

    def releases(self) -> tuple[Release, ...]:
        """The Helm releases with absolute paths, in the file's order."""
        return tuple(
            section.release(name, self.root, self.cluster.namespace)
            for name, section in self.releases_by_name.items()
        )

    def forwards(self) -> tuple[Forward, ...]:
        """What every service forwards, in the file's order."""
        return tuple(
            Forward(name, section.forward.address, int(port), to)
            for name, section in self.by_name.items()
            for port, to in section.forward.ports.items()
        )

    def _service(self, name: str, section: ServiceConfig) -> Service:
        build = section.build
        context = absolute(self.root, build.context)
        return Service(
            name,
            section.image,
            BuildSpec(
                context,
                dockerfile_path(self.root, context, build.dockerfile),
                build.target,
                dict(build.args),
                tuple(
                    Secret(secret.id, absolute(self.root, secret.file) if secret.file else None, secret.env)
                    for secret in build.secrets
                ),
                build.platform,
                build.idle_timeout,
                build.pull_idle_timeout,
                hidden=frozenset(self.secrets) & build.args.keys(),
            ),
            tuple(
                Target(
                    "deployment" if target.deployment else "statefulset",
                    target.deployment or target.statefulset or "",
                    target.namespace or self.cluster.namespace,
                    target.container,
                )
                for target in section.deploy
            ),
            section.rollout_timeout,
            section.update.mode,
            section.update.stop_after,
            section.update.reload or NO_RELOAD,
            section.update.at_end,
            section.trigger,
            section.hooks.hooks(self.root),
            tuple(dict.fromkeys(section.depends_on)),
        )
