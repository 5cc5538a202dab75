"""Events: what happened to which object."""

from __future__ import annotations

from tests.contract.cluster import Namespace, condition, is_true, name_of, uid
from tests.contract.objects import container, deployment, pod, stateful_set


def test_start_of_a_pod_makes_an_event_for_each_step(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/"""
    made = ns.create(pod())
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        event = ns.wait_event(reason, "Pod", "one")
        assert event["type"] == "Normal", reason
        assert event["involvedObject"]["uid"] == uid(made)
        assert event["involvedObject"]["namespace"] == ns.name
        assert event["message"]


def test_event_shows_its_source(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/"""
    ns.create(pod())
    started = ns.wait_event("Started", "Pod", "one")
    assert started["source"]["component"] == "kubelet"
    assert started["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert started["firstTimestamp"] <= started["lastTimestamp"]
    assert started["count"] == 1


def test_events_are_selected_by_their_object(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/"""
    made = ns.create(pod())
    ns.create(pod(name="two", nodeSelector={"contract.example/none": "yes"}))
    ns.wait_event("Started", "Pod", "one")
    ns.wait_event("FailedScheduling", "Pod", "two")
    mine = ns.items("Event", fieldSelector=f"involvedObject.uid={uid(made)}")
    assert {e["involvedObject"]["name"] for e in mine} == {"one"}
    warnings = ns.items("Event", fieldSelector="type=Warning")
    assert {e["involvedObject"]["name"] for e in warnings} == {"two"}


def test_controllers_tell_what_they_did(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    ns.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    scaled = ns.wait_event("ScalingReplicaSet", "Deployment", "web")
    assert scaled["type"] == "Normal"
    (herd,) = ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    made = ns.wait_event("SuccessfulCreate", "ReplicaSet", name_of(herd))
    assert made["type"] == "Normal"
    ns.merge("Deployment", "web", {"spec": {"replicas": 0}})
    ns.wait_event("SuccessfulDelete", "ReplicaSet", name_of(herd))


def test_stateful_set_shows_its_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/"""
    ns.create(stateful_set(template={"nodeSelector": {"contract.example/none": "yes"}}))
    assert ns.wait_event("SuccessfulCreate", "StatefulSet", "db")["type"] == "Normal"


def test_end_of_a_pod_makes_an_event(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow"""
    ns.create(pod())
    ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    ns.delete("Pod", "one")
    assert ns.wait_event("Killing", "Pod", "one")["type"] == "Normal"


def test_same_event_is_counted_not_repeated(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/"""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 100}
    ns.create(pod(container(readinessProbe=probe)))
    seen = ns.wait_items(
        "Event",
        lambda events: any(e.get("count", 0) >= 3 for e in events),
        fieldSelector="involvedObject.name=one,reason=Unhealthy",
    )
    repeated = next(event for event in seen if event.get("count", 0) >= 3)  # others: a probe that was late
    assert repeated["firstTimestamp"] < repeated["lastTimestamp"]


def test_event_is_an_object_that_can_be_made(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/"""
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "note-"},
        "involvedObject": {"kind": "Pod", "name": "one", "namespace": ns.name},
        "reason": "Noted",
        "type": "Normal",
        "message": "a note",
        "source": {"component": "contract"},
    }
    ns.create(event)
    assert ns.wait_event("Noted", "Pod", "one")["message"] == "a note"


def test_condition_shows_when_it_changed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions"""
    ns.create(pod())
    seen = ns.wait("Pod", "one", lambda p: is_true(p, "Ready"))
    assert condition(seen, "Ready")["lastTransitionTime"].endswith("Z")
