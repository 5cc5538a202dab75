from __future__ import annotations

from typing import Any

import pytest

from devloop.adapters.kubernetes.api.guard import Platform
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.adapters.kubernetes.inventory import find_url, ingress_url
from devloop.errors import PlatformError
from tests.support.faulty_proxy import Answer, Proxy
from tests.support.kubernetes_objects import (
    DEPLOYMENTS,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    TARGET,
    Api,
    deployment,
    pod,
    replicaset,
    statefulset,
)

NODES = "/api/v1/nodes"
SERVICES = "/api/v1/namespaces/default/services"


def service(name: str, kind: str = "NodePort", selector: str = "web", **port: Any) -> dict[str, Any]:
    spec = {"type": kind, "selector": {"app": selector}, "ports": [{"port": 80, **port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def add_node(api: Api, name: str, runtime: str = "docker://28.5.2") -> None:
    await api.create(
        NODES,
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": {"dev.devloop/engine": "unix:///x"}},
        },
    )
    await api.status(
        f"{NODES}/{name}",
        {
            "addresses": [{"type": "InternalIP", "address": "192.168.49.2"}],
            "nodeInfo": {
                "architecture": "arm64",
                "containerRuntimeVersion": runtime,
                "operatingSystem": "linux",
            },
        },
    )


async def test_s6_s11_nodes_tell_architecture_runtime_and_engine(
    api: Api, cluster: KubernetesCluster
) -> None:
    await add_node(api, "b")
    await add_node(api, "a", "containerd://2.1.9")
    nodes = await cluster.nodes()
    assert [(n.name, n.architecture, n.runtime_name, n.internal_ip) for n in nodes] == [
        ("a", "arm64", "containerd", "192.168.49.2"),
        ("b", "arm64", "docker", "192.168.49.2"),
    ]
    assert nodes[0].engine == "unix:///x"


async def test_nodes_that_may_not_be_listed_are_a_platform_error(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    proxy.on("GET", "/nodes", Answer(403, reason="Forbidden", message="nodes is forbidden"))
    with pytest.raises(PlatformError, match="nodes is forbidden"):
        await shaky.nodes()


async def test_the_sandbox_serves_node_ports_on_loopback(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    assert await cluster.url(TARGET) is None
    await api.create(SERVICES, service("a-inside", "ClusterIP"))
    await api.create(SERVICES, service("b-other", selector="other", nodePort=30111))
    assert await cluster.url(TARGET) is None
    await api.create(SERVICES, service("c-web", nodePort=30123))
    assert await cluster.url(TARGET) == "http://127.0.0.1:30123"


async def test_a_missing_target_has_no_url(cluster: KubernetesCluster) -> None:
    assert await cluster.url(TARGET) is None


@pytest.mark.parametrize(
    "product, system, expected",
    [
        ("minikube", "linux", "http://192.168.49.2:30123"),
        ("kind", "linux", "http://192.168.49.2:30123"),
        ("remote", "linux", "http://192.168.49.2:30123"),
        ("minikube", "darwin", None),
        ("docker-desktop", "darwin", "http://127.0.0.1:30123"),
        ("orbstack", "darwin", "http://127.0.0.1:30123"),
    ],
)
async def test_node_ports_elsewhere_are_where_the_product_puts_them(
    api: Api,
    cluster: KubernetesCluster,
    monkeypatch: pytest.MonkeyPatch,
    product: str,
    system: str,
    expected: str | None,
) -> None:
    monkeypatch.setattr("sys.platform", system)
    await api.create(SERVICES, service("web", nodePort=30123))
    platform = Platform(product, "c", "c", "https://x", "c", "default", local=True)
    labels = {"app": "web", "more": "labels"}
    assert await find_url(cluster.client, platform, "default", labels, "192.168.49.2", set()) == expected


async def test_a_load_balancer_with_an_address_is_used(api: Api, cluster: KubernetesCluster) -> None:
    await api.create(DEPLOYMENTS, deployment())
    made = service("web", "LoadBalancer")
    made["spec"]["ports"][0]["port"] = 8080
    await api.create(SERVICES, made)
    await api.status(f"{SERVICES}/web", {"loadBalancer": {"ingress": [{"hostname": "localhost"}]}})
    assert await cluster.url(TARGET) == "http://localhost:8080"


async def test_s25_images_of_replicasets_pods_and_templates_are_in_use(
    api: Api, cluster: KubernetesCluster
) -> None:
    item = await api.create(DEPLOYMENTS, deployment("todo:now"))
    await api.create(REPLICASETS, replicaset(item, "old", "1", "todo:before"))
    await api.create(PODS, pod(item, "left-over", "todo:running", {"app": "web"}))
    await api.create(STATEFULSETS, statefulset("db:1", name="db"))
    assert await cluster.images_in_use() == {"todo:now", "todo:before", "todo:running", "db:1"}


async def test_s25_what_a_job_or_a_cron_job_is_to_run_is_in_use(api: Api, cluster: KubernetesCluster) -> None:
    """Between two runs nothing else names its image."""

    def spec(image: str) -> dict[str, Any]:
        pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}
        return {"template": {"spec": pod}}

    batch = "/apis/batch/v1/namespaces/default"
    waiting = {"suspend": True, **spec("todo:migration")}
    await api.create(f"{batch}/jobs", {"metadata": {"name": "migrate"}, "spec": waiting})
    nightly = {"schedule": "0 3 * * *", "jobTemplate": {"spec": spec("todo:nightly")}}
    await api.create(f"{batch}/cronjobs", {"metadata": {"name": "nightly"}, "spec": nightly})
    assert await cluster.images_in_use() == {"todo:migration", "todo:nightly"}


async def test_s25_a_role_without_cluster_wide_lists_looks_into_its_namespaces(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await api.create(DEPLOYMENTS, deployment("todo:now"))
    for path in ("/apis/apps/v1/replicasets", "/apis/apps/v1/deployments", "/api/v1/pods"):
        proxy.on("GET", path, Answer(403, reason="Forbidden"))
    assert await shaky.images_in_use(["default"]) == {"todo:now"}


async def test_s25_a_list_that_fails_never_looks_like_no_use(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    proxy.on("GET", "/pods", Answer(403, reason="Forbidden"), times=9)
    with pytest.raises(PlatformError):
        await shaky.images_in_use(["default"])


def ingress(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"rules": list(rules), **fields}}


def rule(host: str = "", path: str = "/", service: str = "web") -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    found: dict[str, Any] = {"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    return {**found, "host": host} if host else found


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (ingress(rule("shop.local")), "http://shop.local"),
        (ingress(rule("shop.local", "/api")), "http://shop.local/api"),
        (ingress(rule("shop.local", "/api(/|$)(.*)")), "http://shop.local"),
        (ingress(rule("shop.local"), tls=[{"hosts": ["shop.local"]}]), "https://shop.local"),
        (ingress(rule("shop.local", service="other")), None),
        (ingress(rule("other.local", service="other"), rule("shop.local")), "http://shop.local"),
        (ingress(rule("*.local")), None),
        (ingress(rule()), None),
        (
            {**ingress(rule()), "status": {"loadBalancer": {"ingress": [{"ip": "192.168.49.2"}]}}},
            "http://192.168.49.2",
        ),
        (
            {
                **ingress(defaultBackend={"service": {"name": "web"}}),
                "status": {"loadBalancer": {"ingress": [{"hostname": "localhost"}]}},
            },
            "http://localhost",
        ),
        (ingress(rule("shop.local") | {"http": None}), None),
        ({"metadata": {"name": "web"}}, None),
    ],
)
def test_the_url_of_an_ingress_is_that_of_the_rule_that_leads_to_the_service(
    item: dict[str, Any], expected: str | None
) -> None:
    assert ingress_url(item, {"web"}) == expected
