"""The context guard (S29): is this a local cluster? Told from the kubeconfig, before any connection."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from devloop.adapters.kubernetes.kubeconfig import Context
from devloop.errors import ConfigError

MINIKUBE_PROVIDER = "minikube.sigs.k8s.io"
SANDBOX_PROVIDER = "sandbox.devloop.dev"
REMOTE = "remote"

# Names that the local products give to loopback themselves. Any other name would need DNS to judge.
_LOCAL_NAMES = ("localhost", "kubernetes.docker.internal", "host.docker.internal", "k8s.orb.local")
_LOCAL_SUFFIXES = (".localhost", ".orb.local")


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
        why = "it bears the mark of no local product that devloop knows"
    elif context.cluster.get("proxy-url"):
        why = f"it looks like {platform.product}, but is reached through a proxy"
    else:
        why = f"it looks like {platform.product}, but its server is on no loopback or private address"
    raise ConfigError(
        f"context {context.name!r} ({context.server}) is not taken for a local cluster: {why}",
        reason="RemoteCluster",
        hint="if you do mean this cluster, say so in config.yaml: cluster.allow_remote: true",
    )


def is_near(server: str) -> bool:
    """The server is a loopback or private address, or a name that means this machine."""
    host = (urlsplit(server).hostname or "").lower().rstrip(".")
    if host in _LOCAL_NAMES or host.endswith(_LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return _is_near_address(address.ipv4_mapped)
    return _is_near_address(address)


_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
        "169.254.0.0/16",
    )
)


def _is_near_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Python's is_private also takes documentation and benchmark networks: too much for a guard.

    The unspecified address (0.0.0.0, which k3d writes) connects to this machine."""
    return address.is_loopback or address.is_unspecified or any(address in network for network in _PRIVATE)


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
