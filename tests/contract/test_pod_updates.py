"""What may change in a pod that is there: its images and little else. JSON Patches that test first."""

from __future__ import annotations

import pytest

from tests.contract.cluster import Namespace, Object, refused, uid
from tests.contract.objects import IMAGE, container, deployment, pod

FORBIDDEN, INVALID, REQUIRED = "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"
NOWHERE = {"nodeSelector": {"contract.example/none": "yes"}}  # a pod that no node runs
MAIN = "/spec/containers/0"


def put(path: str, value: object) -> Object:
    return {"op": "replace", "path": path, "value": value}


def expect(path: str, value: object) -> Object:
    return {"op": "test", "path": path, "value": value}


# -- pods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": f"{MAIN}/env", "value": [{"name": "A", "value": "1"}]},
        {"op": "replace", "path": f"{MAIN}/imagePullPolicy", "value": "Always"},
        {"op": "replace", "path": f"{MAIN}/command", "value": ["true"]},
        {"op": "replace", "path": "/spec/terminationGracePeriodSeconds", "value": 5},
        {"op": "add", "path": "/spec/hostname", "value": "other"},
        {"op": "add", "path": "/spec/volumes", "value": [{"name": "v", "emptyDir": {}}]},
    ],
)
def test_other_fields_of_a_pod_stay(ns: Namespace, operation: Object) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    made = ns.create(pod(**NOWHERE))
    with refused(422, "Invalid") as refusal:
        ns.json_patch("Pod", "one", [operation])
    assert refusal.causes == {"spec": FORBIDDEN}
    assert "pod updates may not change fields other than `spec.containers[*].image`" in refusal.message
    assert ns.read("Pod", "one")["spec"] == made["spec"]


def test_images_of_all_containers_may_change_at_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    ns.create(
        pod(container(), container(name="side"), initContainers=[container("true", name="first")], **NOWHERE)
    )
    paths = (f"{MAIN}/image", "/spec/containers/1/image", "/spec/initContainers/0/image")
    changed = ns.json_patch("Pod", "one", [put(path, f"other:{at}") for at, path in enumerate(paths)])
    spec = changed["spec"]
    assert [c["image"] for c in spec["containers"] + spec["initContainers"]] == [
        "other:0",
        "other:1",
        "other:2",
    ]
    assert changed["metadata"]["generation"] == 2


def test_replaced_pod_may_have_another_image_only(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    made = ns.create(pod(**NOWHERE))
    del made["metadata"]["resourceVersion"]  # the scheduler writes too
    made["spec"]["containers"][0]["image"] = "other:1"
    made = ns.replace(made)
    del made["metadata"]["resourceVersion"]
    assert made["spec"]["containers"][0]["image"] == "other:1"
    made["spec"]["containers"][0]["args"] = ["x"]
    with refused(422, "Invalid") as refusal:
        ns.replace(made)
    assert refusal.causes == {"spec": FORBIDDEN}


@pytest.mark.parametrize(("image", "reason"), [("", REQUIRED), (" other:1", INVALID)])
def test_new_image_must_be_one(ns: Namespace, image: str, reason: str) -> None:
    """https://kubernetes.io/docs/concepts/containers/images/#image-names"""
    ns.create(pod(**NOWHERE))
    with refused(422, "Invalid") as refusal:
        ns.json_patch("Pod", "one", [put(f"{MAIN}/image", image)])
    assert refusal.causes["spec.containers[0].image"] == reason


def test_containers_are_neither_added_nor_removed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    ns.create(pod(**NOWHERE))
    with refused(422, "Invalid") as refusal:
        ns.json_patch(
            "Pod", "one", [{"op": "add", "path": "/spec/containers/-", "value": container(name="two")}]
        )
    assert refusal.causes == {"spec.containers": FORBIDDEN}
    assert "pod updates may not add or remove containers" in refusal.message


def test_deadline_of_a_pod_may_come_nearer_but_not_move_away(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#lifecycle"""
    ns.create(pod(**NOWHERE))
    for seconds in (600, 300):
        ns.merge("Pod", "one", {"spec": {"activeDeadlineSeconds": seconds}})
    for wrong in (301, None):
        with refused(422, "Invalid") as refusal:
            ns.merge("Pod", "one", {"spec": {"activeDeadlineSeconds": wrong}})
        assert refusal.causes["spec.activeDeadlineSeconds"] == INVALID


def test_tolerations_of_a_pod_are_only_added(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement"""
    made = ns.create(pod(**NOWHERE))
    known = made["spec"].get("tolerations", [])
    added = [*known, {"key": "contract.example/taint", "operator": "Exists"}]
    changed = ns.merge("Pod", "one", {"spec": {"tolerations": added}})
    assert changed["spec"]["tolerations"] == added
    with refused(422, "Invalid") as refusal:
        ns.merge("Pod", "one", {"spec": {"tolerations": known}})
    assert refusal.causes["spec.tolerations"] == FORBIDDEN


# -- a patch that tests ------------------------------------------------------------------------


def test_image_changes_only_where_uid_and_image_are_as_expected(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    made = ns.create(pod(**NOWHERE))
    right = [expect("/metadata/uid", uid(made)), expect(f"{MAIN}/image", IMAGE)]
    for wrong in (
        [expect("/metadata/uid", "00000000-0000-0000-0000-000000000000"), right[1]],
        [right[0], expect(f"{MAIN}/image", "other:0")],
        [*right, expect("/spec/containers/1/image", IMAGE)],
    ):
        with refused(422, "Invalid"):
            ns.json_patch("Pod", "one", [*wrong, put(f"{MAIN}/image", "other:1")])
    assert ns.read("Pod", "one")["spec"] == made["spec"]
    changed = ns.json_patch("Pod", "one", [*right, put(f"{MAIN}/image", "other:1")])
    assert changed["spec"]["containers"][0]["image"] == "other:1"


def test_null_is_expected_of_a_field_that_is_not_there(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(deployment(replicas=0))
    label = {"op": "add", "path": "/metadata/labels", "value": {"seen": "1"}}
    ns.json_patch("Deployment", "web", [expect("/spec/paused", None), label])
    for wrong in (
        expect("/spec/paused", False),
        expect("/spec/none/paused", None),
        expect("/spec/replicas", None),
    ):
        with refused(422, "Invalid"):
            ns.json_patch("Deployment", "web", [wrong, label])
    ns.merge("Deployment", "web", {"spec": {"paused": True}})
    for wrong in (expect("/spec/paused", None), expect("/spec/paused", False)):
        with refused(422, "Invalid"):
            ns.json_patch("Deployment", "web", [wrong, label])
    ns.json_patch("Deployment", "web", [expect("/spec/paused", True), label])


def test_deployment_that_is_not_paused_does_not_show_it(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec"""
    made = ns.create(deployment(replicas=0, paused=False))
    assert "paused" not in made["spec"]
    ns.merge("Deployment", "web", {"spec": {"paused": True}})
    resumed = ns.merge("Deployment", "web", {"spec": {"paused": False}})
    assert "paused" not in resumed["spec"]
    ns.json_patch("Deployment", "web", [expect("/spec/paused", None), put("/spec/replicas", 0)])


def test_number_is_expected_by_its_value_and_not_as_a_truth(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(deployment(replicas=0, minReadySeconds=1))
    with refused(422, "Invalid"):
        ns.json_patch("Deployment", "web", [expect("/spec/minReadySeconds", True), put("/spec/replicas", 0)])
    ns.json_patch("Deployment", "web", [expect("/spec/minReadySeconds", 1), put("/spec/replicas", 0)])
