"""Namespaces: what is inside them goes with them."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.cluster import Cluster, Namespace, eventually, name_of, refused
from tests.contract.objects import config_map, deployment


def test_first_namespaces_are_there(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces"""
    items = cluster.call("GET", "/api/v1/namespaces").json()["items"]
    assert {"default", "kube-system"} <= {name_of(item) for item in items}


def test_new_namespace_is_active(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/"""
    assert ns.read("Namespace", ns.name)["status"]["phase"] == "Active"


def test_names_are_unique_in_a_namespace_only(ns: Namespace, namespaces: Callable[[], Namespace]) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/"""
    other = namespaces()
    ns.create(config_map(data={"where": "here"}))
    other.create(config_map(data={"where": "there"}))
    assert ns.read("ConfigMap", "settings")["data"] == {"where": "here"}


def test_create_in_a_missing_namespace_is_not_found(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/"""
    with refused(404, "NotFound") as refusal:
        cluster.create(config_map(), "contract-nowhere")
    assert refusal.message == 'namespaces "contract-nowhere" not found'
    assert refusal.error.details["kind"] == "namespaces"


def test_list_of_a_missing_namespace_is_empty(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#collections"""
    assert Namespace(cluster, "contract-nowhere").items("ConfigMap") == []


def test_deleted_namespace_takes_its_content_along(namespaces: Callable[[], Namespace]) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace"""
    ns = namespaces()
    ns.create(config_map())
    ns.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    ns.wait_items("Pod", lambda pods: len(pods) == 1)
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")
    ns.wait_gone("Namespace", ns.name, seconds=120)
    for kind in ("ConfigMap", "Deployment", "ReplicaSet", "Pod"):
        assert ns.items(kind) == []


def test_leaving_namespace_waits_for_finalizers_and_takes_nothing_new(
    namespaces: Callable[[], Namespace],
) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/"""
    ns = namespaces()
    ns.create(config_map(finalizers=["contract.example/hold"]))
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")
    leaving = ns.wait("Namespace", ns.name, lambda n: n["status"]["phase"] == "Terminating")
    assert "deletionTimestamp" in leaving["metadata"]
    eventually(
        lambda: "deletionTimestamp" in ns.read("ConfigMap", "settings")["metadata"],
        "the content is not being deleted",
    )
    with refused(403, "Forbidden") as refusal:
        ns.create(config_map("late"))
    causes = refusal.error.details["causes"]
    assert [cause["reason"] for cause in causes] == ["NamespaceTerminating"]
    ns.merge("ConfigMap", "settings", {"metadata": {"finalizers": None}})
    ns.wait_gone("Namespace", ns.name, seconds=120)
