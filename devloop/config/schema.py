"""The shape of config.yaml as pydantic sections, and the values of model.py that come out of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from devloop.config.duration import Duration
from devloop.config.paths import absolute, check_pattern, dockerfile_path, matching
from devloop.config.schema_checks import ChecksConfig, Size
from devloop.config.schema_releases import RELEASE, ReleaseConfig
from devloop.config.section import Section
from devloop.deploy.helm_values import Release
from devloop.model import BuildSpec, Secret, Service, Target

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
OBJECT = r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"
SERVICE = re.compile(r"^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$")
COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"^(?:(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=:))(?::\d+)?/)?{COMPONENT}(?:/{COMPONENT})*$"
)
LISTEN = re.compile(r"^(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})$")

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
                f'"{value}" is no engine address; write unix:///run/docker.sock or tcp://host:2376'
            )
        return f"unix://{value}" if value and value.startswith("/") else value


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
    pull_idle_timeout: Duration = Field(default=120.0, description="The same of the pull of a base image.")


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
            f'"{value}" is no image repository; write lower case, for example registry.local/team/api'
        )


class MetricsConfig(Section):
    """Where /metrics, /healthz and /api/status are served."""

    listen: str = Field(default="127.0.0.1:9100", description="host:port; port 0 takes any free one.")

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        match = LISTEN.match(value)
        if not match or int(match["port"]) > 65535:
            raise ValueError(f'"{value}" is no host:port; write "127.0.0.1:9100"')
        return value

    @property
    def address(self) -> tuple[str, int]:
        """Host (IPv6 without its brackets) and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class GcConfig(Section):
    """What the garbage collection of images leaves."""

    keep: int = Field(
        default=5, ge=1, description="Images per service that were live, kept for a quick way back."
    )


class Config(Section):
    """devloop's config.yaml. Paths are relative to the file."""

    version: Literal[1] = Field(description="The version of this shape: 1.")
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
                    f'"{name}" is no service name; use letters, digits, "-", "_" and ".", at most 63'
                )
        return value

    @field_validator("releases_by_name", mode="before")
    @classmethod
    def _release_names(cls, value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            if not RELEASE.match(str(name)):
                raise ValueError(f'"{name}" is no release name; use a-z, 0-9, "-" and ".", at most 53')
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
        )
