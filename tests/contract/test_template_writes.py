"""Templates that are made to name what the pods already run: which of them roll pods, and which do not."""

from __future__ import annotations

import time

from tests.contract.cluster import (
    Namespace,
    Object,
    condition,
    container_status,
    is_true,
    name_of,
    refused,
    uid,
    version_of,
)
from tests.contract.objects import IMAGE, NAMES, deployment, replica_set, stateful_set
from tests.contract.test_deployments import REVISION, annotations, complete, is_complete, observed, revisions

IN_POD = "/spec/containers/0/image"
IN_TEMPLATE = "/spec/template/spec/containers/0/image"
PAUSE = {"op": "add", "path": "/spec/paused", "value": True}
RESUME = [{"op": "test", "path": "/spec/paused", "value": True}, {"op": "remove", "path": "/spec/paused"}]


def image(thing: Object, path: str, new: str, old: str = IMAGE) -> list[Object]:
    """Operations that change the image if `thing` is still the one that was read."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid(thing)},
        {"op": "test", "path": path, "value": old},
        {"op": "replace", "path": path, "value": new},
    ]


def started(ns: Namespace, replicas: int = 2) -> tuple[Object, Object, list[Object]]:
    """A Deployment that is complete, its ReplicaSet and its pods."""
    ns.create(deployment(replicas=replicas))
    done = complete(ns)
    (herd,) = ns.items("ReplicaSet")
    return done, herd, ns.items("Pod")


def change_pods(ns: Namespace, pods: list[Object], new: str = NAMES[1]) -> None:
    """Give running pods another image and wait until they are Ready with it."""
    for thing in pods:
        count = container_status(thing)["restartCount"] + 1
        ns.json_patch("Pod", name_of(thing), image(thing, IN_POD, new))

        def is_changed(now: Object, count: int = count) -> bool:
            return container_status(now)["restartCount"] == count and is_true(now, "Ready")

        ns.wait("Pod", name_of(thing), is_changed, what="Ready with another image")


def write_deployment(ns: Namespace, web: Object, new: str = NAMES[1], old: str = IMAGE) -> Object:
    absent = {"op": "test", "path": "/spec/paused", "value": None}
    return ns.json_patch("Deployment", "web", [absent, *image(web, IN_TEMPLATE, new, old), PAUSE])


def images(things: list[Object]) -> list[str]:
    return [thing["spec"]["containers"][0]["image"] for thing in things]


def replaced(ns: Namespace, pods: list[Object]) -> list[Object]:
    """The pods after a complete rollout, none of which is one of `pods`."""
    complete(ns)
    before = {uid(thing) for thing in pods}
    ns.wait_items("Pod", lambda now: len(now) == len(pods) and not before & {uid(one) for one in now})
    return ns.items("Pod")


# -- three writes ------------------------------------------------------------------------------


def test_both_templates_follow_the_pods_and_nothing_is_replaced(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    assert {uid(one) for one in ns.items("Pod")} == {uid(one) for one in pods}
    write_deployment(ns, web)
    paused = observed(ns)
    assert condition(paused, "Progressing")["reason"] == "DeploymentPaused"
    assert paused["status"].get("updatedReplicas", 0) == 0  # no ReplicaSet has that template
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    ns.wait("Deployment", "web", lambda d: d["status"].get("updatedReplicas") == 2)
    ns.json_patch("Deployment", "web", RESUME)
    done = ns.wait(
        "Deployment",
        "web",
        lambda d: is_complete(d) and condition(d, "Progressing")["reason"] == "NewReplicaSetAvailable",
    )
    (after,) = ns.items("ReplicaSet")
    assert (uid(after), after["spec"]["replicas"]) == (uid(herd), 2)
    assert after["spec"]["selector"] == herd["spec"]["selector"]
    assert annotations(after)[REVISION] == annotations(done)[REVISION] == "1"
    assert not done["status"].get("collisionCount")
    assert {uid(one) for one in ns.items("Pod")} == {uid(one) for one in pods}
    ns.delete("Pod", name_of(pods[0]))
    ns.wait_items("Pod", lambda now: len(now) == 2 and uid(pods[0]) not in {uid(one) for one in now})
    assert images(ns.items("Pod")) == [NAMES[1]] * 2
    complete(ns)


def test_writes_may_follow_each_other_at_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    write_deployment(ns, web)
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    ns.json_patch("Deployment", "web", RESUME)
    complete(ns)
    assert [uid(one) for one in ns.items("ReplicaSet")] == [uid(herd)]
    assert {uid(one) for one in ns.items("Pod")} == {uid(one) for one in pods}


def test_next_template_after_the_writes_rolls_as_ever(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#updating-a-deployment"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    write_deployment(ns, web)
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    ns.json_patch("Deployment", "web", RESUME)
    complete(ns)
    ns.json_patch("Deployment", "web", image(web, IN_TEMPLATE, NAMES[2], NAMES[1]))
    assert images(replaced(ns, pods)) == [NAMES[2]] * 2
    assert set(revisions(ns)) == {1, 2}
    assert uid(revisions(ns)[1]) == uid(herd)


def test_older_replica_set_of_the_template_is_taken_and_every_pod_replaced(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment"""
    web, oldest, first = started(ns, replicas=1)
    time.sleep(1.1)  # creation times are whole seconds, and the oldest is meant
    ns.json_patch("Deployment", "web", image(web, IN_TEMPLATE, NAMES[1]))
    pods = replaced(ns, first)
    current = revisions(ns)[2]
    (thing,) = pods
    ns.json_patch("Pod", name_of(thing), image(thing, IN_POD, IMAGE, NAMES[1]))
    ns.wait("Pod", name_of(thing), lambda p: container_status(p)["restartCount"] == 1)
    write_deployment(ns, web, IMAGE, NAMES[1])
    ns.json_patch("ReplicaSet", name_of(current), image(current, IN_TEMPLATE, IMAGE, NAMES[1]))
    ns.json_patch("Deployment", "web", RESUME)
    (after,) = replaced(ns, pods)
    assert after["metadata"]["ownerReferences"][0]["uid"] == uid(oldest)
    assert annotations(ns.read("ReplicaSet", name_of(oldest)))[REVISION] == "3"


def test_annotation_of_a_deployment_stays_on_its_replica_set(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/"""
    web, herd, _ = started(ns, replicas=1)
    mark = {"op": "add", "path": "/metadata/annotations/contract.example~1mark", "value": "1"}
    absent = {"op": "test", "path": "/spec/paused", "value": None}
    ns.json_patch("Deployment", "web", [absent, *image(web, IN_TEMPLATE, NAMES[1]), PAUSE, mark])
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    ns.wait("Deployment", "web", lambda d: d["status"].get("updatedReplicas") == 1)
    ns.json_patch("Deployment", "web", [*RESUME, {"op": "remove", "path": mark["path"]}])
    done = complete(ns)
    assert "contract.example/mark" not in annotations(done)
    assert annotations(ns.read("ReplicaSet", name_of(herd)))["contract.example/mark"] == "1"


# -- what is left between the writes -----------------------------------------------------------


def test_resumed_after_the_first_write_it_rolls(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    write_deployment(ns, web)
    ns.json_patch("Deployment", "web", RESUME)
    after = replaced(ns, pods)
    assert images(after) == [NAMES[1]] * 2
    assert uid(herd) not in {one["metadata"]["ownerReferences"][0]["uid"] for one in after}
    assert set(revisions(ns)) == {1, 2}


def test_image_set_back_after_the_first_write_leaves_the_pods_alone(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#how-a-replicaset-works"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    write_deployment(ns, web)
    observed(ns)
    ns.json_patch("Deployment", "web", [*image(web, IN_TEMPLATE, IMAGE, NAMES[1]), *RESUME])
    complete(ns)
    assert [uid(one) for one in ns.items("ReplicaSet")] == [uid(herd)]
    now = ns.items("Pod")
    assert {uid(one) for one in now} == {uid(one) for one in pods}
    assert images(now) == [NAMES[1]] * 2  # nobody but the template says otherwise


def test_image_set_back_after_the_second_write_makes_another_replica_set(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label"""
    web, herd, pods = started(ns)
    change_pods(ns, pods)
    write_deployment(ns, web)
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    observed(ns)
    ns.json_patch("Deployment", "web", [*image(web, IN_TEMPLATE, IMAGE, NAMES[1]), *RESUME])
    assert images(replaced(ns, pods)) == [IMAGE] * 2
    done = complete(ns)
    assert done["status"]["collisionCount"] == 1  # the name that its template gives is taken
    sets = {uid(one): one for one in ns.items("ReplicaSet")}
    assert len(sets) == 2
    assert sets.pop(uid(herd))["spec"]["replicas"] == 0
    (made,) = sets.values()
    assert name_of(made).startswith("web-")
    assert name_of(made) == f"web-{made['metadata']['labels']['pod-template-hash']}"


def test_template_rolled_back_after_all_writes_makes_another_replica_set(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment"""
    web, herd, pods = started(ns, replicas=1)
    change_pods(ns, pods)
    write_deployment(ns, web)
    ns.json_patch("ReplicaSet", name_of(herd), image(herd, IN_TEMPLATE, NAMES[1]))
    ns.json_patch("Deployment", "web", RESUME)
    complete(ns)
    ns.json_patch("Deployment", "web", image(web, IN_TEMPLATE, IMAGE, NAMES[1]))
    assert images(replaced(ns, pods)) == [IMAGE]
    assert complete(ns)["status"]["collisionCount"] == 1


# -- paused ------------------------------------------------------------------------------------


def test_pause_and_its_end_are_told_by_the_progress(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status"""
    ns.create(deployment(replicas=0))
    ns.wait(
        "Deployment", "web", lambda d: condition(d, "Progressing").get("reason") == "NewReplicaSetAvailable"
    )
    since = version_of(ns.read("Deployment", "web"))
    ns.merge("Deployment", "web", {"spec": {"paused": True}})
    ns.wait("Deployment", "web", lambda d: condition(d, "Progressing")["reason"] == "DeploymentPaused")
    ns.merge("Deployment", "web", {"spec": {"paused": None}})
    with ns.watch("Deployment", resourceVersion=since) as watch:
        seen = watch.until(lambda _, d: condition(d, "Progressing")["reason"] == "DeploymentResumed")
    reasons = dict.fromkeys(condition(thing, "Progressing")["reason"] for _, thing in seen)
    assert list(reasons) == ["NewReplicaSetAvailable", "DeploymentPaused", "DeploymentResumed"]
    assert condition(seen[-1][1], "Progressing")["status"] == "Unknown"


def test_paused_deployment_scales_the_replica_set_that_is_there(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pausing-and-resuming-a-deployment"""
    web, herd, pods = started(ns, replicas=1)
    write_deployment(ns, web)
    ns.merge("Deployment", "web", {"spec": {"replicas": 2}}, sub="scale")
    ns.wait("Deployment", "web", lambda d: d["status"].get("availableReplicas") == 2)
    assert [uid(one) for one in ns.items("ReplicaSet")] == [uid(herd)]
    assert uid(pods[0]) in {uid(one) for one in ns.items("Pod")}
    assert images(ns.items("Pod")) == [IMAGE] * 2  # made of the old template


# -- ReplicaSets and StatefulSets --------------------------------------------------------------


def test_template_of_a_replica_set_is_that_of_its_next_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#writing-a-replicaset-manifest"""
    herd = ns.create(replica_set())
    ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("readyReplicas") == 1)
    (first,) = ns.items("Pod")
    changed = ns.json_patch("ReplicaSet", "herd", image(herd, IN_TEMPLATE, NAMES[1]))
    ns.wait(
        "ReplicaSet", "herd", lambda r: r["status"]["observedGeneration"] >= changed["metadata"]["generation"]
    )
    ns.merge("ReplicaSet", "herd", {"spec": {"replicas": 2}})
    ns.wait("ReplicaSet", "herd", lambda r: r["status"].get("readyReplicas") == 2)
    by_uid = {uid(one): one for one in ns.items("Pod")}
    assert images([by_uid.pop(uid(first))]) == [IMAGE]
    assert images([*by_uid.values()]) == [NAMES[1]]


def test_selector_of_a_replica_set_cannot_change(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-selector"""
    ns.create(replica_set(replicas=0))
    more = {"matchLabels": {"app": "herd", "tier": "x"}}
    labels = {"metadata": {"labels": {"app": "herd", "tier": "x"}}}
    with refused(422, "Invalid") as refusal:
        ns.merge("ReplicaSet", "herd", {"spec": {"selector": more, "template": labels}})
    assert refusal.causes == {"spec.selector": "FieldValueInvalid"}
    assert "field is immutable" in refusal.message


def test_stateful_set_leaves_a_changed_pod_alone_until_its_template_changes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#rolling-updates"""
    made = ns.create(stateful_set())
    ns.wait("StatefulSet", "db", lambda s: s["status"].get("readyReplicas") == 1)
    before = ns.read("Pod", "db-0")
    change_pods(ns, [before])
    scaled = ns.merge("StatefulSet", "db", {"spec": {"minReadySeconds": 1}})
    ns.wait(
        "StatefulSet", "db", lambda s: s["status"]["observedGeneration"] >= scaled["metadata"]["generation"]
    )
    ns.wait("StatefulSet", "db", lambda s: s["status"].get("availableReplicas") == 1)
    assert uid(ns.read("Pod", "db-0")) == uid(before)
    ns.json_patch("StatefulSet", "db", image(made, IN_TEMPLATE, NAMES[1]))
    ns.wait_items("Pod", lambda now: len(now) == 1 and uid(now[0]) != uid(before))
    after = ns.wait("Pod", "db-0", lambda p: is_true(p, "Ready"))
    assert images([after]) == [NAMES[1]]
    assert container_status(after)["restartCount"] == 0
