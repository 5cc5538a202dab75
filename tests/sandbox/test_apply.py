"""Ownership of fields over a sequence of writes, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import BY_PLURAL, Obj, clone
from devloop_sandbox.patching import ownership
from devloop_sandbox.patching.apply import apply

DEPLOYMENTS = BY_PLURAL["deployments"]


def wish(image: str = "a:1", **container: Any) -> Obj:
    main = {"name": "main", "image": image, **container}
    return {"metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [main]}}}}


def owned(obj: Obj, manager: str, operation: str = "Apply") -> set[str]:
    for row in ownership.managers(obj):
        if (row["manager"], row["operation"]) == (manager, operation):
            return {"/".join(path) for path in ownership.decode(row["fieldsV1"])}
    return set()


def main(obj: Obj) -> Obj:
    found: Obj = obj["spec"]["template"]["spec"]["containers"][0]
    return found


def updated(old: Obj, manager: str, **container: Any) -> Obj:
    """`old` after a plain update of its first container."""
    new: Obj = clone(old)
    main(new).update(container)
    ownership.note_update(DEPLOYMENTS, new, old, manager)
    return new


def test_conflict_after_an_update_names_field_and_manager() -> None:
    live = updated(apply(DEPLOYMENTS, None, wish(), "one", force=False), "kubectl-set", image="a:2")
    with pytest.raises(ApiError) as refusal:
        apply(DEPLOYMENTS, live, wish(), "one", force=False)
    assert refusal.value.status == 409
    assert refusal.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-set" using apps/v1: '
        '.spec.template.spec.containers[name="main"].image'
    )
    assert refusal.value.details["causes"][0]["reason"] == "FieldManagerConflict"


def test_several_conflicts_are_listed_by_manager() -> None:
    live = updated(apply(DEPLOYMENTS, None, wish(), "one", force=False), "x", image="a:2", tty=True)
    with pytest.raises(ApiError) as refusal:
        apply(DEPLOYMENTS, live, wish(tty=False), "two", force=False)
    assert refusal.value.message == (
        'Apply failed with 2 conflicts: conflicts with "x" using apps/v1:\n'
        '- .spec.template.spec.containers[name="main"].image\n'
        '- .spec.template.spec.containers[name="main"].tty'
    )


def test_force_takes_the_field_from_the_other() -> None:
    live = updated(apply(DEPLOYMENTS, None, wish(), "one", force=False), "x", image="a:2")
    forced = apply(DEPLOYMENTS, live, wish(), "one", force=True)
    assert main(forced)["image"] == "a:1"
    assert owned(forced, "x", "Update") == set()


def test_dropped_field_goes_with_what_was_defaulted_below_it() -> None:
    probe = {"httpGet": {"port": 80}}
    live = apply(DEPLOYMENTS, None, wish(readinessProbe=probe), "one", force=False)
    main(live)["readinessProbe"]["periodSeconds"] = 10  # as the server fills it in
    assert "readinessProbe" not in main(apply(DEPLOYMENTS, live, wish(), "one", force=False))


def test_dropped_field_stays_while_another_declares_it() -> None:
    live = apply(DEPLOYMENTS, None, wish(tty=True), "one", force=False)
    live = apply(DEPLOYMENTS, live, wish(tty=True), "two", force=False)
    live = apply(DEPLOYMENTS, live, wish(), "one", force=False)
    assert main(live)["tty"] is True
    assert "tty" not in main(apply(DEPLOYMENTS, live, wish(), "two", force=False))


def test_list_item_goes_with_its_last_owner() -> None:
    live = apply(
        DEPLOYMENTS,
        None,
        wish(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]),
        "one",
        force=False,
    )
    live = apply(DEPLOYMENTS, live, wish(env=[{"name": "B", "value": "2"}]), "one", force=False)
    assert main(live)["env"] == [{"name": "B", "value": "2"}]


def test_items_of_others_keep_their_place() -> None:
    live = apply(
        DEPLOYMENTS,
        None,
        wish(env=[{"name": "A", "value": "1"}, {"name": "C", "value": "3"}]),
        "one",
        force=False,
    )
    live = apply(DEPLOYMENTS, live, wish(env=[{"name": "B", "value": "2"}]), "two", force=False)
    assert [item["name"] for item in main(live)["env"]] == ["A", "C", "B"]


def test_update_takes_only_what_it_changed() -> None:
    live = apply(DEPLOYMENTS, None, wish(tty=True), "one", force=False)
    after = updated(live, "x", image="a:2")
    name = 'f:spec/f:template/f:spec/f:containers/k:{"name":"main"}'
    assert owned(after, "x", "Update") == {f"{name}/f:image"}
    assert f"{name}/f:image" not in owned(after, "one")
    assert f"{name}/f:tty" in owned(after, "one")


def test_port_key_has_the_default_protocol() -> None:
    live = apply(DEPLOYMENTS, None, wish(ports=[{"containerPort": 80}]), "one", force=False)
    assert any('k:{"containerPort":80,"protocol":"TCP"}' in path for path in owned(live, "one"))


def test_fields_survive_a_round_trip_through_fields_v1() -> None:
    live = apply(DEPLOYMENTS, None, wish(args=["x"], env=[{"name": "A", "value": "1"}]), "one", force=False)
    paths = ownership.claimed(ownership.values(DEPLOYMENTS, live))
    assert ownership.decode(ownership.encode(paths)) == paths


def test_a_status_write_owns_the_status_alone() -> None:
    applied = apply(DEPLOYMENTS, None, wish("a:1"), "helm", force=False)
    stored = updated(applied, "kubectl", image="a:2")
    written: Obj = clone(stored)
    main(written)["image"] = "a:1"  # read before the update: the spec of a status write does not count
    written["status"] = {"replicas": 1}
    ownership.note_update(DEPLOYMENTS, written, stored, "kube-controller-manager", "status")
    rows = {row["manager"]: row for row in ownership.managers(written)}
    assert rows["kube-controller-manager"]["subresource"] == "status"
    assert owned(written, "kube-controller-manager", "Update") == {"f:status/f:replicas"}
    assert {name: rows[name]["fieldsV1"] for name in ("helm", "kubectl")} == {
        row["manager"]: row["fieldsV1"] for row in ownership.managers(stored)
    }
    apply(DEPLOYMENTS, written, wish("a:1"), "helm", force=True)
