"""StatefulSets: pods with names that stay, in order."""

from __future__ import annotations

from tests.contract.cluster import Namespace, Object, eventually, is_true, name_of, owners, uid, version_of
from tests.contract.objects import container, stateful_set

READY_SOON = {
    "exec": {"command": ["true"]},
    "periodSeconds": 1,
    "initialDelaySeconds": 1,
    "timeoutSeconds": 20,
}


def ready(ns: Namespace, count: int) -> Object:
    def is_settled(thing: Object) -> bool:
        status = thing["status"]
        return (
            status.get("observedGeneration") == thing["metadata"]["generation"]
            and status.get("replicas", 0) == count
            and status.get("readyReplicas", 0) == count
        )

    return ns.wait("StatefulSet", "db", is_settled)


def test_pods_are_made_in_order_when_the_one_before_is_ready(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#deployment-and-scaling-guarantees"""
    since = version_of(ns.collection("Pod"))
    made = ns.create(stateful_set(container(readinessProbe=READY_SOON), replicas=2))
    ready(ns, 2)
    with ns.watch("Pod", resourceVersion=since) as watch:
        seen = watch.until(lambda kind, p: kind == "ADDED" and name_of(p) == "db-1")
    firsts = [pod for _, pod in seen if name_of(pod) == "db-0"]
    assert firsts
    assert is_true(firsts[-1], "Ready")
    assert ns.names("Pod") == {"db-0", "db-1"}
    assert owners(ns.read("Pod", "db-0")) == [uid(made)]


def test_claim_outlives_its_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-storage"""
    mount = {"name": "data", "mountPath": "/data"}
    thing = stateful_set(
        container("echo x >> /data/file; wc -l < /data/file; sleep 3600", volumeMounts=[mount])
    )
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    thing["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
    ns.create(thing)
    ready(ns, 1)
    assert ns.wait_log("db-0", "1").strip() == "1"
    first = uid(ns.read("Pod", "db-0"))
    ns.delete("Pod", "db-0")
    eventually(lambda: ns.exists("Pod", "db-0") and uid(ns.read("Pod", "db-0")) != first, "no new pod")
    ready(ns, 1)
    assert ns.wait_log("db-0", "2").strip() == "2"


def test_pod_knows_its_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id"""
    ns.create(stateful_set(container("uname -n; sleep 3600 & wait")))
    ready(ns, 1)
    assert ns.wait_log("db-0", "db-0").strip() == "db-0"
    labels = ns.read("Pod", "db-0")["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "db-0"
    assert labels["apps.kubernetes.io/pod-index"] == "0"


def test_deleted_pod_comes_back_under_its_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id"""
    ns.create(stateful_set())
    ready(ns, 1)
    first = ns.read("Pod", "db-0")
    ns.delete("Pod", "db-0")
    ns.wait_items("Pod", lambda ps: [name_of(p) for p in ps] == ["db-0"] and uid(ps[0]) != uid(first))
    ready(ns, 1)


def test_scaling_down_takes_the_last_one(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#deployment-and-scaling-guarantees"""
    ns.create(stateful_set(replicas=2))
    ready(ns, 2)
    kept = uid(ns.read("Pod", "db-0"))
    ns.merge("StatefulSet", "db", {"spec": {"replicas": 1}})
    ns.wait_gone("Pod", "db-1")
    assert uid(ns.read("Pod", "db-0")) == kept


def test_new_template_replaces_the_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#rolling-updates"""
    ns.create(stateful_set())
    first = ready(ns, 1)
    old = ns.read("Pod", "db-0")
    env = {"name": "main", "env": [{"name": "A", "value": "1"}]}
    ns.strategic("StatefulSet", "db", {"spec": {"template": {"spec": {"containers": [env]}}}})

    def is_rolled(thing: Object) -> bool:
        status = thing["status"]
        return (
            status.get("updatedReplicas") == 1
            and status.get("readyReplicas") == 1
            and status["currentRevision"] == status["updateRevision"]
            and status["updateRevision"] != first["status"]["updateRevision"]
        )

    rolled = ns.wait("StatefulSet", "db", is_rolled)
    new = ns.read("Pod", "db-0")
    assert uid(new) != uid(old)
    assert new["spec"]["containers"][0]["env"] == env["env"]
    revision = new["metadata"]["labels"]["controller-revision-hash"]
    assert revision == rolled["status"]["updateRevision"]


def test_new_template_on_delete_waits_for_the_deletion(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies"""
    ns.create(stateful_set(updateStrategy={"type": "OnDelete"}))
    ready(ns, 1)
    old = ns.read("Pod", "db-0")
    env = {"name": "main", "env": [{"name": "A", "value": "1"}]}
    ns.strategic("StatefulSet", "db", {"spec": {"template": {"spec": {"containers": [env]}}}})
    ns.wait(
        "StatefulSet",
        "db",
        lambda s: (
            s["status"].get("observedGeneration") == s["metadata"]["generation"]
            and s["status"]["updateRevision"] != old["metadata"]["labels"]["controller-revision-hash"]
        ),
    )
    assert uid(ns.read("Pod", "db-0")) == uid(old)
    ns.delete("Pod", "db-0")
    ns.wait_items("Pod", lambda ps: len(ps) == 1 and uid(ps[0]) != uid(old))
    assert ns.read("Pod", "db-0")["spec"]["containers"][0]["env"] == env["env"]


def test_pods_of_one_that_is_deleted_go(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/run-application/delete-stateful-set/"""
    ns.create(stateful_set())
    ready(ns, 1)
    ns.delete("StatefulSet", "db", {"propagationPolicy": "Background"})
    ns.wait_gone("Pod", "db-0")
