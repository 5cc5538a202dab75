"""Server-side apply: who owns which field, and what happens when two want it."""

from __future__ import annotations

import re

import pytest

from tests.contract.cluster import APPLY_PATCH, Namespace, Object, refused, uid, version_of
from tests.contract.objects import config_map, container, deployment


def entry(thing: Object, manager: str, operation: str = "Apply") -> Object:
    """What that manager owns, {} if nothing."""
    found = [
        e
        for e in thing["metadata"].get("managedFields", [])
        if (e["manager"], e["operation"]) == (manager, operation) and "subresource" not in e
    ]
    return found[0] if found else {}


def owned_data(thing: Object, manager: str, operation: str = "Apply") -> set[str]:
    """The keys of `data` which that manager owns."""
    fields = entry(thing, manager, operation).get("fieldsV1", {}).get("f:data", {})
    return {key.removeprefix("f:") for key in fields if key != "."}


def wish(**data: str) -> Object:
    return config_map(data=dict(data))


def running_nothing(**fields: object) -> Object:
    return deployment(container(**fields), replicas=0)


def test_apply_creates(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#api-implementation"""
    path = ns.path("ConfigMap", "settings")
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  a: '1'\n"
    answer = ns.cluster.call("PATCH", path, body, content_type=APPLY_PATCH, fieldManager="one")
    assert answer.status_code == 201
    assert answer.json()["data"] == {"a": "1"}
    again = ns.cluster.call("PATCH", path, body, content_type=APPLY_PATCH, fieldManager="one")
    assert again.status_code == 200


def test_apply_needs_a_field_manager(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers"""
    with refused(422, "Invalid") as refusal:
        ns.patch(APPLY_PATCH, "ConfigMap", "settings", wish(a="1"))
    assert "fieldManager" in refusal.causes


def test_applied_fields_belong_to_their_manager(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    made = ns.apply(config_map(data={"a": "1"}, labels={"tier": "front"}), "one")
    owned = entry(made, "one")
    assert owned["apiVersion"] == "v1"
    assert owned["fieldsType"] == "FieldsV1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", owned["time"])
    assert "f:a" in owned["fieldsV1"]["f:data"]
    assert "f:tier" in owned["fieldsV1"]["f:metadata"]["f:labels"]


def test_applying_the_same_again_changes_nothing(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/"""
    made = ns.apply(running_nothing(env=[{"name": "A", "value": "1"}]), "one")
    # The controller writes the status meanwhile; generation counts only what a user changes.
    again = ns.apply(running_nothing(env=[{"name": "A", "value": "1"}]), "one")
    assert again["metadata"]["generation"] == made["metadata"]["generation"] == 1
    one = ns.apply(wish(a="1"), "one")
    assert version_of(ns.apply(wish(a="1"), "one")) == version_of(one)


def test_field_of_another_manager_is_a_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(wish(a="1", b="1"), "one")
    with refused(409, "Conflict") as refusal:
        ns.apply(wish(a="2"), "two")
    causes = refusal.error.details["causes"]
    assert [(c["reason"], c["field"]) for c in causes] == [("FieldManagerConflict", ".data.a")]
    assert 'conflict with "one"' in causes[0]["message"]
    assert "Apply failed with 1 conflict" in refusal.message
    assert ns.read("ConfigMap", "settings")["data"] == {"a": "1", "b": "1"}


def test_conflict_names_every_field_and_manager(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(wish(a="1"), "one")
    ns.apply(wish(b="1"), "two")
    with refused(409, "Conflict") as refusal:
        ns.apply(wish(a="9", b="9"), "three")
    found = {c["field"]: c["message"] for c in refusal.error.details["causes"]}
    assert set(found) == {".data.a", ".data.b"}
    assert 'conflict with "one"' in found[".data.a"]
    assert 'conflict with "two"' in found[".data.b"]
    assert "Apply failed with 2 conflicts" in refusal.message


def test_conflict_in_a_list_names_the_entry(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(running_nothing(), "one")
    with refused(409, "Conflict") as refusal:
        ns.apply(running_nothing(image="other:2"), "two")
    fields = [c["field"] for c in refusal.error.details["causes"]]
    assert fields == ['.spec.template.spec.containers[name="main"].image']


def test_force_takes_the_field_over(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(wish(a="1", b="1"), "one")
    forced = ns.apply(wish(a="2"), "two", force=True)
    assert forced["data"] == {"a": "2", "b": "1"}
    assert owned_data(forced, "two") == {"a"}
    assert owned_data(forced, "one") == {"b"}


def test_force_is_only_for_apply(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#force"""
    ns.create(config_map())
    with refused(422, "Invalid"):
        ns.merge("ConfigMap", "settings", {"data": {"a": "2"}}, force=True)


def test_equal_value_is_shared(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#using-server-side-apply-in-a-controller"""
    ns.apply(wish(a="1"), "one")
    shared = ns.apply(wish(a="1"), "two")
    assert owned_data(shared, "one") == owned_data(shared, "two") == {"a"}


def test_shared_field_is_a_conflict_for_both(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(wish(a="1"), "one")
    ns.apply(wish(a="1"), "two")
    with refused(409, "Conflict"):
        ns.apply(wish(a="2"), "one")
    with refused(409, "Conflict"):
        ns.apply(wish(a="2"), "two")


def test_field_that_is_left_out_is_removed(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    ns.apply(wish(a="1", b="1"), "one")
    left = ns.apply(wish(a="1"), "one")
    assert left["data"] == {"a": "1"}
    assert owned_data(left, "one") == {"a"}


def test_shared_field_that_one_leaves_out_stays(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    ns.apply(wish(a="1", b="1"), "one")
    ns.apply(wish(b="1"), "two")
    left = ns.apply(wish(a="1"), "one")
    assert left["data"] == {"a": "1", "b": "1"}
    assert owned_data(left, "one") == {"a"}
    assert owned_data(left, "two") == {"b"}


def test_field_with_a_default_comes_back_when_left_out(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    ns.apply(deployment(replicas=0, revisionHistoryLimit=3), "one")
    left = ns.apply(deployment(replicas=0), "one")
    assert left["spec"]["revisionHistoryLimit"] == 10


def test_update_needs_no_permission_and_takes_the_field(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#comparison-with-client-side-apply"""
    ns.apply(wish(a="1", b="1"), "one")
    patched = ns.merge("ConfigMap", "settings", {"data": {"a": "2"}}, fieldManager="two")
    assert patched["data"]["a"] == "2"
    assert owned_data(patched, "two", "Update") == {"a"}
    assert owned_data(patched, "one") == {"b"}
    with refused(409, "Conflict") as refusal:
        ns.apply(wish(a="1", b="1"), "one")
    assert 'conflict with "two"' in refusal.message


def test_apply_of_the_value_that_another_wrote_passes(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"""
    ns.apply(running_nothing(image="a:1"), "one")
    path = "/spec/template/spec/containers/0/image"
    patch = [{"op": "replace", "path": path, "value": "a:2"}]
    ns.json_patch("Deployment", "web", patch, fieldManager="two")
    applied = ns.apply(running_nothing(image="a:2"), "one")
    assert applied["spec"]["template"]["spec"]["containers"][0]["image"] == "a:2"
    with refused(409, "Conflict"):
        ns.apply(running_nothing(image="a:3"), "one")


def test_manager_is_named_by_the_user_agent_if_it_does_not_say(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers"""
    made = ns.cluster.call(
        "POST", ns.path("ConfigMap"), config_map(), headers={"User-Agent": "some-tool/1.2 (x)"}
    ).json()
    assert owned_data(made, "some-tool", "Update") == {"a"}


def test_apply_and_update_of_one_manager_are_two_entries(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers"""
    ns.apply(wish(a="1"), "one")
    both = ns.merge("ConfigMap", "settings", {"data": {"b": "2"}}, fieldManager="one")
    assert owned_data(both, "one") == {"a"}
    assert owned_data(both, "one", "Update") == {"b"}


def test_container_belongs_to_the_one_who_applied_it(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy"""
    ns.apply(running_nothing(), "one")
    side: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "b:1"}]}}},
    }
    both = ns.apply(side, "two")
    names = [c["name"] for c in both["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["main", "side"]
    owned = entry(both, "two")["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert list(owned) == ['k:{"name":"side"}']
    again = ns.apply(running_nothing(env=[{"name": "A", "value": "1"}]), "one")
    assert len(again["spec"]["template"]["spec"]["containers"]) == 2


def test_variable_that_is_left_out_is_removed_alone(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy"""
    a, b = {"name": "A", "value": "1"}, {"name": "B", "value": "2"}
    ns.apply(running_nothing(env=[a, b]), "one")
    path = "/spec/template/spec/containers/0/env/-"
    patch = [{"op": "add", "path": path, "value": {"name": "C", "value": "3"}}]
    ns.json_patch("Deployment", "web", patch, fieldManager="two")
    left = ns.apply(running_nothing(env=[a]), "one")
    env = left["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env == [a, {"name": "C", "value": "3"}]


def test_list_without_keys_is_one_field(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy"""
    ns.apply(running_nothing(args=["a"]), "one")
    with refused(409, "Conflict") as refusal:
        ns.apply(running_nothing(args=["a", "b"]), "two")
    fields = [c["field"] for c in refusal.error.details["causes"]]
    assert fields == ['.spec.template.spec.containers[name="main"].args']


def test_scaling_by_another_takes_the_replicas(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership"""
    ns.apply(deployment(replicas=0, paused=True), "one")
    scale = {"spec": {"replicas": 1}}
    ns.merge("Deployment", "web", scale, sub="scale", fieldManager="scaler")
    with refused(409, "Conflict") as refusal:
        ns.apply(deployment(replicas=0, paused=True), "one")
    assert [c["field"] for c in refusal.error.details["causes"]] == [".spec.replicas"]
    silent = deployment(paused=True)
    del silent["spec"]["replicas"]
    assert ns.apply(silent, "one")["spec"]["replicas"] == 1


def test_body_must_not_carry_managed_fields(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    made = ns.apply(wish(a="1"), "one")
    copy = {**wish(a="1"), "metadata": {k: made["metadata"][k] for k in ("name", "managedFields")}}
    with refused(400, "BadRequest") as refusal:
        ns.apply(copy, "one")
    assert "managedFields must be nil" in refusal.message


def test_managed_fields_can_be_cleared(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields"""
    ns.apply(wish(a="1"), "one")
    cleared = ns.merge("ConfigMap", "settings", {"metadata": {"managedFields": [{}]}})
    assert not cleared["metadata"].get("managedFields")
    assert owned_data(ns.apply(wish(a="1"), "two"), "two") == {"a"}


def test_created_fields_belong_to_their_sender(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management"""
    made = ns.create(config_map(), fieldManager="honest")
    assert owned_data(made, "honest", "Update") == {"a"}


def test_dry_run_apply_is_answered_and_not_kept(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    made = ns.apply(wish(a="1"), "one")
    tried = ns.apply(wish(a="2"), "one", dryRun="All")
    assert tried["data"] == {"a": "2"}
    assert ns.read("ConfigMap", "settings") == made


def test_dry_run_apply_shows_the_conflict(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run"""
    ns.apply(wish(a="1"), "one")
    with refused(409, "Conflict"):
        ns.apply(wish(a="2"), "two", dryRun="All")


def test_status_is_owned_apart(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/"""
    ns.apply(deployment(replicas=0), "one")

    def status_is_owned(thing: Object) -> bool:
        entries = thing["metadata"]["managedFields"]
        return any(e.get("subresource") == "status" for e in entries)

    seen = ns.wait("Deployment", "web", status_is_owned)
    assert "f:status" not in entry(seen, "one")["fieldsV1"]
    # Applying the spec again is no conflict with the controller that writes the status.
    assert uid(ns.apply(deployment(replicas=0), "one")) == uid(seen)


@pytest.mark.parametrize("manager", ["x" * 129, "line\nbreak"])
def test_field_manager_is_checked(ns: Namespace, manager: str) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#fieldManager"""
    with refused(422, "Invalid"):
        ns.apply(wish(a="1"), manager)
