"""What `scan` finds in a project's folder, as values.

Every path is relative to that folder, with "/"; "." is the folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
TARGETS = ("Deployment", "StatefulSet")  # what `deploy:` can name
WORKLOADS = (*TARGETS, "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet")


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell: `what` it is about, and `why` it was taken or left out."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """`copies`: what COPY and ADD take from the context; `bases`: what FROM names."""

    path: str
    stages: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    bases: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()  # ids that RUN --mount=type=secret asks for
    arguments: tuple[str, ...] = ()  # ARGs without a default
    count: int = 1  # of its stages


@dataclass(frozen=True, slots=True)
class Container:
    """`values`: where a chart's values hold the image, "backend.image"."""

    name: str
    image: str
    values: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One object that runs containers; init containers are among them. `namespace` "" = not written.

    `context`: whose cluster runs it, where no file describes it. `owner`: the other devloop project that it
    belongs to, by its config.yaml; `own`: it is marked as this project's.
    """

    kind: str
    name: str
    namespace: str
    containers: tuple[Container, ...]
    where: str
    context: str = ""
    owner: str = ""
    own: bool = False

    @property
    def is_target(self) -> bool:
        return self.kind in TARGETS

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One plain YAML file of Kubernetes objects; `objects`: (kind, namespace, name).

    `trouble`: why it cannot be applied as it is, "" where nothing is known against it.
    """

    path: str
    workloads: tuple[Workload, ...]
    objects: tuple[tuple[str, str, str], ...]
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Kustomization:
    """A folder with a kustomization.yaml. `files`, `folders`: what it names, and what those name in turn."""

    folder: str
    workloads: tuple[Workload, ...]
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    component: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A Helm chart. `rendered`: the workloads are Helm's own answer, else read from the templates' text."""

    folder: str
    name: str
    release: str
    namespace: str = ""
    values: tuple[str, ...] = ()  # values files to give it
    set: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[tuple[str, str], ...] = ()  # (path in the values, repository)
    workloads: tuple[Workload, ...] = ()
    rendered: bool = False
    subcharts: tuple[str, ...] = ()
    why: str = ""
    trouble: str = ""  # why Helm did not render it


@dataclass(frozen=True, slots=True)
class Build:
    """A build as compose.yaml or skaffold.yaml describes it. `image` "" = it names none.

    `unknown`: build arguments whose values are not in the file.
    """

    name: str
    image: str
    context: str
    dockerfile: str
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Mapping[str, str], ...] = ()
    where: str = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provided:
    """A secret or config of compose.yaml in a container, at `path`.

    Its content is in `source`, a file of the project, or in an environment `variable`; else it is unknown.
    """

    name: str
    path: str
    is_secret: bool = False
    source: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class ComposeService:
    """What a manifest for a service of compose.yaml needs. `image` "" where it is built."""

    name: str
    image: str = ""
    built: bool = False
    ports: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()  # variables whose values are not in the file
    env_files: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()  # paths in the container that a named volume is mounted at
    provided: tuple[Provided, ...] = ()
    binds: tuple[
        tuple[str, str], ...
    ] = ()  # a path of this machine, below the project as such; in the container
    where: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What skaffold.yaml deploys: manifests (globs), kustomizations and charts by folder; it decides."""

    manifests: tuple[str, ...] = ()
    kustomizations: tuple[str, ...] = ()
    releases: tuple[Chart, ...] = ()  # without workloads
    where: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was found. `folders`: all folders; `files`: all files, as far as the scan went.

    `closed`: folders beside config.yaml that nothing is to be written into -> why.
    `unusable`: what looks like Kubernetes files and cannot be used.
    """

    name: str  # the project's, from its folder
    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    closed: Mapping[str, str] = field(default_factory=dict)
    dockerfiles: tuple[Dockerfile, ...] = ()
    builds: tuple[Build, ...] = ()
    compose: tuple[ComposeService, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    kustomizations: tuple[Kustomization, ...] = ()
    charts: tuple[Chart, ...] = ()
    deployed: Deployed | None = None
    cluster: tuple[Workload, ...] = ()
    foreign: tuple[Workload, ...] = ()  # of the cluster, another devloop project's
    unusable: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()  # what could not be read, and what was passed over
