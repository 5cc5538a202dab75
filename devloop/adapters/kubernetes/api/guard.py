"""The context guard (S29): is this a local cluster? Read from the kubeconfig, before any connection."""

from __future__ import annotations

from dataclasses import dataclass

from devloop.adapters.address import Distance, distance_of
from devloop.adapters.kubernetes.api.kubeconfig import Context
from devloop.errors import ConfigError

MINIKUBE_PROVIDER = "minikube.sigs.k8s.io"
SANDBOX_PROVIDER = "sandbox.devloop.dev"
REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Platform:
    """The cluster behind a context. `product` is one of minikube, kind, k3d, docker-desktop,
    rancher-desktop, colima, orbstack, microk8s, sandbox, remote; `profile` its name there
    (minikube profile, kind or k3d cluster)."""

    product: str
    context: str
    cluster: str
    server: str
    profile: str
    namespace: str
    local: bool


def identify(context: Context) -> Platform:
    """Which product made this context, and whether it is local. Opens no connection."""
    product, profile = _product(context)
    local = product != REMOTE and not context.cluster.get("proxy-url") and is_near(context.server)
    return Platform(
        product=product,
        context=context.name,
        cluster=context.cluster_name,
        server=context.server,
        profile=profile,
        namespace=context.namespace,
        local=local,
    )


def admit(context: Context, *, allow_remote: bool) -> Platform:
    """The platform, if devloop may use it. Raises ConfigError for a context that is not local (S29)."""
    platform = identify(context)
    if platform.local or allow_remote:
        return platform
    if platform.product == REMOTE:
        why = "it does not look like a known local cluster"
    elif context.cluster.get("proxy-url"):
        why = f"it looks like {platform.product}, but is reached through a proxy"
    else:
        why = f"it looks like {platform.product}, but its server is not on a loopback or private address"
    raise ConfigError(
        f"context {context.name!r} ({context.server}) may be a remote cluster: {why}",
        reason="RemoteCluster",
        hint="to use this cluster anyway, set cluster.allow_remote: true in config.yaml",
    )


def is_near(server: str) -> bool:
    """The server is a loopback or private address, or a name that means this machine."""
    return distance_of(server, ("http", "https")) is not Distance.FAR


def _product(context: Context) -> tuple[str, str]:
    """(product, profile). By what the product itself wrote on the cluster entry: a context is
    easily renamed or pointed elsewhere."""
    name = context.cluster_name
    if context.extension("cluster_info").get("provider") == MINIKUBE_PROVIDER:
        return "minikube", name
    if context.extension("devloop.sandbox").get("provider") == SANDBOX_PROVIDER:
        return "sandbox", name
    for prefix in ("kind", "k3d"):
        if name.startswith(f"{prefix}-"):
            return prefix, name.removeprefix(f"{prefix}-")
    for product in ("docker-desktop", "rancher-desktop", "orbstack", "colima", "microk8s"):
        if name == product:
            return product, name
    if name.startswith("colima-"):
        return "colima", name.removeprefix("colima-")
    if name == "microk8s-cluster":
        return "microk8s", name
    if name == "docker-for-desktop-cluster":
        return "docker-desktop", name
    return REMOTE, name
