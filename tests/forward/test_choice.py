"""Which pods a new connection may go to."""

from __future__ import annotations

from devloop.forward.choice import candidates
from devloop.model import PodView, Snapshot
from tests.support.pod_ports import TARGET, pod_view


def names(*pods: PodView, image: str = "web:2") -> list[str]:
    snapshot = Snapshot(TARGET, 1.0, "uid-web", images={"web": image}, pods=pods)
    return [pod.name for pod in candidates([snapshot])]


def test_pods_with_the_image_of_the_template_come_first_then_the_newest() -> None:
    old = pod_view("old", image="web:1", at=30.0)
    new, newest = pod_view("new", image="web:2", at=10.0), pod_view("newest", image="web:2", at=20.0)
    assert names(old, new, newest) == ["newest", "new", "old"]


def test_only_pods_that_are_ready_and_stay() -> None:
    assert names(
        pod_view("starting", ready=False),
        pod_view("leaving", terminating=True),
        pod_view("evicted", phase="Failed"),
        pod_view("stays", image="web:1"),
    ) == ["stays"]


def test_a_pod_of_which_nobody_knows_since_when_it_is_ready_comes_last() -> None:
    assert names(pod_view("a", at=0.0, image="web:2"), pod_view("b", image="web:2")) == ["b", "a"]
    assert names() == []


def test_the_pods_of_all_targets_count() -> None:
    first = Snapshot(TARGET, 1.0, "1", images={"web": "web:1"}, pods=(pod_view("one", at=1.0),))
    second = Snapshot(TARGET, 1.0, "2", images={"web": "web:1"}, pods=(pod_view("two", at=2.0),))
    assert [pod.name for pod in candidates([first, second])] == ["two", "one"]
