"""ReplicaSets: as many pods as wanted, by label; and quotas that refuse one."""

from __future__ import annotations

from tests.contract.cluster import Object, Room, condition, is_true, name_of, owners, refused, uid
from tests.contract.objects import deployment, pod, replica_set


def ready(room: Room, count: int) -> Object:
    return room.wait("ReplicaSet", "herd", lambda r: r["status"].get("readyReplicas", 0) == count)


def quota(name: str, **hard: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name},
        "spec": {"hard": hard},
    }


def test_deleted_pod_is_replaced(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#how-a-replicaset-works"""
    room.create(replica_set())
    ready(room, 1)
    (first,) = room.items("Pod")
    room.delete("Pod", name_of(first))
    room.wait_items("Pod", lambda ps: len(ps) == 1 and uid(ps[0]) != uid(first))
    ready(room, 1)


def test_status_counts_pods(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replica-set-v1/#ReplicaSetStatus"""
    room.create(replica_set(replicas=2))
    ready(room, 2)
    seen = room.wait("ReplicaSet", "herd", lambda r: r["status"].get("availableReplicas") == 2)
    assert seen["status"]["replicas"] == 2
    assert seen["status"]["fullyLabeledReplicas"] == 2


def test_matching_pod_without_an_owner_is_adopted(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions"""
    alone = room.create(pod(name="alone", labels={"app": "herd"}))
    herd = room.create(replica_set(replicas=1))
    room.wait("Pod", "alone", lambda p: owners(p) == [uid(herd)])
    room.wait("ReplicaSet", "herd", lambda r: r["status"].get("replicas") == 1)
    assert {uid(p) for p in room.items("Pod")} == {uid(alone)}


def test_pod_whose_labels_change_is_let_go_and_replaced(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#isolating-pods-from-a-replicaset"""
    room.create(replica_set())
    ready(room, 1)
    (first,) = room.items("Pod")
    room.merge("Pod", name_of(first), {"metadata": {"labels": {"app": "apart"}}})
    room.wait("Pod", name_of(first), lambda p: not owners(p))
    room.wait_items("Pod", lambda ps: len(ps) == 1, labelSelector="app=herd")


def test_surplus_pods_are_ended(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset"""
    room.create(replica_set(replicas=2))
    ready(room, 2)
    room.merge("ReplicaSet", "herd", {"spec": {"replicas": 1}})
    room.wait_items("Pod", lambda ps: len(ps) == 1)


def test_pending_pods_are_ended_before_ready_ones(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset"""
    room.create(pod(name="lost", labels={"app": "herd"}, nodeSelector={"contract.example/no": "1"}))
    room.create(replica_set(replicas=2))
    ready(room, 1)
    room.wait("ReplicaSet", "herd", lambda r: r["status"].get("replicas") == 2)
    room.merge("ReplicaSet", "herd", {"spec": {"replicas": 1}})
    room.wait_gone("Pod", "lost")
    ready(room, 1)


def test_quota_refuses_a_pod_too_many(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/policy/resource-quotas/"""
    room.create(quota("few", pods="1"))
    room.wait("ResourceQuota", "few", lambda q: q.get("status", {}).get("hard") == {"pods": "1"})
    room.create(pod(name="first", nodeSelector={"contract.example/no": "1"}))
    with refused(403, "Forbidden") as refusal:
        room.create(pod(name="second"))
    assert "exceeded quota: few" in refusal.message
    room.wait("ResourceQuota", "few", lambda q: q["status"]["used"] == {"pods": "1"})


def test_quota_is_given_back(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/policy/resource-quotas/"""
    room.create(quota("few", **{"count/deployments.apps": "1"}))
    room.wait("ResourceQuota", "few", lambda q: q.get("status", {}).get("hard"))
    room.create(deployment(replicas=0))
    with refused(403, "Forbidden"):
        room.create(deployment(name="other", replicas=0))
    room.delete("Deployment", "web")
    room.wait("ResourceQuota", "few", lambda q: q["status"]["used"] == {"count/deployments.apps": "0"})
    room.create(deployment(name="other", replicas=0))


def test_refused_pods_are_told_in_conditions_and_events(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    room.create(quota("none", pods="0"))
    room.wait("ResourceQuota", "none", lambda q: q.get("status", {}).get("hard"))
    room.create(deployment())
    failed = room.wait("Deployment", "web", lambda d: is_true(d, "ReplicaFailure"))
    assert condition(failed, "ReplicaFailure")["reason"] == "FailedCreate"
    assert "exceeded quota" in condition(failed, "ReplicaFailure")["message"]
    (herd,) = room.items("ReplicaSet")
    assert is_true(herd, "ReplicaFailure")
    event = room.wait_event("FailedCreate", "ReplicaSet", name_of(herd))
    assert event["type"] == "Warning"
    assert room.items("Pod") == []
