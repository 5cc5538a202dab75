"""One object through its life: the verbs, what the server adds, and how it refuses."""

from __future__ import annotations

import re

import yaml

from tests.contract.cluster import Namespace, name_of, refused, uid, version_of, warnings_of
from tests.contract.objects import config_map, deployment, pod


def test_create_answers_with_what_the_server_added(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/"""
    answer = ns.cluster.call("POST", ns.path("ConfigMap"), config_map())
    made = answer.json()
    assert answer.status_code == 201
    assert made["data"] == {"a": "1"}
    assert made["metadata"]["namespace"] == ns.name
    assert uid(made)
    assert version_of(made)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["metadata"]["creationTimestamp"])


def test_read_gives_what_create_gave(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs"""
    assert ns.create(config_map()) == ns.read("ConfigMap", "settings")


def test_yaml_is_taken_like_json(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#yaml-encoding"""
    body = yaml.safe_dump(config_map(data={"colour": "red"}))
    ns.cluster.call("POST", ns.path("ConfigMap"), body, content_type="application/yaml")
    assert ns.read("ConfigMap", "settings")["data"] == {"colour": "red"}


def test_missing_object_is_not_found(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    with refused(404, "NotFound") as refusal:
        ns.read("ConfigMap", "nowhere")
    assert refusal.message == 'configmaps "nowhere" not found'
    assert refusal.error.details["name"] == "nowhere"
    assert refusal.error.details["kind"] == "configmaps"


def test_missing_object_of_a_group_names_the_group(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    with refused(404, "NotFound") as refusal:
        ns.read("Deployment", "nowhere")
    assert refusal.message == 'deployments.apps "nowhere" not found'
    assert refusal.error.details["group"] == "apps"


def test_second_create_of_a_name_already_exists(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""
    ns.create(config_map())
    with refused(409, "AlreadyExists") as refusal:
        ns.create(config_map())
    assert refusal.message == 'configmaps "settings" already exists'


def test_one_name_in_two_kinds_is_two_objects(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""
    one = ns.create(config_map("same"))
    other = ns.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "same"}, "data": {}})
    assert uid(one) != uid(other)


def test_replace_with_the_version_read_is_taken(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    made = ns.create(config_map())
    replaced = ns.replace({**made, "data": {"b": "2"}})
    assert replaced["data"] == {"b": "2"}
    assert uid(replaced) == uid(made)
    assert version_of(replaced) != version_of(made)


def test_replace_with_a_stale_version_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    stale = ns.create(config_map())
    ns.replace({**stale, "data": {"a": "2"}})
    with refused(409, "Conflict") as refusal:
        ns.replace({**stale, "data": {"a": "3"}})
    assert "the object has been modified" in refusal.message
    assert ns.read("ConfigMap", "settings")["data"] == {"a": "2"}


def test_replace_with_another_uid_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#uids"""
    made = ns.create(config_map())
    other = {**made["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}
    with refused(409, "Conflict"):
        ns.replace({**made, "metadata": other})


def test_replace_of_a_missing_object_is_not_found(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs"""
    with refused(404, "NotFound"):
        ns.replace(config_map("nowhere"))


def test_body_must_name_the_object_of_the_url(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    ns.create(config_map("one"))
    with refused(400, "BadRequest") as refusal:
        ns.cluster.call("PUT", ns.path("ConfigMap", "one"), config_map("other"))
    assert "does not match the name on the URL" in refusal.message


def test_body_must_be_of_the_namespace_of_the_url(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(400, "BadRequest") as refusal:
        ns.create(config_map(namespace="default"))
    assert "does not match the namespace" in refusal.message


def test_body_must_be_of_the_kind_of_the_url(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    with refused(400, "BadRequest"):
        ns.cluster.call("POST", ns.path("ConfigMap"), pod())


def test_body_must_be_of_a_known_version(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/deprecation-guide/#deployment-v116"""
    old = {**deployment(replicas=0), "apiVersion": "extensions/v1beta1"}
    with refused(400, "BadRequest"):
        ns.create(old)


def test_broken_json_is_a_bad_request(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/"""
    with refused(400, "BadRequest"):
        ns.cluster.call("POST", ns.path("ConfigMap"), '{"kind": "ConfigMap", ')


def test_value_of_a_wrong_type_is_a_bad_request(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/"""
    with refused(400, "BadRequest"):
        ns.create(config_map(data={"a": 1}))


def test_unknown_content_type_is_unsupported(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources"""
    with refused(415, "UnsupportedMediaType"):
        ns.cluster.call("POST", ns.path("ConfigMap"), "a: 1", content_type="text/csv")


def test_verb_that_a_resource_lacks_is_not_allowed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs"""
    with refused(405, "MethodNotAllowed"):
        ns.cluster.call("PUT", ns.path("ConfigMap"), config_map())


def test_generate_name_makes_names_of_its_own(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values"""
    wish = {**config_map(), "metadata": {"generateName": "run-"}}
    names = {name_of(ns.create(wish)) for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"run-[a-z0-9]{5}", name) for name in names)


def test_write_that_changes_nothing_keeps_the_version(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    made = ns.create(config_map())
    assert version_of(ns.merge("ConfigMap", "settings", {"data": {"a": "1"}})) == version_of(made)


def test_generation_counts_changes_of_the_spec(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/"""
    made = ns.create(deployment(replicas=0))
    assert made["metadata"]["generation"] == 1
    labelled = ns.merge("Deployment", "web", {"metadata": {"labels": {"tier": "front"}}})
    assert labelled["metadata"]["generation"] == 1
    changed = ns.merge("Deployment", "web", {"spec": {"minReadySeconds": 1}})
    assert changed["metadata"]["generation"] == 2


def test_client_cannot_set_generation(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/"""
    wish = deployment(replicas=0)
    wish["metadata"]["generation"] = 7
    assert ns.create(wish)["metadata"]["generation"] == 1


def test_controller_shows_the_generation_it_saw(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status"""
    ns.create(deployment(replicas=0))
    changed = ns.merge("Deployment", "web", {"spec": {"minReadySeconds": 1}})
    generation = changed["metadata"]["generation"]
    ns.wait("Deployment", "web", lambda d: d["status"].get("observedGeneration") == generation)


def test_dry_run_create_is_answered_and_not_kept(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    made = ns.create(config_map(), dryRun="All")
    assert uid(made)
    assert not ns.exists("ConfigMap", "settings")


def test_dry_run_still_refuses_what_is_invalid(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    with refused(422, "Invalid"):
        ns.create(config_map("Not_A_Name"), dryRun="All")


def test_dry_run_patch_and_delete_change_nothing(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    made = ns.create(config_map())
    patched = ns.merge("ConfigMap", "settings", {"data": {"a": "2"}}, dryRun="All")
    ns.delete("ConfigMap", "settings", dryRun="All")
    assert patched["data"] == {"a": "2"}
    assert ns.read("ConfigMap", "settings") == made


def test_unknown_dry_run_directive_is_refused(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    with refused(422, "Invalid"):
        ns.create(config_map(), dryRun="Some")


def test_unknown_field_is_a_warning_by_default(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level"""
    wish = {**config_map(), "dada": {"a": "1"}}
    answer = ns.cluster.call("POST", ns.path("ConfigMap"), wish)
    assert "dada" not in answer.json()
    assert any("unknown field" in w and "dada" in w for w in warnings_of(answer))


def test_unknown_field_is_refused_when_strict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level"""
    with refused(400, "BadRequest") as refusal:
        ns.create({**config_map(), "dada": {"a": "1"}}, fieldValidation="Strict")
    assert 'unknown field "dada"' in refusal.message
    assert not ns.exists("ConfigMap", "settings")


def test_unknown_field_deep_in_a_template_is_named_by_its_path(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level"""
    with refused(400, "BadRequest") as refusal:
        ns.create(deployment(replicas=0, template={"hostNetwerk": True}), fieldValidation="Strict")
    assert 'unknown field "spec.template.spec.hostNetwerk"' in refusal.message


def test_unknown_field_is_dropped_silently_when_ignored(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level"""
    wish = {**config_map(), "dada": {"a": "1"}}
    path = ns.path("ConfigMap")
    answer = ns.cluster.call("POST", path, wish, fieldValidation="Ignore")
    assert not warnings_of(answer)
    assert "dada" not in answer.json()


def test_doubled_field_is_refused_when_strict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#validation-for-unrecognized-or-duplicate-fields"""
    body = '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"1","x":"2"}}'
    with refused(400, "BadRequest") as refusal:
        ns.cluster.call("POST", ns.path("ConfigMap"), body, fieldValidation="Strict")
    assert 'duplicate field "data.x"' in refusal.message


def test_unknown_field_of_a_strict_patch_is_refused(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level"""
    ns.create(config_map())
    with refused(422, "Invalid"):
        ns.merge("ConfigMap", "settings", {"dada": {"a": "1"}}, fieldValidation="Strict")
