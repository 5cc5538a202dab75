"""ReplicaSets: as many pods as wanted, by label; and what happens when one is refused."""

from __future__ import annotations

from tests.contract.cluster import Namespace, Object, condition, is_true, name_of, owners, uid
from tests.contract.objects import deployment, pod, replica_set


def ready(ns: Namespace, count: int) -> Object:
    return ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("readyReplicas", 0) == count)


def test_deleted_pod_is_replaced(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#how-a-replicaset-works"""
    ns.create(replica_set())
    ready(ns, 1)
    (first,) = ns.items("Pod")
    ns.delete("Pod", name_of(first))
    ns.wait_items("Pod", lambda ps: len(ps) == 1 and uid(ps[0]) != uid(first))
    ready(ns, 1)


def test_status_counts_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replica-set-v1/#ReplicaSetStatus"""
    ns.create(replica_set(replicas=2))
    ready(ns, 2)
    seen = ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("availableReplicas") == 2)
    assert seen["status"]["replicas"] == 2
    assert seen["status"]["fullyLabeledReplicas"] == 2


def test_matching_pod_without_an_owner_is_adopted(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions"""
    alone = ns.create(pod(name="alone", labels={"app": "herd"}))
    herd = ns.create(replica_set(replicas=1))
    ns.wait("Pod", "alone", lambda p: owners(p) == [uid(herd)])
    ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("replicas") == 1)
    assert {uid(p) for p in ns.items("Pod")} == {uid(alone)}


def test_pod_whose_labels_change_is_let_go_and_replaced(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#isolating-pods-from-a-replicaset"""
    ns.create(replica_set())
    ready(ns, 1)
    (first,) = ns.items("Pod")
    ns.merge("Pod", name_of(first), {"metadata": {"labels": {"app": "apart"}}})
    ns.wait("Pod", name_of(first), lambda p: not owners(p))
    ns.wait_items("Pod", lambda ps: len(ps) == 1, labelSelector="app=herd")


def test_surplus_pods_are_ended(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset"""
    ns.create(replica_set(replicas=2))
    ready(ns, 2)
    ns.merge("ReplicaSet", "herd", {"spec": {"replicas": 1}})
    ns.wait_items("Pod", lambda ps: len(ps) == 1)


def test_pending_pods_are_ended_before_ready_ones(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset"""
    ns.create(pod(name="lost", labels={"app": "herd"}, nodeSelector={"contract.example/no": "1"}))
    ns.create(replica_set(replicas=2))
    ready(ns, 1)
    ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("replicas") == 2)
    ns.merge("ReplicaSet", "herd", {"spec": {"replicas": 1}})
    ns.wait_gone("Pod", "lost")
    ready(ns, 1)


def test_refused_pods_are_in_conditions_and_events(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    # What the standard asks of a namespace with this label, the sandbox asks of every one.
    level = {"pod-security.kubernetes.io/enforce": "baseline"}
    ns.merge("Namespace", ns.name, {"metadata": {"labels": level}})
    ns.create(deployment(template={"hostPID": True}))
    failed = ns.wait("Deployment", "web", lambda d: is_true(d, "ReplicaFailure"))
    assert condition(failed, "ReplicaFailure")["reason"] == "FailedCreate"
    assert "violates PodSecurity" in condition(failed, "ReplicaFailure")["message"]
    (herd,) = ns.items("ReplicaSet")
    assert is_true(herd, "ReplicaFailure")
    event = ns.wait_event("FailedCreate", "ReplicaSet", name_of(herd))
    assert event["type"] == "Warning"
    assert ns.items("Pod") == []
