"""JSON Patch, merge patch and strategic merge patch."""

from __future__ import annotations

import pytest

from tests.contract.cluster import (
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Namespace,
    Object,
    Refused,
    refused,
    version_of,
)
from tests.contract.objects import config_map, container, deployment, service

JSON_PATCHES = "/spec/template/spec/containers"


def containers(thing: Object) -> dict[str, Object]:
    return {c["name"]: c for c in thing["spec"]["template"]["spec"]["containers"]}


def of_containers(*patches: Object) -> Object:
    return {"spec": {"template": {"spec": {"containers": list(patches)}}}}


def two_containers(**fields: object) -> Object:
    """A Deployment that runs nothing, of the containers `main` and `side`."""
    return deployment(container(**fields), container(name="side"), replicas=0)


# -- JSON Patch --------------------------------------------------------------------------------


def test_json_patch_replaces_adds_and_removes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(config_map(data={"a": "1", "b": "2"}))
    patched = ns.json_patch(
        "ConfigMap",
        "settings",
        [
            {"op": "replace", "path": "/data/a", "value": "9"},
            {"op": "add", "path": "/data/c", "value": "3"},
            {"op": "remove", "path": "/data/b"},
        ],
    )
    assert patched["data"] == {"a": "9", "c": "3"}


def test_json_patch_moves_and_copies(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(config_map(data={"a": "1", "b": "2"}))
    patched = ns.json_patch(
        "ConfigMap",
        "settings",
        [
            {"op": "move", "from": "/data/a", "path": "/data/c"},
            {"op": "copy", "from": "/data/b", "path": "/data/d"},
        ],
    )
    assert patched["data"] == {"b": "2", "c": "1", "d": "2"}


def test_json_patch_escapes_slash_and_tilde(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(config_map(annotations={"example.com/a": "1"}))
    path = "/metadata/annotations/example.com~1a"
    patched = ns.json_patch("ConfigMap", "settings", [{"op": "replace", "path": path, "value": "2"}])
    assert patched["metadata"]["annotations"]["example.com/a"] == "2"


def test_json_patch_appends_and_inserts_into_a_list(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(two_containers(env=[{"name": "B", "value": "2"}]))
    env = f"{JSON_PATCHES}/0/env"
    patched = ns.json_patch(
        "Deployment",
        "web",
        [
            {"op": "add", "path": f"{env}/-", "value": {"name": "C", "value": "3"}},
            {"op": "add", "path": f"{env}/0", "value": {"name": "A", "value": "1"}},
        ],
    )
    assert [e["name"] for e in containers(patched)["main"]["env"]] == ["A", "B", "C"]


def test_json_patch_tests_before_it_writes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    made = ns.create(config_map())
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": made["metadata"]["uid"]},
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
    ]
    assert ns.json_patch("ConfigMap", "settings", operations)["data"] == {"a": "2"}


def test_json_patch_whose_test_fails_changes_nothing(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    made = ns.create(config_map())
    with refused(422, "Invalid"):
        ns.json_patch(
            "ConfigMap",
            "settings",
            [
                {"op": "replace", "path": "/data/a", "value": "2"},
                {"op": "test", "path": "/data/a", "value": "1"},
            ],
        )
    assert ns.read("ConfigMap", "settings") == made


def test_json_patch_of_a_missing_path_is_invalid(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(config_map())
    with refused(422, "Invalid"):
        ns.json_patch("ConfigMap", "settings", [{"op": "remove", "path": "/data/none"}])


def test_json_patch_must_be_a_list(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(config_map())
    with refused(400, "BadRequest"):
        ns.patch(JSON_PATCH, "ConfigMap", "settings", {"data": {"a": "2"}})


def test_json_patch_may_change_two_containers_at_once(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-patch"""
    ns.create(two_containers())
    patched = ns.json_patch(
        "Deployment",
        "web",
        [
            {"op": "test", "path": f"{JSON_PATCHES}/0/name", "value": "main"},
            {"op": "replace", "path": f"{JSON_PATCHES}/0/image", "value": "a:2"},
            {"op": "test", "path": f"{JSON_PATCHES}/1/name", "value": "side"},
            {"op": "replace", "path": f"{JSON_PATCHES}/1/image", "value": "b:2"},
        ],
    )
    assert {n: c["image"] for n, c in containers(patched).items()} == {"main": "a:2", "side": "b:2"}
    assert patched["metadata"]["generation"] == 2


# -- all kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [MERGE_PATCH, STRATEGIC_PATCH])
def test_patch_of_a_missing_object_is_not_found(ns: Namespace, content_type: str) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply"""
    with refused(404, "NotFound"):
        ns.patch(content_type, "ConfigMap", "nowhere", {"data": {"a": "1"}})


def test_patch_of_another_content_type_is_unsupported(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply"""
    ns.create(config_map())
    with refused(415, "UnsupportedMediaType"):
        ns.patch(JSON, "ConfigMap", "settings", {"data": {"a": "2"}})


def test_patched_object_is_validated(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply"""
    ns.create(deployment(replicas=0))
    with refused(422, "Invalid") as refusal:
        ns.merge("Deployment", "web", {"spec": {"replicas": -1}})
    assert refusal.causes == {"spec.replicas": "FieldValueInvalid"}


def test_patch_with_a_stale_version_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply"""
    made = ns.create(config_map())
    ns.merge("ConfigMap", "settings", {"data": {"a": "2"}})
    stale = {"metadata": {"resourceVersion": version_of(made)}, "data": {"a": "3"}}
    with refused(409, "Conflict"):
        ns.merge("ConfigMap", "settings", stale)


def test_patch_cannot_rename(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""
    ns.create(config_map())
    with refused(400, "BadRequest"):
        ns.merge("ConfigMap", "settings", {"metadata": {"name": "other"}})


# -- merge patch -------------------------------------------------------------------------------


def test_merge_patch_merges_maps_and_null_deletes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-merge-patch-to-update-a-deployment"""
    ns.create(config_map(data={"a": "1", "b": "2"}))
    patched = ns.merge("ConfigMap", "settings", {"data": {"a": None, "c": "3"}})
    assert patched["data"] == {"b": "2", "c": "3"}


def test_merge_patch_replaces_a_list(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-json-merge-patch-to-update-a-deployment"""
    ns.create(two_containers())
    patched = ns.merge("Deployment", "web", of_containers(container(name="only")))
    assert set(containers(patched)) == {"only"}


def test_null_brings_a_default_back(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#default-field-values"""
    ns.create(deployment(replicas=0, revisionHistoryLimit=3))
    patched = ns.merge("Deployment", "web", {"spec": {"revisionHistoryLimit": None}})
    assert patched["spec"]["revisionHistoryLimit"] == 10


# -- strategic merge patch ---------------------------------------------------------------------


def test_strategic_patch_merges_containers_by_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#notes-on-the-strategic-merge-patch"""
    ns.create(two_containers(env=[{"name": "A", "value": "1"}]))
    patched = ns.strategic("Deployment", "web", of_containers({"name": "main", "image": "other:2"}))
    found = containers(patched)
    assert set(found) == {"main", "side"}
    assert found["main"]["image"] == "other:2"
    assert found["main"]["env"] == [{"name": "A", "value": "1"}]


def test_strategic_patch_with_an_unknown_container_adds_one(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-a-strategic-merge-patch-to-update-a-deployment"""
    ns.create(two_containers())
    patched = ns.strategic("Deployment", "web", of_containers({"name": "third", "image": "new:1"}))
    assert set(containers(patched)) == {"main", "side", "third"}


def test_strategic_patch_without_the_merge_key_is_refused(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#notes-on-the-strategic-merge-patch"""
    ns.create(two_containers())
    with pytest.raises(Refused, match="merge key: name"):
        ns.strategic("Deployment", "web", of_containers({"image": "new:1"}))


def test_strategic_patch_merges_variables_by_name(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#notes-on-the-strategic-merge-patch"""
    ns.create(two_containers(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]))
    change = {"name": "main", "env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}]}
    patched = ns.strategic("Deployment", "web", of_containers(change))
    env = {e["name"]: e["value"] for e in containers(patched)["main"]["env"]}
    assert env == {"A": "9", "B": "2", "C": "3"}


def test_strategic_patch_merges_service_ports_by_port(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/#ServiceSpec"""
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    ns.create(service(ports=ports))
    patched = ns.strategic("Service", "web", {"spec": {"ports": [{"port": 81, "targetPort": 8181}]}})
    found = {p["port"]: (p["name"], p["targetPort"]) for p in patched["spec"]["ports"]}
    assert found == {80: ("a", 80), 81: ("b", 8181)}


def test_strategic_patch_replaces_a_list_without_a_merge_key(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#notes-on-the-strategic-merge-patch"""
    ns.create(two_containers(args=["a", "b"]))
    patched = ns.strategic("Deployment", "web", of_containers({"name": "main", "args": ["c"]}))
    assert containers(patched)["main"]["args"] == ["c"]


def test_strategic_patch_deletes_a_list_entry_by_directive(ns: Namespace) -> None:
    """https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md"""
    ns.create(two_containers())
    patched = ns.strategic("Deployment", "web", of_containers({"name": "side", "$patch": "delete"}))
    assert set(containers(patched)) == {"main"}


def test_strategic_patch_replaces_a_list_by_directive(ns: Namespace) -> None:
    """https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md"""
    ns.create(two_containers())
    only = {"name": "only", "image": "a:1"}
    patched = ns.strategic("Deployment", "web", of_containers({"$patch": "replace"}, only))
    assert set(containers(patched)) == {"only"}


def test_strategic_patch_replaces_a_map_by_directive(ns: Namespace) -> None:
    """https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md"""
    ns.create(config_map(data={"a": "1", "b": "2"}))
    patched = ns.strategic("ConfigMap", "settings", {"data": {"$patch": "replace", "c": "3"}})
    assert patched["data"] == {"c": "3"}


def test_strategic_patch_null_deletes_a_key(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/"""
    ns.create(config_map(labels={"a": "1", "b": "2"}))
    patched = ns.strategic("ConfigMap", "settings", {"metadata": {"labels": {"a": None}}})
    assert patched["metadata"]["labels"] == {"b": "2"}


def test_strategic_patch_to_recreate_needs_retain_keys(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#use-strategic-merge-patch-to-update-a-deployment-using-the-retainkeys-strategy"""
    ns.create(deployment(replicas=0))
    with refused(422, "Invalid"):
        ns.strategic("Deployment", "web", {"spec": {"strategy": {"type": "Recreate"}}})
    retained = {"$retainKeys": ["type"], "type": "Recreate"}
    patched = ns.strategic("Deployment", "web", {"spec": {"strategy": retained}})
    assert patched["spec"]["strategy"] == {"type": "Recreate"}


def test_strategic_patch_puts_a_list_in_order(ns: Namespace) -> None:
    """https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md"""
    ns.create(two_containers())
    patch = of_containers({"name": "main", "image": "a:2"})
    patch["spec"]["template"]["spec"]["$setElementOrder/containers"] = [
        {"name": "side"},
        {"name": "main"},
    ]
    patched = ns.strategic("Deployment", "web", patch)
    assert list(containers(patched)) == ["side", "main"]
    assert containers(patched)["main"]["image"] == "a:2"


def test_strategic_patch_deletes_from_a_list_of_plain_values(ns: Namespace) -> None:
    """https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md"""
    held = ["contract.example/a", "contract.example/b"]
    ns.create(config_map(finalizers=held))
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["contract.example/a"]}}
    patched = ns.strategic("ConfigMap", "settings", patch)
    assert patched["metadata"]["finalizers"] == ["contract.example/b"]
    ns.merge("ConfigMap", "settings", {"metadata": {"finalizers": None}})
