"""The patches' corner cases; the contract suite has what every user meets."""

from __future__ import annotations

from typing import Any

import pytest

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import BY_PLURAL, Obj
from devloop_sandbox.objects.schema import root
from devloop_sandbox.patching.patches import json_patch, merge_patch, strategic_merge

POD = root(BY_PLURAL["pods"])
SERVICE = root(BY_PLURAL["services"])


def pod(*containers: Obj, **spec: Any) -> Obj:
    return {"spec": {"containers": list(containers), **spec}}


def patched(target: Obj, patch: Obj) -> Obj:
    return strategic_merge(POD, target, patch)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2]}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ([{"op": "move", "from": "/a/0", "path": "/b"}], {"a": [2], "b": 1}),
        ([{"op": "copy", "from": "/a", "path": "/b~1c"}], {"a": [1, 2], "b/c": [1, 2]}),
        ([{"op": "test", "path": "/a", "value": [1, 2]}], {"a": [1, 2]}),
    ],
)
def test_json_patch_operations(operations: list[Obj], expected: Obj) -> None:
    assert json_patch({"a": [1, 2]}, operations) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "replace", "path": "/x", "value": 2},
        {"op": "remove", "path": "/x/y"},
        {"op": "add", "path": "/l/7", "value": 2},
    ],
)
def test_s14_a_json_patch_that_does_not_fit_is_422(operation: Obj) -> None:
    with pytest.raises(ApiError) as refusal:
        json_patch({"a": 1, "l": []}, [operation])
    assert (refusal.value.status, refusal.value.reason) == (422, "Invalid")


def test_a_refused_json_patch_leaves_the_object() -> None:
    target = {"a": 1}
    with pytest.raises(ApiError):
        json_patch(target, [{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/x"}])
    assert target == {"a": 1}


def test_merge_patch_removes_with_null_and_replaces_lists() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": None}, "l": [2, 3]}) == {
        "a": {"c": 2},
        "l": [2, 3],
    }


def test_strategic_merge_finds_the_container_by_name() -> None:
    target = pod(
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}
    )
    result = patched(target, pod({"name": "a", "image": "a:2"}))
    assert result["spec"]["containers"] == [
        {"name": "a", "image": "a:2", "env": [{"name": "X", "value": "1"}]},
        {"name": "b", "image": "b:1"},
    ]


def test_s14_an_unknown_container_name_adds_one() -> None:
    result = patched(pod({"name": "a", "image": "a:1"}), pod({"name": "typo", "image": "a:2"}))
    assert sorted(c["name"] for c in result["spec"]["containers"]) == ["a", "typo"]


def test_strategic_merge_directives() -> None:
    target = pod(
        {"name": "a"}, {"name": "b"}, volumes=[{"name": "v", "emptyDir": {}}], nodeSelector={"x": "y"}
    )
    gone = patched(target, pod({"name": "a", "$patch": "delete"}))
    assert [c["name"] for c in gone["spec"]["containers"]] == ["b"]
    replaced = patched(target, pod({"$patch": "replace"}, {"name": "c"}))
    assert [c["name"] for c in replaced["spec"]["containers"]] == ["c"]
    ordered = patched(target, {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}})
    assert [c["name"] for c in ordered["spec"]["containers"]] == ["b", "a"]
    source = {"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}
    retained = patched(target, {"spec": {"volumes": [source]}})
    assert retained["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]
    swapped = patched(target, {"spec": {"nodeSelector": {"$patch": "replace", "z": "1"}}})
    assert swapped["spec"]["nodeSelector"] == {"z": "1"}


def test_strategic_merge_of_a_plain_list_with_merge_strategy() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(target, {"metadata": {"finalizers": ["c", "a"]}})["metadata"]["finalizers"] == [
        "c",
        "a",
        "b",
    ]
    less = patched(target, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})
    assert less["metadata"]["finalizers"] == ["b"]


def test_service_ports_merge_by_port_and_arguments_are_replaced() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 81, "targetPort": 2}]}}
    merged = strategic_merge(SERVICE, service, {"spec": {"ports": [{"port": 81, "targetPort": 3}]}})
    assert merged["spec"]["ports"] == [{"port": 80, "targetPort": 1}, {"port": 81, "targetPort": 3}]
    assert patched(pod({"name": "a", "args": ["1", "2"]}), pod({"name": "a", "args": ["3"]}))["spec"][
        "containers"
    ][0]["args"] == ["3"]


def test_list_item_without_its_merge_key_is_refused() -> None:
    with pytest.raises(ApiError) as refusal:
        patched(pod({"name": "a"}), pod({"image": "x"}))
    assert "does not contain declared merge key: name" in refusal.value.message
