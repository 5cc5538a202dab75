"""Parts of an object with a door of their own: status and scale."""

from __future__ import annotations

import pytest

from tests.contract.cluster import JSON_PATCH, Object, Room, name_of, refused, uid
from tests.contract.objects import deployment, pod, replica_set, stateful_set


def scale_of(room: Room, kind: str, name: str) -> Object:
    scale: Object = room.cluster.call("GET", room.path(kind, name, "scale")).json()
    return scale


def test_write_to_the_object_leaves_the_status(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    room.create(deployment(replicas=0))
    patched = room.merge("Deployment", "web", {"status": {"replicas": 7}})
    assert patched["status"].get("replicas", 0) == 0


def test_create_leaves_the_status_out(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/#object-spec-and-status"""
    made = room.create({**deployment(replicas=0), "status": {"replicas": 7}})
    assert made.get("status", {}).get("replicas", 0) == 0


def test_write_to_the_status_leaves_the_spec(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    made = room.create(deployment(replicas=0))
    room.merge("Deployment", "web", {"spec": {"replicas": 3}}, sub="status")
    now = room.read("Deployment", "web")
    assert now["spec"]["replicas"] == 0
    assert now["metadata"]["generation"] == made["metadata"]["generation"]


def test_status_of_a_pod_takes_a_condition(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#status-for-pod-readiness"""
    room.create(pod(name="nowhere", nodeSelector={"contract.example/none": "yes"}))
    fact = {"type": "contract.example/seen", "status": "True"}
    patched = room.strategic("Pod", "nowhere", {"status": {"conditions": [fact]}}, sub="status")
    assert (
        fact.items() <= next(c for c in patched["status"]["conditions"] if c["type"] == fact["type"]).items()
    )


def test_status_is_read_as_the_whole_object(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/"""
    made = room.create(deployment(replicas=0))
    seen = room.cluster.call("GET", room.path("Deployment", "web", "status")).json()
    assert seen["kind"] == "Deployment"
    assert uid(seen) == uid(made)


@pytest.mark.parametrize("thing", [deployment(replicas=0), replica_set(replicas=0), stateful_set(replicas=0)])
def test_scale_is_an_object_of_its_own(room: Room, thing: Object) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/"""
    made = room.create(thing)
    scale = scale_of(room, thing["kind"], name_of(thing))
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["metadata"]["name"] == name_of(thing)
    assert uid(scale) == uid(made)
    assert scale["spec"].get("replicas", 0) == 0
    assert scale["status"]["selector"] == f"app={name_of(thing)}"


def test_scale_is_replaced(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    room.create(deployment(replicas=0, paused=True))
    scale = scale_of(room, "Deployment", "web")
    scale["spec"]["replicas"] = 2
    del scale["metadata"]["resourceVersion"]  # the controller may write the status meanwhile
    answer = room.cluster.call("PUT", room.path("Deployment", "web", "scale"), scale).json()
    assert answer["spec"]["replicas"] == 2
    changed = room.read("Deployment", "web")
    assert changed["spec"]["replicas"] == 2
    assert changed["metadata"]["generation"] == 2


def test_scale_is_patched(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    room.create(replica_set(replicas=0, template={"nodeSelector": {"contract.example/no": "1"}}))
    patched = room.merge("ReplicaSet", "herd", {"spec": {"replicas": 2}}, sub="scale")
    assert (patched["kind"], patched["spec"]["replicas"]) == ("Scale", 2)
    assert room.read("ReplicaSet", "herd")["spec"]["replicas"] == 2
    down = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    assert room.patch(JSON_PATCH, "ReplicaSet", "herd", down, sub="scale")["spec"] == {"replicas": 1}


def test_scale_with_a_stale_version_is_a_conflict(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    room.create(stateful_set(replicas=0))
    room.wait("StatefulSet", "db", lambda s: s["status"].get("observedGeneration") == 1)
    stale = scale_of(room, "StatefulSet", "db")
    room.merge("StatefulSet", "db", {"metadata": {"labels": {"a": "b"}}})
    with refused(409, "Conflict"):
        room.cluster.call("PUT", room.path("StatefulSet", "db", "scale"), stale)


def test_scale_cannot_be_negative(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/"""
    room.create(deployment(replicas=0))
    with refused(422, "Invalid") as refusal:
        room.merge("Deployment", "web", {"spec": {"replicas": -1}}, sub="scale")
    assert "spec.replicas" in refusal.causes


def test_scale_of_a_missing_object_is_not_found(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(404, "NotFound"):
        scale_of(room, "Deployment", "nowhere")
