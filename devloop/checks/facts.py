"""What rules know beside the objects: config.yaml, nodes, built images; and what could not be learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from devloop.config.schema_checks import ChecksConfig

Need = Literal["cluster", "engine", "schema"]
Schema = Callable[[dict[str, Any]], tuple[tuple[str | int, ...], str] | None]


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A file of a layer that may be a secret. `private_key`: its content begins like one."""

    path: str  # "/app/.env"
    private_key: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """`size` in bytes; `user` as the image's config says; `max_size` is the service's max_image_size."""

    ref: str
    size: int
    user: str = ""
    ports: frozenset[int] = frozenset()
    files: tuple[LayerFile, ...] = ()
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """What a node has for pods: cores and bytes."""

    name: str
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Facts:
    """`absent` says why something is not known; the rules that need it do not run.

    `images`: repository -> service. `taken_ports`: NodePort -> "namespace/name" of another Service.
    `lacking`: image -> nodes that do not have it. `others`: (namespace, name) of Services in the cluster.
    `settings`: `checks:` of config.yaml. `broken`: (file or chart, why) of what gave no objects. `schema`:
    the first thing that is wrong with an object, its place and why.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    built: Mapping[str, BuiltImage] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[NodeCapacity, ...] = ()
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken_ports: Mapping[int, str] = field(default_factory=dict)
    others: frozenset[tuple[str, str]] = frozenset()
    settings: ChecksConfig = field(default_factory=ChecksConfig)
    broken: tuple[tuple[str, str], ...] = ()
    schema: Schema | None = None
    absent: Mapping[Need, str] = field(default_factory=dict)
