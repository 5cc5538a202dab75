"""What answers of an API server are refused for, and what is none of devloop's business."""

from __future__ import annotations

import pytest

from devloop.adapters.kubernetes.api.shapes import wrong_shape

# Names that mean something to Kubernetes elsewhere, and that users give to keys of their own.
OWN_KEYS = {"state": "new", "port": "8080", "ports": "80", "replicas": "3", "spec": "x", "startedAt": "-"}


@pytest.mark.parametrize(
    ("resource", "item"),
    [
        ("pods", {"metadata": {"name": "web", "labels": OWN_KEYS, "annotations": OWN_KEYS}}),
        ("services", {"metadata": {"name": "web"}, "spec": {"selector": OWN_KEYS}}),
        ("deployments", {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": OWN_KEYS}}}),
        ("secrets", {"metadata": {"name": "web"}, "data": OWN_KEYS}),
        ("configmaps", {"metadata": {"name": "web"}, "data": OWN_KEYS}),
        ("nodes", {"metadata": {"name": "web"}, "status": {"capacity": OWN_KEYS, "allocatable": OWN_KEYS}}),
    ],
)
def test_keys_that_users_choose_are_not_taken_for_fields(resource: str, item: dict[str, object]) -> None:
    root = "/apis/apps/v1" if resource == "deployments" else "/api/v1"
    path = f"{root}/namespaces/shop/{resource}"
    assert wrong_shape(item, f"{path}/web") == ""
    assert wrong_shape({"items": [item]}, path) == ""


def test_a_mapping_with_keys_of_users_is_still_a_mapping() -> None:
    assert (
        wrong_shape({"metadata": {"name": "web", "labels": ["x"]}}, "/api/v1/namespaces/shop/pods/web")
        == "metadata.labels: not a mapping"
    )
