"""What the Kubernetes API tells of the nodes, as far as images care."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from devloop.errors import FingerprintError, PlatformError
from devloop.model import NodeFacts

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
