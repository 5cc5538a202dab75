"""Lists: selectors, pages, tables."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.contract.cluster import TABLE, Namespace, name_of, refused, version_of
from tests.contract.objects import config_map, deployment, pod

LABELLED = {
    "red-front": {"colour": "red", "tier": "front"},
    "red-back": {"colour": "red", "tier": "back"},
    "blue-back": {"colour": "blue", "tier": "back"},
    "plain": {"tier": "back"},
}
OURS = "contract=listing"


@pytest.fixture(scope="module")
def shelf(namespaces: Callable[[], Namespace]) -> Iterator[Namespace]:
    """A namespace with four labelled config maps."""
    ns = namespaces()
    for name, labels in LABELLED.items():
        ns.create(config_map(name, labels={**labels, "contract": "listing"}))
    yield ns
    ns.cluster.call("DELETE", f"/api/v1/namespaces/{ns.name}")


def test_list_is_an_object_with_a_version(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#collections"""
    listed = shelf.collection("ConfigMap", labelSelector=OURS)
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert version_of(listed)
    assert {name_of(item) for item in listed["items"]} == set(LABELLED)


@pytest.mark.parametrize(
    "selector, names",
    [
        ("colour=red", {"red-front", "red-back"}),
        ("colour==red", {"red-front", "red-back"}),
        ("colour!=red", {"blue-back", "plain"}),
        ("colour in (red, blue)", {"red-front", "red-back", "blue-back"}),
        ("colour notin (red)", {"blue-back", "plain"}),
        ("colour", {"red-front", "red-back", "blue-back"}),
        ("!colour", {"plain"}),
        ("colour=red,tier=back", {"red-back"}),
        ("colour,tier notin (front),colour!=blue", {"red-back"}),
        ("colour=green", set()),
    ],
)
def test_label_selectors(shelf: Namespace, selector: str, names: set[str]) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors"""
    assert shelf.names("ConfigMap", labelSelector=f"{OURS},{selector}") == names


def test_broken_label_selector_is_a_bad_request(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api"""
    with refused(400, "BadRequest"):
        shelf.collection("ConfigMap", labelSelector="colour in red")


def test_field_selector_takes_name_and_namespace(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/"""
    assert shelf.names("ConfigMap", fieldSelector="metadata.name=plain") == {"plain"}
    other = shelf.names("ConfigMap", labelSelector=OURS, fieldSelector="metadata.name!=plain")
    assert other == set(LABELLED) - {"plain"}
    everywhere = shelf.cluster.call(
        "GET", "/api/v1/configmaps", fieldSelector=f"metadata.namespace={shelf.name}"
    ).json()
    assert set(LABELLED) <= {name_of(item) for item in everywhere["items"]}


def test_unsupported_field_selector_is_a_bad_request(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/#supported-fields"""
    with refused(400, "BadRequest"):
        shelf.collection("ConfigMap", fieldSelector="data.a=1")


def test_pods_are_selected_by_phase_and_node(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/#list-of-supported-fields"""
    ns.create(pod(name="nowhere", nodeSelector={"contract.example/none": "yes"}))
    assert ns.names("Pod", fieldSelector="status.phase=Pending") == {"nowhere"}
    assert ns.names("Pod", fieldSelector="status.phase!=Pending") == set()
    assert ns.names("Pod", fieldSelector="spec.nodeName=") == {"nowhere"}


def test_list_over_all_namespaces(shelf: Namespace, namespaces: Callable[[], Namespace]) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris"""
    mark = f"mark-{uuid.uuid4().hex[:8]}"
    here, there = shelf, namespaces()
    here.create(config_map(mark, labels={"mark": mark}))
    there.create(config_map(mark, labels={"mark": mark}))
    path = "/api/v1/configmaps"
    found = shelf.cluster.call("GET", path, labelSelector=f"mark={mark}").json()["items"]
    assert {item["metadata"]["namespace"] for item in found} == {here.name, there.name}


def test_limit_and_continue_give_every_object_once(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks"""
    seen, token, versions = [], None, set()
    while True:
        query = {"continue": token} if token else {}
        page = shelf.collection("ConfigMap", labelSelector=OURS, limit=3, **query)
        assert len(page["items"]) <= 3
        seen += [name_of(item) for item in page["items"]]
        versions.add(version_of(page))
        token = page["metadata"].get("continue")
        if not token:
            break
    assert sorted(seen) == sorted(LABELLED)
    assert len(versions) == 1


def test_pages_do_not_show_what_came_after_the_first(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks"""
    for name in ("a", "b", "d"):
        ns.create(config_map(name, labels={"contract": "listing"}))
    page = ns.collection("ConfigMap", labelSelector=OURS, limit=1)
    ns.create(config_map("c", labels={"contract": "listing"}))
    rest = ns.names("ConfigMap", labelSelector=OURS, **{"continue": page["metadata"]["continue"]})
    assert rest == {"b", "d"}


def test_broken_continue_token_is_a_bad_request(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks"""
    with refused(400, "BadRequest"):
        shelf.collection("ConfigMap", limit=1, **{"continue": "no-token"})


def test_list_at_any_version_is_answered(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list"""
    assert "items" in shelf.collection("ConfigMap", resourceVersion="0")


def test_list_is_at_least_as_new_as_the_version_asked_for(shelf: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list"""
    made = shelf.create(config_map("newest"))
    match = {"resourceVersion": version_of(made), "resourceVersionMatch": "NotOlderThan"}
    assert "newest" in shelf.names("ConfigMap", **match)


def test_pods_come_as_a_table(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables"""
    ns.create(pod(name="nowhere", nodeSelector={"contract.example/none": "yes"}))
    table = ns.cluster.call("GET", ns.path("Pod"), accept=TABLE).json()
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    cells = dict(zip(columns, table["rows"][0]["cells"], strict=True))
    assert (cells["Name"], cells["Ready"], cells["Status"]) == ("nowhere", "0/1", "Pending")
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_deployments_come_as_a_table(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#creating-a-deployment"""
    ns.create(deployment(replicas=0))
    table = ns.cluster.call("GET", ns.path("Deployment"), accept=TABLE).json()
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:5] == ["Name", "Ready", "Up-to-date", "Available", "Age"]
    assert table["rows"][0]["cells"][:2] == ["web", "0/0"]


def test_one_object_comes_as_a_table_of_one_row(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables"""
    ns.create(config_map())
    table = ns.cluster.call("GET", ns.path("ConfigMap", "settings"), accept=TABLE).json()
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns == ["Name", "Data", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [["settings", 1]]


def test_table_carries_whole_objects_on_demand(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables"""
    ns.create(config_map())
    answer = ns.cluster.call("GET", ns.path("ConfigMap", "settings"), accept=TABLE, includeObject="Object")
    assert answer.json()["rows"][0]["object"]["data"] == {"a": "1"}


def test_table_has_the_fallback_that_was_asked_for(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables"""
    ns.create(config_map())
    accept = f"{TABLE}, application/json"
    kind = ns.cluster.call("GET", ns.path("ConfigMap"), accept=accept).json()["kind"]
    assert kind in ("Table", "ConfigMapList")
