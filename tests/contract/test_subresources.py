"""Parts of an object with a door of their own: status and scale."""

from __future__ import annotations

import pytest

from tests.contract.cluster import JSON_PATCH, Namespace, Object, name_of, refused, uid
from tests.contract.objects import deployment, pod, replica_set, stateful_set


def scale_of(ns: Namespace, kind: str, name: str) -> Object:
    scale: Object = ns.cluster.call("GET", ns.path(kind, name, "scale")).json()
    return scale


def test_write_to_the_object_leaves_the_status(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    ns.create(deployment(replicas=0))
    patched = ns.merge("Deployment", "web", {"status": {"replicas": 7}})
    assert patched["status"].get("replicas", 0) == 0


def test_create_leaves_the_status_out(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/#object-spec-and-status"""
    made = ns.create({**deployment(replicas=0), "status": {"replicas": 7}})
    assert made.get("status", {}).get("replicas", 0) == 0


def test_write_to_the_status_leaves_the_spec(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    made = ns.create(deployment(replicas=0))
    ns.merge("Deployment", "web", {"spec": {"replicas": 3}}, sub="status")
    now = ns.read("Deployment", "web")
    assert now["spec"]["replicas"] == 0
    assert now["metadata"]["generation"] == made["metadata"]["generation"]


def test_status_of_a_pod_takes_a_condition(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#status-for-pod-readiness"""
    ns.create(pod(name="nowhere", nodeSelector={"contract.example/none": "yes"}))
    fact = {"type": "contract.example/seen", "status": "True"}
    patched = ns.strategic("Pod", "nowhere", {"status": {"conditions": [fact]}}, sub="status")
    assert (
        fact.items() <= next(c for c in patched["status"]["conditions"] if c["type"] == fact["type"]).items()
    )


def test_status_is_read_as_the_whole_object(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/"""
    made = ns.create(deployment(replicas=0))
    seen = ns.cluster.call("GET", ns.path("Deployment", "web", "status")).json()
    assert seen["kind"] == "Deployment"
    assert uid(seen) == uid(made)


@pytest.mark.parametrize("thing", [deployment(replicas=0), replica_set(replicas=0), stateful_set(replicas=0)])
def test_scale_is_an_object_of_its_own(ns: Namespace, thing: Object) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/"""
    made = ns.create(thing)
    scale = scale_of(ns, thing["kind"], name_of(thing))
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["metadata"]["name"] == name_of(thing)
    assert uid(scale) == uid(made)
    assert scale["spec"].get("replicas", 0) == 0
    assert scale["status"]["selector"] == f"app={name_of(thing)}"


def test_scale_is_replaced(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    ns.create(deployment(replicas=0, paused=True))
    scale = scale_of(ns, "Deployment", "web")
    scale["spec"]["replicas"] = 2
    del scale["metadata"]["resourceVersion"]  # the controller may write the status meanwhile
    answer = ns.cluster.call("PUT", ns.path("Deployment", "web", "scale"), scale).json()
    assert answer["spec"]["replicas"] == 2
    changed = ns.read("Deployment", "web")
    assert changed["spec"]["replicas"] == 2
    assert changed["metadata"]["generation"] == 2


def test_scale_is_patched(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    ns.create(replica_set(replicas=0, template={"nodeSelector": {"contract.example/no": "1"}}))
    patched = ns.merge("ReplicaSet", "herd", {"spec": {"replicas": 2}}, sub="scale")
    assert (patched["kind"], patched["spec"]["replicas"]) == ("Scale", 2)
    assert ns.read("ReplicaSet", "herd")["spec"]["replicas"] == 2
    down = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    assert ns.patch(JSON_PATCH, "ReplicaSet", "herd", down, sub="scale")["spec"] == {"replicas": 1}


def test_scale_with_a_stale_version_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    ns.create(stateful_set(replicas=0))
    ns.wait("StatefulSet", "db", lambda s: s["status"].get("observedGeneration") == 1)
    stale = scale_of(ns, "StatefulSet", "db")
    ns.merge("StatefulSet", "db", {"metadata": {"labels": {"a": "b"}}})
    with refused(409, "Conflict"):
        ns.cluster.call("PUT", ns.path("StatefulSet", "db", "scale"), stale)


def test_scale_cannot_be_negative(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/"""
    ns.create(deployment(replicas=0))
    with refused(422, "Invalid") as refusal:
        ns.merge("Deployment", "web", {"spec": {"replicas": -1}}, sub="scale")
    assert "spec.replicas" in refusal.causes


def test_scale_of_a_missing_object_is_not_found(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(404, "NotFound"):
        scale_of(ns, "Deployment", "nowhere")
