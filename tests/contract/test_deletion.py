"""Deletion: finalizers, preconditions, propagation and the garbage collector."""

from __future__ import annotations

import pytest

from tests.contract.cluster import Object, Room, name_of, owners, refused, uid, version_of
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


def let_go(room: Room, name: str) -> None:
    room.merge("ConfigMap", name, {"metadata": {"finalizers": None}})


def is_leaving(thing: Object) -> bool:
    return "deletionTimestamp" in thing["metadata"]


def test_delete_answers_with_success_and_the_uid(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    made = room.create(config_map())
    status = room.delete("ConfigMap", "settings")
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"]["name"] == "settings"
    assert status["details"]["uid"] == uid(made)
    assert not room.exists("ConfigMap", "settings")


def test_delete_of_a_missing_object_is_not_found(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs"""
    with refused(404, "NotFound"):
        room.delete("ConfigMap", "nowhere")


def test_name_is_free_again_under_another_uid(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids"""
    first = room.create(config_map())
    room.delete("ConfigMap", "settings")
    assert uid(room.create(config_map())) != uid(first)


def test_delete_of_another_uid_is_a_conflict(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    made = room.create(config_map())
    wrong = {"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    with refused(409, "Conflict"):
        room.delete("ConfigMap", "settings", wrong)
    room.delete("ConfigMap", "settings", {"preconditions": {"uid": uid(made)}})
    assert not room.exists("ConfigMap", "settings")


def test_delete_of_another_version_is_a_conflict(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    stale = version_of(room.create(config_map()))
    room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    with refused(409, "Conflict"):
        room.delete("ConfigMap", "settings", {"preconditions": {"resourceVersion": stale}})
    assert room.exists("ConfigMap", "settings")


def test_collection_is_deleted_by_selector(room: Room) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#collections"""
    for name in ("a", "b"):
        room.create(config_map(name, labels={"go": "yes"}))
    room.create(config_map("c"))
    room.cluster.call("DELETE", room.path("ConfigMap"), labelSelector="go=yes")
    room.wait_gone("ConfigMap", "a")
    room.wait_gone("ConfigMap", "b")
    assert room.exists("ConfigMap", "c")


def test_finalizer_holds_the_object(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/"""
    room.create(config_map(finalizers=[HOLD]))
    room.delete("ConfigMap", "settings")
    held = room.read("ConfigMap", "settings")
    assert is_leaving(held)
    changed = room.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    assert changed["data"] == {"a": "2"}
    let_go(room, "settings")
    assert not room.exists("ConfigMap", "settings")


def test_second_delete_of_a_held_object_changes_nothing(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    room.create(config_map(finalizers=[HOLD]))
    room.delete("ConfigMap", "settings")
    first = room.read("ConfigMap", "settings")
    room.delete("ConfigMap", "settings")
    again = room.read("ConfigMap", "settings")
    assert again["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"]
    let_go(room, "settings")


def test_no_finalizer_is_added_to_what_is_leaving(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    room.create(config_map(finalizers=[HOLD]))
    room.delete("ConfigMap", "settings")
    with refused(422, "Invalid") as refusal:
        more = {"metadata": {"finalizers": [HOLD, "contract.example/more"]}}
        room.merge("ConfigMap", "settings", more)
    assert refusal.causes == {"metadata.finalizers": "FieldValueForbidden"}
    let_go(room, "settings")


def test_deletion_timestamp_cannot_be_taken_back(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    room.create(config_map(finalizers=[HOLD]))
    room.delete("ConfigMap", "settings")
    kept = room.merge("ConfigMap", "settings", {"metadata": {"deletionTimestamp": None}})
    assert is_leaving(kept)
    let_go(room, "settings")


def test_watch_tells_the_delete_as_a_change_first(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/#how-finalizers-work"""
    since = version_of(room.create(config_map(finalizers=[HOLD])))
    room.delete("ConfigMap", "settings")
    let_go(room, "settings")
    only = {"fieldSelector": "metadata.name=settings", "resourceVersion": since}
    with room.watch("ConfigMap", **only) as watch:
        seen = watch.until(lambda kind, _: kind == "DELETED")
    assert seen[0][0] == "MODIFIED"
    assert is_leaving(seen[0][1])


def test_dependents_go_with_their_owner(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#background-deletion"""
    owner = room.create(config_map("owner"))
    room.create(owned_by(owner, "child"))
    room.delete("ConfigMap", "owner", {"propagationPolicy": "Background"})
    assert not room.exists("ConfigMap", "owner")
    room.wait_gone("ConfigMap", "child")


def test_dependents_of_dependents_go_too(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion"""
    owner = room.create(config_map("owner"))
    child = room.create(owned_by(owner, "child"))
    room.create(owned_by(child, "grandchild"))
    room.delete("ConfigMap", "owner", {"propagationPolicy": "Background"})
    room.wait_gone("ConfigMap", "grandchild")
    room.wait_gone("ConfigMap", "child")


def test_orphans_stay_and_lose_their_owner(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#orphaned-dependents"""
    owner = room.create(config_map("owner"))
    room.create(owned_by(owner, "child"))
    room.delete("ConfigMap", "owner", {"propagationPolicy": "Orphan"})
    room.wait_gone("ConfigMap", "owner")
    room.wait("ConfigMap", "child", lambda c: not owners(c), what="no owner")


def test_foreground_deletion_waits_for_dependents(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion"""
    owner = room.create(config_map("owner"))
    room.create(owned_by(owner, "child", finalizers=[HOLD]))
    room.delete("ConfigMap", "owner", {"propagationPolicy": "Foreground"})
    waiting = room.read("ConfigMap", "owner")
    assert is_leaving(waiting)
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    room.wait("ConfigMap", "child", is_leaving)
    assert room.exists("ConfigMap", "owner")
    let_go(room, "child")
    room.wait_gone("ConfigMap", "child")
    room.wait_gone("ConfigMap", "owner")


def test_object_with_another_owner_stays(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents"""
    one, two = room.create(config_map("one")), room.create(config_map("two"))
    room.create(owned_by(one, "child", two))
    room.delete("ConfigMap", "one", {"propagationPolicy": "Background"})
    left = room.wait("ConfigMap", "child", lambda c: len(owners(c)) == 1)
    assert owners(left) == [uid(two)]


def test_object_whose_owner_is_not_there_is_collected(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents"""
    gone = {"metadata": {"name": "gone", "uid": "00000000-0000-4000-8000-000000000001"}}
    room.create(owned_by(gone, "child"))
    room.wait_gone("ConfigMap", "child")


def test_owner_reference_is_by_uid_not_by_name(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/"""
    first = room.create(config_map("owner"))
    room.delete("ConfigMap", "owner")
    room.create(config_map("owner"))
    room.create(owned_by(first, "child"))
    room.wait_gone("ConfigMap", "child")
    assert room.exists("ConfigMap", "owner")


def test_unknown_propagation_policy_is_refused(room: Room) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""
    room.create(config_map())
    with refused(422, "Invalid"):
        room.delete("ConfigMap", "settings", {"propagationPolicy": "Sideways"})


@pytest.mark.parametrize("how", ["Background", "Foreground"])
def test_deployment_takes_its_replica_sets_and_pods_along(room: Room, how: str) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/use-cascading-deletion/"""
    room.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    room.wait_items("Pod", lambda pods: len(pods) == 1)
    room.delete("Deployment", "web", {"propagationPolicy": how})
    room.wait_gone("Deployment", "web")
    room.wait_items("ReplicaSet", lambda sets: not sets)
    room.wait_items("Pod", lambda pods: not pods)


def test_orphaned_replica_set_keeps_its_pods(room: Room) -> None:
    """https://kubernetes.io/docs/tasks/administer-cluster/use-cascading-deletion/#set-orphan-deletion-policy"""
    room.create(deployment(template={"nodeSelector": {"contract.example/none": "yes"}}))
    (pod,) = room.wait_items("Pod", lambda pods: len(pods) == 1)
    room.delete("Deployment", "web", {"propagationPolicy": "Orphan"})
    room.wait_gone("Deployment", "web")
    room.wait_items("ReplicaSet", lambda sets: len(sets) == 1 and not owners(sets[0]))
    assert uid(room.read("Pod", name_of(pod))) == uid(pod)


def test_deployment_adopts_the_replica_set_that_was_orphaned(room: Room) -> None:
    """https://kubernetes.io/docs/concepts/architecture/garbage-collection/#orphaned-dependents"""
    first = room.create(deployment(replicas=0))
    (old,) = room.wait_items("ReplicaSet", lambda sets: len(sets) == 1)
    room.delete("Deployment", "web", {"propagationPolicy": "Orphan"})
    room.wait_gone("Deployment", "web")
    second = room.create(deployment(replicas=0))
    room.wait("ReplicaSet", name_of(old), lambda r: owners(r) == [uid(second)])
    assert uid(second) != uid(first)
    assert len(room.items("ReplicaSet")) == 1
