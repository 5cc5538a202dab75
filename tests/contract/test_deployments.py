"""Deployments: revisions, rollouts within their bounds, pause, rollback, conditions."""

from __future__ import annotations

from typing import Any

from tests.contract.cluster import Namespace, Object, condition, is_true, name_of, owners, uid, version_of
from tests.contract.objects import IMAGE, SLEEP, container, deployment

REVISION = "deployment.kubernetes.io/revision"
READY_AT_ONCE = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 20}
NEVER_READY = {"exec": {"command": ["false"]}, "periodSeconds": 1}


def annotations(thing: Object) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("annotations", {})
    return found


def change(value: str, **spec: Any) -> Object:
    """A merge patch that changes the template (and other fields of the spec)."""
    template = {"metadata": {"annotations": {"contract.example/change": value}}}
    return {"spec": {"template": template, **spec}}


def is_complete(thing: Object) -> bool:
    """As `kubectl rollout status` judges it."""
    spec, status = thing["spec"], thing["status"]
    wanted = spec["replicas"]
    return (
        status.get("observedGeneration", 0) >= thing["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def complete(ns: Namespace, name: str = "web") -> Object:
    return ns.wait("Deployment", name, is_complete, what="a complete rollout")


def observed(ns: Namespace, name: str = "web") -> Object:
    """When the controller has seen the newest spec."""
    return ns.wait(
        "Deployment",
        name,
        lambda d: d["status"].get("observedGeneration", 0) >= d["metadata"]["generation"],
    )


def revisions(ns: Namespace) -> dict[int, Object]:
    """Revision -> ReplicaSet, of the only Deployment in the namespace."""
    sets = ns.items("ReplicaSet")
    return {int(annotations(s)[REVISION]): s for s in sets if REVISION in annotations(s)}


def wait_revision(ns: Namespace, number: int) -> Object:
    ns.wait("Deployment", "web", lambda d: annotations(d).get(REVISION) == str(number))
    ns.wait_items("ReplicaSet", lambda _: number in revisions(ns))
    return revisions(ns)[number]


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


# -- what it makes -----------------------------------------------------------------------------


def test_deployment_makes_a_replica_set_that_makes_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#creating-a-deployment"""
    made = ns.create(deployment(replicas=2))
    complete(ns)
    (herd,) = ns.items("ReplicaSet")
    assert name_of(herd).startswith("web-")
    assert owners(herd) == [uid(made)]
    assert herd["metadata"]["ownerReferences"][0]["controller"] is True
    pods = ns.items("Pod")
    assert len(pods) == 2
    assert all(name_of(pod).startswith(f"{name_of(herd)}-") for pod in pods)
    assert all(owners(pod) == [uid(herd)] for pod in pods)


def test_pod_template_hash_distinguishes_replica_sets(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label"""
    ns.create(deployment(replicas=0))
    herd = wait_revision(ns, 1)
    mark = herd["metadata"]["labels"]["pod-template-hash"]
    assert name_of(herd) == f"web-{mark}"
    assert herd["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": mark}
    assert herd["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == mark


def test_status_counts_and_conditions_of_a_complete_rollout(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#complete-deployment"""
    ns.create(deployment(replicas=1))
    complete(ns)
    seen = ns.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "NewReplicaSetAvailable",
    )
    status = seen["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (1, 1, 1)
    assert status.get("unavailableReplicas", 0) == 0
    assert is_true(seen, "Progressing")
    assert is_true(seen, "Available")
    assert condition(seen, "Available")["reason"] == "MinimumReplicasAvailable"


def test_deployment_without_ready_pods_is_not_available(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status"""
    ns.create(deployment(container(readinessProbe=NEVER_READY)))
    seen = ns.wait("Deployment", "web", lambda d: d["status"].get("unavailableReplicas") == 1)
    assert condition(seen, "Available")["status"] == "False"
    assert condition(seen, "Available")["reason"] == "MinimumReplicasUnavailable"


# -- rolling ------------------------------------------------------------------------------------


def test_new_template_is_rolled_out_as_a_new_revision(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    ns.create(deployment())
    complete(ns)
    before = {uid(pod) for pod in ns.items("Pod")}
    ns.merge("Deployment", "web", change("2"))
    after = complete(ns)
    assert annotations(after)[REVISION] == "2"
    assert {n: s["spec"]["replicas"] for n, s in revisions(ns).items()} == {1: 0, 2: 1}
    pods = ns.wait_items("Pod", lambda pods: len(pods) == 1)
    assert uid(pods[0]) not in before
    assert owners(pods[0]) == [uid(revisions(ns)[2])]


def test_rolling_update_stays_within_surge_and_keeps_all_available(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment"""
    bounds = {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}
    slow = container(readinessProbe=READY_AT_ONCE)
    ns.create(deployment(slow, replicas=2, strategy=bounds))
    complete(ns)
    ready = {uid(p) for p in ns.items("Pod") if is_ready(p)}
    wanted = {uid(s): s["spec"]["replicas"] for s in ns.items("ReplicaSet")}
    old = set(ready)
    pods_since = version_of(ns.collection("Pod"))
    sets_since = version_of(ns.collection("ReplicaSet"))
    ns.merge("Deployment", "web", change("2"))
    complete(ns)
    ns.wait_items("Pod", lambda pods: not old & {uid(p) for p in pods})

    with ns.watch("ReplicaSet", resourceVersion=sets_since) as watch:
        for _, herd in watch:
            wanted[uid(herd)] = herd["spec"]["replicas"]
            assert sum(wanted.values()) <= 3
            if len(wanted) == 2 and sorted(wanted.values()) == [0, 2]:
                break
    with ns.watch("Pod", resourceVersion=pods_since) as watch:
        for kind, pod in watch:
            if kind != "DELETED" and is_ready(pod):
                ready.add(uid(pod))
            else:
                ready.discard(uid(pod))
            assert len(ready) >= 2
            if not old & ready:
                break


def test_rolling_update_without_surge_never_wants_more(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-surge"""
    bounds = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    ns.create(deployment(replicas=2, strategy=bounds))
    complete(ns)
    wanted = {uid(s): s["spec"]["replicas"] for s in ns.items("ReplicaSet")}
    since = version_of(ns.collection("ReplicaSet"))
    ns.merge("Deployment", "web", change("2"))
    complete(ns)
    with ns.watch("ReplicaSet", resourceVersion=since) as watch:
        for _, herd in watch:
            wanted[uid(herd)] = herd["spec"]["replicas"]
            assert 1 <= sum(wanted.values()) <= 2
            if len(wanted) == 2 and sorted(wanted.values()) == [0, 2]:
                break


def test_update_that_never_gets_ready_keeps_the_old_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    bounds = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    ns.create(deployment(strategy=bounds))
    complete(ns)
    (old,) = ns.items("Pod")
    broken = container(readinessProbe=NEVER_READY)
    ns.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [broken]}}}})
    ns.wait_items(
        "Pod",
        lambda pods: any(p["status"]["phase"] == "Running" and uid(p) != uid(old) for p in pods),
    )
    assert is_ready(ns.read("Pod", name_of(old)))
    assert ns.read("Deployment", "web")["status"]["availableReplicas"] == 1


def test_recreate_ends_the_old_before_it_makes_the_new(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#recreate-deployment"""
    ns.create(deployment(strategy={"type": "Recreate"}))
    complete(ns)
    alive = {uid(p) for p in ns.items("Pod")}
    old = set(alive)
    since = version_of(ns.collection("Pod"))
    ns.merge("Deployment", "web", change("2"))
    complete(ns)
    with ns.watch("Pod", resourceVersion=since) as watch:
        for kind, pod in watch:
            if kind == "DELETED" or pod["status"]["phase"] in ("Succeeded", "Failed"):
                alive.discard(uid(pod))
            if uid(pod) not in old:
                assert not alive & old
                break


def test_new_template_in_mid_rollout_replaces_the_running_one(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rollover-aka-multiple-updates-in-flight"""
    ns.create(deployment())
    complete(ns)
    broken = container(readinessProbe=NEVER_READY)
    ns.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [broken]}}}})
    wait_revision(ns, 2)
    good = container(readinessProbe=READY_AT_ONCE)
    ns.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [good]}}}})
    complete(ns)
    assert {n: s["spec"]["replicas"] for n, s in revisions(ns).items()} == {1: 0, 2: 0, 3: 1}


def test_ready_pod_is_available_only_after_min_ready_seconds(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#min-ready-seconds"""
    since = version_of(ns.collection("Deployment"))
    ns.create(deployment(minReadySeconds=3))
    with ns.watch("Deployment", resourceVersion=since) as watch:
        seen = watch.until(lambda _, d: d.get("status", {}).get("availableReplicas") == 1)
    waits = [
        d["status"].get("availableReplicas", 0)
        for _, d in seen
        if d.get("status", {}).get("readyReplicas") == 1
    ]
    assert 0 in waits


def test_template_is_what_makes_a_revision(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    ns.create(deployment(replicas=0))
    wait_revision(ns, 1)
    ns.merge("Deployment", "web", {"spec": {"minReadySeconds": 1, "revisionHistoryLimit": 5}})
    ns.merge("Deployment", "web", {"metadata": {"labels": {"tier": "front"}}})
    observed(ns)
    assert set(revisions(ns)) == {1}
    assert len(ns.items("ReplicaSet")) == 1


def test_image_is_part_of_the_template(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    ns.create(deployment(replicas=0))
    wait_revision(ns, 1)
    path = "/spec/template/spec/containers/0/image"
    ns.json_patch("Deployment", "web", [{"op": "replace", "path": path, "value": "other:2"}])
    newest = wait_revision(ns, 2)
    assert newest["spec"]["template"]["spec"]["containers"][0]["image"] == "other:2"


# -- scaling ------------------------------------------------------------------------------------


def test_scaling_makes_and_ends_pods_but_no_revision(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    ns.create(deployment(replicas=1))
    complete(ns)
    ns.merge("Deployment", "web", {"spec": {"replicas": 3}}, sub="scale")
    complete(ns)
    ns.merge("Deployment", "web", {"spec": {"replicas": 1}}, sub="scale")
    complete(ns)
    ns.wait_items("Pod", lambda pods: len(pods) == 1)
    assert set(revisions(ns)) == {1}


def test_scaling_to_zero_is_complete_without_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    ns.create(deployment(replicas=1))
    complete(ns)
    ns.merge("Deployment", "web", {"spec": {"replicas": 0}})
    seen = complete(ns)
    assert seen["status"].get("availableReplicas", 0) == 0
    ns.wait_items("Pod", lambda pods: not pods)


# -- pause and rollback -------------------------------------------------------------------------


def test_paused_deployment_does_not_roll_until_resumed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    ns.create(deployment(replicas=0))
    wait_revision(ns, 1)
    ns.merge("Deployment", "web", {"spec": {"paused": True}})
    ns.merge("Deployment", "web", change("2"))
    paused = observed(ns)
    assert set(revisions(ns)) == {1}
    assert annotations(paused)[REVISION] == "1"
    ns.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "DeploymentPaused",
    )
    ns.merge("Deployment", "web", {"spec": {"paused": False}})
    wait_revision(ns, 2)


def test_paused_deployment_still_scales(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    ns.create(deployment(replicas=1))
    complete(ns)
    ns.merge("Deployment", "web", {"spec": {"paused": True, "replicas": 2}})
    ns.wait("Deployment", "web", lambda d: d["status"].get("availableReplicas") == 2)


def test_return_to_an_old_template_takes_its_replica_set_again(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment"""
    ns.create(deployment(replicas=0))
    first = wait_revision(ns, 1)
    ns.merge("Deployment", "web", change("2"))
    second = wait_revision(ns, 2)
    ns.merge("Deployment", "web", {"spec": {"template": {"metadata": {"annotations": None}}}})
    back = wait_revision(ns, 3)
    assert uid(back) == uid(first)
    assert {uid(s) for s in ns.items("ReplicaSet")} == {uid(first), uid(second)}
    assert set(revisions(ns)) == {2, 3}


def test_history_is_limited(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#clean-up-policy"""
    ns.create(deployment(replicas=0, revisionHistoryLimit=1))
    for number in (1, 2, 3):
        if number > 1:
            ns.merge("Deployment", "web", change(str(number)))
        wait_revision(ns, number)
        observed(ns)
    ns.wait_items("ReplicaSet", lambda _: set(revisions(ns)) == {2, 3})


def test_history_of_none_keeps_only_the_newest(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#revision-history-limit"""
    ns.create(deployment(replicas=0, revisionHistoryLimit=0))
    wait_revision(ns, 1)
    ns.merge("Deployment", "web", change("2"))
    wait_revision(ns, 2)
    ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    assert set(revisions(ns)) == {2}


# -- failing ------------------------------------------------------------------------------------


def test_rollout_without_progress_passes_its_deadline(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    missing = container(image="contract-none:1", imagePullPolicy="Never")
    ns.create(deployment(missing, progressDeadlineSeconds=2))
    failed = ns.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "ProgressDeadlineExceeded",
    )
    assert condition(failed, "Progressing")["status"] == "False"


def test_failed_rollout_is_mended_by_a_good_template(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    missing = container(image="contract-none:1", imagePullPolicy="Never")
    ns.create(deployment(missing, progressDeadlineSeconds=2))
    ns.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "ProgressDeadlineExceeded",
    )
    path = "/spec/template/spec/containers/0/image"
    ns.json_patch("Deployment", "web", [{"op": "replace", "path": path, "value": IMAGE}])
    complete(ns)
    ns.wait("Deployment", "web", lambda d: is_true(d, "Progressing"))


def test_two_deployments_do_not_touch_each_other(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector"""
    ns.create(deployment(name="web"))
    ns.create(deployment(container(SLEEP), name="api"))
    complete(ns, "web")
    complete(ns, "api")
    (web,) = ns.items("Pod", labelSelector="app=web")
    ns.delete("Deployment", "api")
    ns.wait_items("Pod", lambda pods: len(pods) == 1)
    assert uid(ns.read("Pod", name_of(web))) == uid(web)
