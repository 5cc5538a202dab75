"""Deletion: finalizers, preconditions, propagation and the garbage collector."""

from __future__ import annotations

import pytest

from tests.contract.cluster import Namespace, Object, name_of, owners, refused, uid, version_of
from tests.contract.objects import config_map, deployment

HOLD = "contract.example/hold"


def owned_by(owner: Object, name: str, *others: Object, **metadata: object) -> Object:
    """A config map that depends on others; the sort of object makes no difference to the collector."""
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": name_of(o),
            "uid": uid(o),
            "blockOwnerDeletion": True,
        }
        for o in (owner, *others)
    ]
    return config_map(name, ownerReferences=references, **metadata)


def let_go(ns: Namespace, name: str) -> None:
    ns.merge("ConfigMap", name, {"metadata": {"finalizers": None}})


def is_leaving(thing: Object) -> bool:
    return "deletionTimestamp" in thing["metadata"]


def test_delete_answers_with_success_and_the_uid(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    made = ns.create(config_map())
    status = ns.delete("ConfigMap", "settings")
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"]["name"] == "settings"
    assert status["details"]["uid"] == uid(made)
    assert not ns.exists("ConfigMap", "settings")


def test_delete_of_a_missing_object_is_not_found(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs"""
    with refused(404, "NotFound"):
        ns.delete("ConfigMap", "nowhere")


def test_name_is_free_again_under_another_uid(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids"""
    first = ns.create(config_map())
    ns.delete("ConfigMap", "settings")
    assert uid(ns.create(config_map())) != uid(first)


def test_delete_of_another_uid_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    made = ns.create(config_map())
    wrong = {"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    with refused(409, "Conflict"):
        ns.delete("ConfigMap", "settings", wrong)
    ns.delete("ConfigMap", "settings", {"preconditions": {"uid": uid(made)}})
    assert not ns.exists("ConfigMap", "settings")


def test_delete_of_another_version_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    stale = version_of(ns.create(config_map()))
    ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    with refused(409, "Conflict"):
        ns.delete("ConfigMap", "settings", {"preconditions": {"resourceVersion": stale}})
    assert ns.exists("ConfigMap", "settings")


def test_finalizer_holds_the_object(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/"""
    ns.create(config_map(finalizers=[HOLD]))
    ns.delete("ConfigMap", "settings")
    held = ns.read("ConfigMap", "settings")
    assert is_leaving(held)
    changed = ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    assert changed["data"] == {"a": "2"}
    let_go(ns, "settings")
    assert not ns.exists("ConfigMap", "settings")


def test_second_delete_of_a_held_object_changes_nothing(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    ns.create(config_map(finalizers=[HOLD]))
    ns.delete("ConfigMap", "settings")
    first = ns.read("ConfigMap", "settings")
    ns.delete("ConfigMap", "settings")
    again = ns.read("ConfigMap", "settings")
    assert again["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"]
    let_go(ns, "settings")


def test_no_finalizer_is_added_to_what_is_leaving(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    ns.create(config_map(finalizers=[HOLD]))
    ns.delete("ConfigMap", "settings")
    with refused(422, "Invalid") as refusal:
        more = {"metadata": {"finalizers": [HOLD, "contract.example/more"]}}
        ns.merge("ConfigMap", "settings", more)
    assert refusal.causes == {"metadata.finalizers": "FieldValueForbidden"}
    let_go(ns, "settings")


def test_deletion_timestamp_cannot_be_taken_back(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    ns.create(config_map(finalizers=[HOLD]))
    ns.delete("ConfigMap", "settings")
    kept = ns.merge("ConfigMap", "settings", {"metadata": {"deletionTimestamp": None}})
    assert is_leaving(kept)
    let_go(ns, "settings")


def test_watch_sends_the_delete_as_a_change_first(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    since = version_of(ns.create(config_map(finalizers=[HOLD])))
    ns.delete("ConfigMap", "settings")
    let_go(ns, "settings")
    only = {"fieldSelector": "metadata.name=settings", "resourceVersion": since}
    with ns.watch("ConfigMap", **only) as watch:
        seen = watch.until(lambda kind, _: kind == "DELETED")
    assert seen[0][0] == "MODIFIED"
    assert is_leaving(seen[0][1])


def test_dependents_go_with_their_owner(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#background-deletion"""
    owner = ns.create(config_map("owner"))
    ns.create(owned_by(owner, "child"))
    ns.delete("ConfigMap", "owner", {"propagationPolicy": "Background"})
    assert not ns.exists("ConfigMap", "owner")
    ns.wait_gone("ConfigMap", "child")


def test_dependents_of_dependents_go_too(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion"""
    owner = ns.create(config_map("owner"))
    child = ns.create(owned_by(owner, "child"))
    ns.create(owned_by(child, "grandchild"))
    ns.delete("ConfigMap", "owner", {"propagationPolicy": "Background"})
    ns.wait_gone("ConfigMap", "grandchild")
    ns.wait_gone("ConfigMap", "child")


def test_orphans_stay_and_lose_their_owner(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#orphaned-dependents"""
    owner = ns.create(config_map("owner"))
    ns.create(owned_by(owner, "child"))
    ns.delete("ConfigMap", "owner", {"propagationPolicy": "Orphan"})
    ns.wait_gone("ConfigMap", "owner")
    ns.wait("ConfigMap", "child", lambda c: not owners(c), what="no owner")


def test_foreground_deletion_waits_for_dependents(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion"""
    owner = ns.create(config_map("owner"))
    ns.create(owned_by(owner, "child", finalizers=[HOLD]))
    ns.delete("ConfigMap", "owner", {"propagationPolicy": "Foreground"})
    waiting = ns.read("ConfigMap", "owner")
    assert is_leaving(waiting)
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    ns.wait("ConfigMap", "child", is_leaving)
    assert ns.exists("ConfigMap", "owner")
    let_go(ns, "child")
    ns.wait_gone("ConfigMap", "child")
    ns.wait_gone("ConfigMap", "owner")


def test_object_with_another_owner_stays(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents"""
    one, two = ns.create(config_map("one")), ns.create(config_map("two"))
    ns.create(owned_by(one, "child", two))
    ns.delete("ConfigMap", "one", {"propagationPolicy": "Background"})
    left = ns.wait("ConfigMap", "child", lambda c: len(owners(c)) == 1)
    assert owners(left) == [uid(two)]


def test_object_whose_owner_is_not_there_is_collected(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents"""
    gone = {"metadata": {"name": "gone", "uid": "00000000-0000-4000-8000-000000000001"}}
    ns.create(owned_by(gone, "child"))
    ns.wait_gone("ConfigMap", "child")


def test_owner_reference_is_by_uid_not_by_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/"""
    first = ns.create(config_map("owner"))
    ns.delete("ConfigMap", "owner")
    ns.create(config_map("owner"))
    ns.create(owned_by(first, "child"))
    ns.wait_gone("ConfigMap", "child")
    assert ns.exists("ConfigMap", "owner")


def test_unknown_propagation_policy_is_refused(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    ns.create(config_map())
    with refused(422, "Invalid"):
        ns.delete("ConfigMap", "settings", {"propagationPolicy": "Sideways"})


@pytest.mark.parametrize("how", ["Background", "Foreground"])
def test_deployment_takes_its_replica_sets_and_pods_along(ns: Namespace, how: str) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/use-cascading-deletion/"""
    ns.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    ns.wait_items("Pod", lambda pods: len(pods) == 1)
    ns.delete("Deployment", "web", {"propagationPolicy": how})
    ns.wait_gone("Deployment", "web")
    ns.wait_items("ReplicaSet", lambda sets: not sets)
    ns.wait_items("Pod", lambda pods: not pods)


def test_orphaned_replica_set_keeps_its_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/use-cascading-deletion/#set-orphan-deletion-policy"""
    ns.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    (pod,) = ns.wait_items("Pod", lambda pods: len(pods) == 1)
    ns.delete("Deployment", "web", {"propagationPolicy": "Orphan"})
    ns.wait_gone("Deployment", "web")
    ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1 and not owners(sets[0]))
    assert uid(ns.read("Pod", name_of(pod))) == uid(pod)


def test_deployment_adopts_the_replica_set_that_was_orphaned(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#orphaned-dependents"""
    first = ns.create(deployment(replicas=0))
    (old,) = ns.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    ns.delete("Deployment", "web", {"propagationPolicy": "Orphan"})
    ns.wait_gone("Deployment", "web")
    second = ns.create(deployment(replicas=0))
    ns.wait("ReplicaSet", name_of(old), lambda r: owners(r) == [uid(second)])
    assert uid(second) != uid(first)
    assert len(ns.items("ReplicaSet")) == 1
