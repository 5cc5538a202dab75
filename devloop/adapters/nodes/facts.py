"""What the Kubernetes API tells of the nodes, as far as images care."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from devloop.errors import FingerprintError, PlatformError

ENGINE_ANNOTATION = "dev.devloop/engine"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `runtime` is nodeInfo.containerRuntimeVersion, such as "docker://20.10.24"; `machine_id` and
    `boot_id` are nodeInfo's: of /etc/machine-id and of the running kernel, as the kubelet sees them."""

    name: str
    architecture: str = ""
    runtime: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    internal_ip: str = ""
    os: str = "linux"
    machine_id: str = ""
    boot_id: str = ""

    @property
    def runtime_name(self) -> str:
        """docker, containerd or cri-o."""
        return self.runtime.partition("://")[0]

    @property
    def engine(self) -> str:
        """The engine's address that the node is annotated with, "" without one (S11)."""
        return self.annotations.get(ENGINE_ANNOTATION, "")


Nodes = Callable[[], Awaitable[tuple[NodeFacts, ...]]]


def platform_of(nodes: Sequence[NodeFacts]) -> str:
    """The one platform of all nodes, such as "linux/amd64" (S6).

    Raises FingerprintError if they differ, PlatformError if there are none.
    """
    if not nodes:
        raise PlatformError(
            "the cluster has no nodes", reason="NoNodes", hint="kubectl get nodes; is the cluster started?"
        )
    found = {f"{node.os}/{node.architecture}": node.name for node in reversed(nodes)}
    if len(found) > 1:
        listed = ", ".join(f"{name} {platform}" for platform, name in sorted(found.items()))
        raise FingerprintError(
            f"the nodes are of several platforms: {listed}",
            reason="PlatformMismatch",
            hint="set build.platform of each service in config.yaml, and keep its pods on such nodes",
        )
    return next(iter(found))
