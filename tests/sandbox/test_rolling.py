"""The rolling update's arithmetic, by the tables of Kubernetes' own tests of it."""

from __future__ import annotations

import pytest

from devloop_sandbox.controllers.revisions import annotate, same_template, template_hash
from devloop_sandbox.controllers.rolling import Size, grown, limits, proportional, shrunk


@pytest.mark.parametrize(
    ("surge", "unavailable", "desired", "expected"),
    [
        ("0%", "0%", 0, (0, 0)),
        ("0%", "0%", 10, (0, 1)),
        ("39%", "39%", 10, (4, 3)),
        ("49%", "0", 10, (5, 0)),
        (0, 1, 10, (0, 1)),
        ("25%", "25%", 1, (1, 0)),
        ("25%", "25%", 4, (1, 1)),
        (1, "100%", 3, (1, 3)),
        (2, 5, 3, (2, 3)),
    ],
)
def test_limits_round_surge_up_and_unavailable_down(
    surge: int | str, unavailable: int | str, desired: int, expected: tuple[int, int]
) -> None:
    unavailable = int(unavailable) if unavailable == "0" else unavailable
    assert limits(surge, unavailable, desired) == expected


@pytest.mark.parametrize(
    ("new", "old", "desired", "surge", "expected"),
    [
        (0, 0, 5, 0, 5),
        (0, 10, 10, 0, 0),
        (0, 10, 10, 2, 2),
        (5, 5, 10, 0, 5),
        (2, 10, 10, 2, 2),
        (1, 10, 10, 6, 6),
        (12, 0, 10, 0, 10),
    ],
)
def test_new_replica_set_grows_within_the_surge(
    new: int, old: int, desired: int, surge: int, expected: int
) -> None:
    assert grown(Size(new), [Size(old)], desired, surge) == expected


@pytest.mark.parametrize(
    ("new", "old", "desired", "unavailable", "expected"),
    [
        (Size(0, 0), [Size(10, 10)], 10, 0, [10]),  # nothing new is there yet
        (Size(0, 0), [Size(10, 10)], 10, 2, [8]),
        (Size(5, 5), [Size(10, 10)], 10, 0, [5]),
        (Size(5, 0), [Size(10, 10)], 10, 2, [8]),  # new pods that are not available do not count
        (Size(4, 4), [Size(8, 2)], 10, 2, [4]),  # unhealthy old pods go first
        (Size(1, 1), [Size(1, 1)], 1, 0, [0]),
        (Size(1, 0), [Size(1, 1)], 1, 0, [1]),
        (Size(2, 2), [Size(1, 0), Size(2, 2)], 3, 0, [0, 1]),
    ],
)
def test_old_replica_sets_shrink_without_breaking_availability(
    new: Size, old: list[Size], desired: int, unavailable: int, expected: list[int]
) -> None:
    assert shrunk(new, old, desired, unavailable) == expected


def test_scaling_in_mid_rollout_is_shared_in_proportion() -> None:
    """10 -> 15 with maxSurge 3 while 8 are old and 5 new: the example of the Kubernetes documentation."""
    assert proportional([(8, 13), (5, 13)], 18, 15, 18) == [11, 7]
    assert proportional([(8, 13), (5, 13)], 0, 0, 3) == [0, 0]


def test_template_hash_is_stable_and_moves_with_collisions() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    again = {"spec": {"containers": []}, "metadata": {"labels": {"a": "b"}}}
    assert template_hash(template) == template_hash(again)
    assert template_hash(template) != template_hash(template, 1)


def test_hash_label_does_not_make_another_template() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    labelled = {"metadata": {"labels": {"a": "b", "pod-template-hash": "x"}}, "spec": {"containers": []}}
    replica_set = {"spec": {"template": labelled}}
    assert same_template({"spec": {"template": template}}, replica_set)
    labelled["spec"] = {"containers": [{"name": "more"}]}
    assert not same_template({"spec": {"template": template}}, replica_set)


def test_return_to_an_old_template_keeps_its_former_revisions() -> None:
    replica_set: dict[str, dict[str, dict[str, str]]] = {"metadata": {"annotations": {}}}
    deployment = {"metadata": {"annotations": {"note": "mine", "deployment.kubernetes.io/revision": "9"}}}
    for revision in (1, 3, 2):
        annotate(replica_set, deployment, revision)
    found = replica_set["metadata"]["annotations"]
    assert found["deployment.kubernetes.io/revision"] == "3"
    assert found["deployment.kubernetes.io/revision-history"] == "1"
    assert found["note"] == "mine"
