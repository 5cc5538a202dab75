"""Namespaces: what is inside them goes with them."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.cluster import Cluster, Room, eventually, name_of, refused
from tests.contract.objects import config_map, deployment


def test_first_namespaces_are_there(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces"""
    items = cluster.call("GET", "/api/v1/namespaces").json()["items"]
    assert {"default", "kube-system"} <= {name_of(item) for item in items}


def test_new_namespace_is_active(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/"""
    assert room.read("Namespace", room.name)["status"]["phase"] == "Active"


def test_names_are_unique_in_a_namespace_only(room: Room, rooms: Callable[[], Room]) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/"""
    other = rooms()
    room.create(config_map(data={"where": "here"}))
    other.create(config_map(data={"where": "there"}))
    assert room.read("ConfigMap", "settings")["data"] == {"where": "here"}


def test_create_in_a_missing_namespace_is_not_found(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/"""
    with refused(404, "NotFound") as refusal:
        cluster.create(config_map(), "contract-nowhere")
    assert refusal.message == 'namespaces "contract-nowhere" not found'
    assert refusal.error.details["kind"] == "namespaces"


def test_list_of_a_missing_namespace_is_empty(cluster: Cluster) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#collections"""
    assert Room(cluster, "contract-nowhere").items("ConfigMap") == []


def test_deleted_namespace_takes_its_content_along(rooms: Callable[[], Room]) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace"""
    room = rooms()
    room.create(config_map())
    room.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    room.wait_items("Pod", lambda pods: len(pods) == 1)
    room.cluster.call("DELETE", f"/api/v1/namespaces/{room.name}")
    room.wait_gone("Namespace", room.name, seconds=120)
    for kind in ("ConfigMap", "Deployment", "ReplicaSet", "Pod"):
        assert room.items(kind) == []


def test_leaving_namespace_waits_for_finalizers_and_takes_nothing_new(
    rooms: Callable[[], Room],
) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/"""
    room = rooms()
    room.create(config_map(finalizers=["contract.example/hold"]))
    room.cluster.call("DELETE", f"/api/v1/namespaces/{room.name}")
    leaving = room.wait("Namespace", room.name, lambda n: n["status"]["phase"] == "Terminating")
    assert "deletionTimestamp" in leaving["metadata"]
    eventually(
        lambda: "deletionTimestamp" in room.read("ConfigMap", "settings")["metadata"],
        "the content is not being deleted",
    )
    with refused(403, "Forbidden") as refusal:
        room.create(config_map("late"))
    causes = refusal.error.details["causes"]
    assert [cause["reason"] for cause in causes] == ["NamespaceTerminating"]
    room.merge("ConfigMap", "settings", {"metadata": {"finalizers": None}})
    room.wait_gone("Namespace", room.name, seconds=120)
