"""What the user configured: services, how they are built, where they run, and Helm releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devloop.model.hooks import NO_HOOKS, Hooks
from devloop.model.update import NO_RELOAD, AtEnd, UpdateMode

if TYPE_CHECKING:
    from devloop.model.inputs import Fingerprint
Values = dict[str, Any]  # of a Helm chart
Trigger = Literal["auto", "manual"]  # what begins a trip: every save, or `devloop trigger`


@dataclass(frozen=True, slots=True)
class Secret:
    """A build secret: its id, and where the value comes from. The value is never held here (S30)."""

    id: str
    file: Path | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """How one image is built. Paths are absolute; the Dockerfile may lie outside the context."""

    context: Path
    dockerfile: Path
    target: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    platform: str | None = None
    idle_timeout: float = 600.0  # seconds in which a build or a load shows no progress: it is ended
    pull_idle_timeout: float = 120.0  # the same of the pull of a base image
    hidden: frozenset[str] = frozenset()  # build args that config.yaml lists as secrets


@dataclass(frozen=True, slots=True)
class Target:
    """One workload that runs a service's image. `container` None means: by repository (S14)."""

    kind: Literal["deployment", "statefulset"]
    name: str
    namespace: str
    container: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def workload(self) -> tuple[str, str, str]:
        """What services share that set different containers of it."""
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Service:
    """One image and the workloads that run it; no targets = built and loaded only (S17)."""

    name: str
    image: str
    build: BuildSpec
    targets: tuple[Target, ...]
    rollout_timeout: float | None = None  # seconds without progress that a rollout may take; None = default
    update: UpdateMode = "roll"
    stop_after: float | None = (
        None  # seconds that a process may take to end in place; None = its grace period
    )
    reload: str = NO_RELOAD  # after a sync: none, restart, or the name of a signal without its SIG
    at_end: AtEnd = "bake"  # what happens to synced pods when `watch` ends
    trigger: Trigger = "auto"
    hooks: Hooks = NO_HOOKS
    depends_on: tuple[str, ...] = ()  # services that have to be live before its first rollout

    def ref(self, fingerprint: Fingerprint) -> str:
        """The image reference that names this content, `<image>:dl-<16 hex>` (S1)."""
        return f"{self.image}:dl-{fingerprint.digest}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this machine whose connections go to port `to` of a ready pod of the service. `address`: an
    IP address of this machine, or localhost."""

    service: str
    address: str
    port: int
    to: int

    @property
    def url(self) -> str:
        """For a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ValuesFile:
    path: Path
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """`create_namespace`: the labels of a namespace to make, None = it must be there. `set_env`: path ->
    variable; the values are never held here (S30). `images`: service -> path in the values."""

    name: str
    chart: Path
    namespace: str
    create_namespace: Mapping[str, str] | None = None
    values: tuple[ValuesFile, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    set_env: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"release {self.name}"
