"""What the API reports about the cluster around the targets: nodes, addresses, images in use."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable

from devloop.adapters.kubernetes.api.answers import ApiRefusedError, Json
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.api.guard import Platform
from devloop.errors import PlatformError
from devloop.model import NodeFacts

# Products that publish a NodePort on this machine's own loopback.
_ON_LOOPBACK = frozenset({"sandbox", "docker-desktop", "rancher-desktop", "orbstack", "colima", "microk8s"})
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"
_PLAIN_PATH = re.compile(r"/[\w./~-]*")  # some controllers take patterns
_TEMPLATES = (
    "/apis/apps/v1{}/replicasets",
    "/apis/apps/v1{}/statefulsets",
    "/apis/apps/v1{}/deployments",
    "/apis/apps/v1{}/daemonsets",
    "/apis/batch/v1{}/cronjobs",
    "/apis/batch/v1{}/jobs",
    "/api/v1{}/pods",
)


async def read_nodes(client: Client) -> tuple[NodeFacts, ...]:
    """Every node of the cluster, by name. Raises PlatformError."""
    try:
        data = await client.get("/api/v1/nodes")
    except ApiRefusedError as error:
        raise PlatformError(
            f"listing the nodes of context {client.access.context.name}: {error.message}",
            reason=error.reason,
            hint="devloop asks the nodes for their platform and runtime: the user needs `list nodes`",
        ) from error
    return tuple(sorted((_node(item) for item in data.get("items") or ()), key=lambda node: node.name))


def _node(item: Json) -> NodeFacts:
    meta, status = item["metadata"], item.get("status") or {}
    info = status.get("nodeInfo") or {}
    addresses = {one.get("type"): str(one.get("address")) for one in status.get("addresses") or ()}
    return NodeFacts(
        name=meta["name"],
        architecture=str(info.get("architecture") or ""),
        runtime=str(info.get("containerRuntimeVersion") or ""),
        annotations=meta.get("annotations") or {},
        labels=meta.get("labels") or {},
        internal_ip=addresses.get("InternalIP", ""),
        os=str(info.get("operatingSystem") or "linux"),
        machine_id=str(info.get("machineID") or ""),
        boot_id=str(info.get("bootID") or ""),
    )


async def find_url(
    client: Client, platform: Platform, namespace: str, labels: Json, node_ip: str, unserved: set[str]
) -> str | None:
    """Where a Service that selects pods of `labels` is reached from this machine, or an Ingress that leads to
    one; None if nowhere. `unserved` keeps the kinds that the cluster does not have.

    Raises PlatformError.
    """
    try:
        data = await client.get(f"/api/v1/namespaces/{namespace}/services")
    except ApiRefusedError:
        return None  # a role that may not list services: no address is no failure
    names: set[str] = set()
    for service in _by_name(data):
        spec = service.get("spec") or {}
        selector = spec.get("selector") or {}
        if selector and selector.items() <= labels.items():
            names.add(str(service["metadata"]["name"]))
            url = _load_balancer(service) or _node_port(spec, platform, node_ip)
            if url:
                return url
    return await find_ingress(client, namespace, names, unserved) if names else None


def _by_name(data: Json) -> list[Json]:
    return sorted(data.get("items") or (), key=lambda item: str(item["metadata"]["name"]))


def _load_balancer(service: Json) -> str | None:
    host, ports = _balanced(service), (service.get("spec") or {}).get("ports") or ()
    return _url(host, int(ports[0]["port"])) if host and ports else None


def _balanced(item: Json) -> str:
    """The address that a load balancer gave a Service or an Ingress, "" without one."""
    given = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = (one.get("ip") or one.get("hostname") for one in given)
    return str(next(filter(None, found), ""))


async def find_ingress(client: Client, namespace: str, names: set[str], unserved: set[str]) -> str | None:
    """The URL of a rule that leads to one of these Services."""
    if INGRESSES in unserved:
        return None
    try:
        data = await client.get(INGRESSES.format(namespace))
    except ApiRefusedError as error:
        if error.status == 404:
            unserved.add(INGRESSES)
        return None
    return next((url for item in _by_name(data) if (url := ingress_url(item, names))), None)


def ingress_url(item: Json, names: Collection[str]) -> str | None:
    """Of an Ingress, where it leads to one of these Services: by the host of its rule, or by the address that
    it got. Pure."""
    spec = item.get("spec") or {}
    secure = [host for one in spec.get("tls") or () for host in _list(one.get("hosts"))]
    rules = [
        (str(rule.get("host") or ""), str(path.get("path") or "/"), path.get("backend"))
        for rule in spec.get("rules") or ()
        for path in (rule.get("http") or {}).get("paths") or ()
    ]
    for host, path, backend in (*rules, ("", "/", spec.get("defaultBackend"))):
        where = host or _balanced(item)
        if not where or "*" in where or _service_of(backend or {}) not in names:
            continue
        shown = "" if path == "/" or not _PLAIN_PATH.fullmatch(path) else path
        return f"{'https' if host in secure else 'http'}://{where}{shown}"
    return None


def _service_of(backend: Json) -> str:
    service = backend.get("service")
    return str(service.get("name")) if isinstance(service, dict) else ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _node_port(spec: Json, platform: Platform, node_ip: str) -> str | None:
    if platform.product in _ON_LOOPBACK:
        host = "127.0.0.1"
    elif sys.platform == "linux":
        host = node_ip  # what `minikube ip` says; kind's and k3d's nodes are containers on a bridge
    else:
        return None  # elsewhere the nodes live in a VM that this machine has no route to
    for port in spec.get("ports") or ():
        if host and port.get("nodePort"):
            return _url(host, int(port["nodePort"]))
    return None


def _url(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    if port == 443:
        return f"https://{host}"
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"


async def read_images(client: Client, namespaces: Iterable[str]) -> frozenset[str]:
    """Every image that a workload's template or a pod names, in all namespaces, or where the user may
    not list those, in `namespaces` (S25). Raises PlatformError: no list must never look like no use."""
    found: set[str] = set()
    listed = tuple(namespaces)
    for path in _TEMPLATES:
        try:
            lists = [await client.get(path.format(""))]
        except ApiRefusedError as error:
            if error.status == 404:
                continue  # a kind that this cluster does not serve runs nothing
            try:
                lists = [await client.get(path.format(f"/namespaces/{name}")) for name in listed]
            except ApiRefusedError as second:
                raise PlatformError(
                    f"listing {path.format('')}: {second.message}", reason=second.reason
                ) from second
        for data in lists:
            for item in data.get("items") or ():
                found.update(images_of(item))
    return frozenset(found)


def images_of(item: Json) -> Iterable[str]:
    """The images of a pod's spec, or of a workload's template; none where a file has something else there."""
    spec = item.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("jobTemplate"), dict):  # a CronJob's
        spec = spec["jobTemplate"].get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if isinstance(template, dict):
        spec = template.get("spec")
    if not isinstance(spec, dict):
        return
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        containers = spec.get(kind)
        for container in containers if isinstance(containers, list) else ():
            if isinstance(container, dict) and container.get("image"):
                yield str(container["image"])
