"""Deployments: revisions, rollouts within their bounds, pause, rollback, conditions."""

from __future__ import annotations

from typing import Any

from tests.contract.cluster import Object, Room, condition, is_true, name_of, owners, uid, version_of
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


def complete(room: Room, name: str = "web") -> Object:
    return room.wait("Deployment", name, is_complete, what="a complete rollout")


def observed(room: Room, name: str = "web") -> Object:
    """When the controller has seen the newest spec."""
    return room.wait(
        "Deployment",
        name,
        lambda d: d["status"].get("observedGeneration", 0) >= d["metadata"]["generation"],
    )


def revisions(room: Room) -> dict[int, Object]:
    """Revision -> ReplicaSet, of the only Deployment in the room."""
    sets = room.items("ReplicaSet")
    return {int(annotations(s)[REVISION]): s for s in sets if REVISION in annotations(s)}


def wait_revision(room: Room, number: int) -> Object:
    room.wait("Deployment", "web", lambda d: annotations(d).get(REVISION) == str(number))
    room.wait_items("ReplicaSet", lambda _: number in revisions(room))
    return revisions(room)[number]


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


# -- what it makes -----------------------------------------------------------------------------


def test_deployment_makes_a_replica_set_that_makes_pods(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#creating-a-deployment"""
    made = room.create(deployment(replicas=2))
    complete(room)
    (herd,) = room.items("ReplicaSet")
    assert name_of(herd).startswith("web-")
    assert owners(herd) == [uid(made)]
    assert herd["metadata"]["ownerReferences"][0]["controller"] is True
    pods = room.items("Pod")
    assert len(pods) == 2
    assert all(name_of(pod).startswith(f"{name_of(herd)}-") for pod in pods)
    assert all(owners(pod) == [uid(herd)] for pod in pods)


def test_pod_template_hash_tells_replica_sets_apart(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label"""
    room.create(deployment(replicas=0))
    herd = wait_revision(room, 1)
    mark = herd["metadata"]["labels"]["pod-template-hash"]
    assert name_of(herd) == f"web-{mark}"
    assert herd["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": mark}
    assert herd["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == mark


def test_status_counts_and_conditions_of_a_complete_rollout(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#complete-deployment"""
    room.create(deployment(replicas=1))
    complete(room)
    seen = room.wait(
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


def test_deployment_without_ready_pods_is_not_available(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status"""
    room.create(deployment(container(readinessProbe=NEVER_READY)))
    seen = room.wait("Deployment", "web", lambda d: d["status"].get("unavailableReplicas") == 1)
    assert condition(seen, "Available")["status"] == "False"
    assert condition(seen, "Available")["reason"] == "MinimumReplicasUnavailable"


# -- rolling ------------------------------------------------------------------------------------


def test_new_template_is_rolled_out_as_a_new_revision(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    room.create(deployment())
    complete(room)
    before = {uid(pod) for pod in room.items("Pod")}
    room.merge("Deployment", "web", change("2"))
    after = complete(room)
    assert annotations(after)[REVISION] == "2"
    assert {n: s["spec"]["replicas"] for n, s in revisions(room).items()} == {1: 0, 2: 1}
    pods = room.wait_items("Pod", lambda pods: len(pods) == 1)
    assert uid(pods[0]) not in before
    assert owners(pods[0]) == [uid(revisions(room)[2])]


def test_rolling_update_stays_within_surge_and_keeps_all_available(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment"""
    bounds = {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}
    slow = container(readinessProbe=READY_AT_ONCE)
    room.create(deployment(slow, replicas=2, strategy=bounds))
    complete(room)
    ready = {uid(p) for p in room.items("Pod") if is_ready(p)}
    wanted = {uid(s): s["spec"]["replicas"] for s in room.items("ReplicaSet")}
    old = set(ready)
    pods_since = version_of(room.collection("Pod"))
    sets_since = version_of(room.collection("ReplicaSet"))
    room.merge("Deployment", "web", change("2"))
    complete(room)
    room.wait_items("Pod", lambda pods: not old & {uid(p) for p in pods})

    with room.watch("ReplicaSet", resourceVersion=sets_since) as watch:
        for _, herd in watch:
            wanted[uid(herd)] = herd["spec"]["replicas"]
            assert sum(wanted.values()) <= 3
            if len(wanted) == 2 and sorted(wanted.values()) == [0, 2]:
                break
    with room.watch("Pod", resourceVersion=pods_since) as watch:
        for kind, pod in watch:
            if kind != "DELETED" and is_ready(pod):
                ready.add(uid(pod))
            else:
                ready.discard(uid(pod))
            assert len(ready) >= 2
            if not old & ready:
                break


def test_rolling_update_without_surge_never_wants_more(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-surge"""
    bounds = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    room.create(deployment(replicas=2, strategy=bounds))
    complete(room)
    wanted = {uid(s): s["spec"]["replicas"] for s in room.items("ReplicaSet")}
    since = version_of(room.collection("ReplicaSet"))
    room.merge("Deployment", "web", change("2"))
    complete(room)
    with room.watch("ReplicaSet", resourceVersion=since) as watch:
        for _, herd in watch:
            wanted[uid(herd)] = herd["spec"]["replicas"]
            assert 1 <= sum(wanted.values()) <= 2
            if len(wanted) == 2 and sorted(wanted.values()) == [0, 2]:
                break


def test_update_that_never_gets_ready_keeps_the_old_pods(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    bounds = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    room.create(deployment(strategy=bounds))
    complete(room)
    (old,) = room.items("Pod")
    broken = container(readinessProbe=NEVER_READY)
    room.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [broken]}}}})
    room.wait_items(
        "Pod",
        lambda pods: any(p["status"]["phase"] == "Running" and uid(p) != uid(old) for p in pods),
    )
    assert is_ready(room.read("Pod", name_of(old)))
    assert room.read("Deployment", "web")["status"]["availableReplicas"] == 1


def test_recreate_ends_the_old_before_it_makes_the_new(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#recreate-deployment"""
    room.create(deployment(strategy={"type": "Recreate"}))
    complete(room)
    alive = {uid(p) for p in room.items("Pod")}
    old = set(alive)
    since = version_of(room.collection("Pod"))
    room.merge("Deployment", "web", change("2"))
    complete(room)
    with room.watch("Pod", resourceVersion=since) as watch:
        for kind, pod in watch:
            if kind == "DELETED" or pod["status"]["phase"] in ("Succeeded", "Failed"):
                alive.discard(uid(pod))
            if uid(pod) not in old:
                assert not alive & old
                break


def test_new_template_in_mid_rollout_replaces_the_one_under_way(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rollover-aka-multiple-updates-in-flight"""
    room.create(deployment())
    complete(room)
    broken = container(readinessProbe=NEVER_READY)
    room.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [broken]}}}})
    wait_revision(room, 2)
    good = container(readinessProbe=READY_AT_ONCE)
    room.strategic("Deployment", "web", {"spec": {"template": {"spec": {"containers": [good]}}}})
    complete(room)
    assert {n: s["spec"]["replicas"] for n, s in revisions(room).items()} == {1: 0, 2: 0, 3: 1}


def test_ready_pod_is_available_only_after_min_ready_seconds(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#min-ready-seconds"""
    since = version_of(room.collection("Deployment"))
    room.create(deployment(minReadySeconds=3))
    with room.watch("Deployment", resourceVersion=since) as watch:
        seen = watch.until(lambda _, d: d.get("status", {}).get("availableReplicas") == 1)
    waits = [
        d["status"].get("availableReplicas", 0)
        for _, d in seen
        if d.get("status", {}).get("readyReplicas") == 1
    ]
    assert 0 in waits


def test_template_is_what_makes_a_revision(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    room.create(deployment(replicas=0))
    wait_revision(room, 1)
    room.merge("Deployment", "web", {"spec": {"minReadySeconds": 1, "revisionHistoryLimit": 5}})
    room.merge("Deployment", "web", {"metadata": {"labels": {"tier": "front"}}})
    observed(room)
    assert set(revisions(room)) == {1}
    assert len(room.items("ReplicaSet")) == 1


def test_image_is_part_of_the_template(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    room.create(deployment(replicas=0))
    wait_revision(room, 1)
    path = "/spec/template/spec/containers/0/image"
    room.json_patch("Deployment", "web", [{"op": "replace", "path": path, "value": "other:2"}])
    newest = wait_revision(room, 2)
    assert newest["spec"]["template"]["spec"]["containers"][0]["image"] == "other:2"


# -- scaling ------------------------------------------------------------------------------------


def test_scaling_makes_and_ends_pods_but_no_revision(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    room.create(deployment(replicas=1))
    complete(room)
    room.merge("Deployment", "web", {"spec": {"replicas": 3}}, sub="scale")
    complete(room)
    room.merge("Deployment", "web", {"spec": {"replicas": 1}}, sub="scale")
    complete(room)
    room.wait_items("Pod", lambda pods: len(pods) == 1)
    assert set(revisions(room)) == {1}


def test_scaling_to_zero_is_complete_without_pods(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"""
    room.create(deployment(replicas=1))
    complete(room)
    room.merge("Deployment", "web", {"spec": {"replicas": 0}})
    seen = complete(room)
    assert seen["status"].get("availableReplicas", 0) == 0
    room.wait_items("Pod", lambda pods: not pods)


# -- pause and rollback -------------------------------------------------------------------------


def test_paused_deployment_does_not_roll_until_resumed(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    room.create(deployment(replicas=0))
    wait_revision(room, 1)
    room.merge("Deployment", "web", {"spec": {"paused": True}})
    room.merge("Deployment", "web", change("2"))
    paused = observed(room)
    assert set(revisions(room)) == {1}
    assert annotations(paused)[REVISION] == "1"
    room.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "DeploymentPaused",
    )
    room.merge("Deployment", "web", {"spec": {"paused": False}})
    wait_revision(room, 2)


def test_paused_deployment_still_scales(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    room.create(deployment(replicas=1))
    complete(room)
    room.merge("Deployment", "web", {"spec": {"paused": True, "replicas": 2}})
    room.wait("Deployment", "web", lambda d: d["status"].get("availableReplicas") == 2)


def test_return_to_an_old_template_takes_its_replica_set_again(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment"""
    room.create(deployment(replicas=0))
    first = wait_revision(room, 1)
    room.merge("Deployment", "web", change("2"))
    second = wait_revision(room, 2)
    room.merge("Deployment", "web", {"spec": {"template": {"metadata": {"annotations": None}}}})
    back = wait_revision(room, 3)
    assert uid(back) == uid(first)
    assert {uid(s) for s in room.items("ReplicaSet")} == {uid(first), uid(second)}
    assert set(revisions(room)) == {2, 3}


def test_history_is_limited(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#clean-up-policy"""
    room.create(deployment(replicas=0, revisionHistoryLimit=1))
    for number in (1, 2, 3):
        if number > 1:
            room.merge("Deployment", "web", change(str(number)))
        wait_revision(room, number)
        observed(room)
    room.wait_items("ReplicaSet", lambda _: set(revisions(room)) == {2, 3})


def test_history_of_none_keeps_only_the_newest(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#revision-history-limit"""
    room.create(deployment(replicas=0, revisionHistoryLimit=0))
    wait_revision(room, 1)
    room.merge("Deployment", "web", change("2"))
    wait_revision(room, 2)
    room.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    assert set(revisions(room)) == {2}


# -- failing ------------------------------------------------------------------------------------


def test_rollout_without_progress_passes_its_deadline(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    missing = container(image="contract-none:1", imagePullPolicy="Never")
    room.create(deployment(missing, progressDeadlineSeconds=2))
    failed = room.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "ProgressDeadlineExceeded",
    )
    assert condition(failed, "Progressing")["status"] == "False"


def test_failed_rollout_is_mended_by_a_good_template(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment"""
    missing = container(image="contract-none:1", imagePullPolicy="Never")
    room.create(deployment(missing, progressDeadlineSeconds=2))
    room.wait(
        "Deployment",
        "web",
        lambda d: condition(d, "Progressing").get("reason") == "ProgressDeadlineExceeded",
    )
    path = "/spec/template/spec/containers/0/image"
    room.json_patch("Deployment", "web", [{"op": "replace", "path": path, "value": IMAGE}])
    complete(room)
    room.wait("Deployment", "web", lambda d: is_true(d, "Progressing"))


def test_two_deployments_do_not_touch_each_other(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector"""
    room.create(deployment(name="web"))
    room.create(deployment(container(SLEEP), name="api"))
    complete(room, "web")
    complete(room, "api")
    (web,) = room.items("Pod", labelSelector="app=web")
    room.delete("Deployment", "api")
    room.wait_items("Pod", lambda pods: len(pods) == 1)
    assert uid(room.read("Pod", name_of(web))) == uid(web)
