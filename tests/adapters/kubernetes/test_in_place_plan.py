from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from devloop.adapters.kubernetes.in_place_note import images_run, note_of, replaced
from devloop.adapters.kubernetes.in_place_plan import Objects, at_once, plan_in_place
from devloop.model import InPlacePlan, PodToUpdate, Refusal
from tests.support.kubernetes_objects import TARGET, deployment, pod, ref, replicaset

FIRST, SECOND, THIRD = ref("1"), ref("2"), ref("3")
LABELS = {"app": "web", "pod-template-hash": "aa"}


def objects() -> Objects:
    """A Deployment that devloop wrote last, its only ReplicaSet, and two pods of it."""
    item = deployment(FIRST)
    item["metadata"] |= {
        "uid": "d",
        "generation": 3,
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "managedFields": [
            {
                "manager": "devloop",
                "time": "2026-01-01T00:00:00Z",
                "fieldsV1": {
                    "f:spec": {
                        "f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}
                    }
                },
            }
        ],
    }
    item["status"] = {"observedGeneration": 3, "replicas": 2}
    one = replicaset(item, "aa", "1", FIRST)
    one["metadata"]["uid"] = "rs"
    pods = [pod(one, name, FIRST, LABELS) for name in ("web-1", "web-2")]
    for number, each in enumerate(pods):
        each["metadata"] |= {"uid": f"p{number}", "namespace": "default"}
        each["status"] = {"phase": "Running"}
    return Objects(item, [one], pods)


def plan(found: Objects, wanted: str = SECOND) -> InPlacePlan | Refusal:
    return plan_in_place(found, TARGET, "todo", wanted)


def test_s33_every_pod_of_the_one_replicaset_gets_the_image() -> None:
    found = objects()
    strange = pod(found.sets[0] | {"metadata": {"name": "other", "uid": "else"}}, "web-3", FIRST, LABELS)
    strange["metadata"]["uid"] = "p3"
    ending, over = copy.deepcopy(found.pods[0]), copy.deepcopy(found.pods[0])
    ending["metadata"] |= {"uid": "p4", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    over["metadata"]["uid"], over["status"]["phase"] = "p5", "Failed"
    more = Objects(found.deployment, found.sets, [*found.pods, strange, ending, over])
    assert plan(more) == InPlacePlan(
        "web",
        FIRST,
        SECOND,
        (PodToUpdate("web-1", "p0", (FIRST,)), PodToUpdate("web-2", "p1", (FIRST,))),
    )


Change = Callable[[Objects], object]


def template(found: Objects) -> Any:
    return found.deployment["spec"]["template"]["spec"]


def both(found: Objects, change: Callable[[Any], object]) -> None:
    """A template that Deployment and ReplicaSet share."""
    for item in (found.deployment, *found.sets):
        change(item["spec"]["template"]["spec"])


def another_set(found: Objects, image: str, replicas: int) -> None:
    other = replicaset(found.deployment, "bb", "0", image)
    other["metadata"]["uid"] = "rs-b"
    other["spec"]["replicas"] = replicas
    assert isinstance(found.sets, list)
    found.sets.append(other)


def ran_before(found: Objects) -> None:
    found.pods[1]["metadata"]["annotations"] = {
        "dev.devloop/in-place": json.dumps({"web": {"images": [SECOND, FIRST]}})
    }


def scale_to_none(found: Objects) -> None:
    for item in (found.deployment, *found.sets):
        item["spec"]["replicas"] = 0
        item["status"] = {**item.get("status", {}), "replicas": 0}
    found.pods.clear()  # type: ignore[attr-defined]


REFUSED: dict[str, tuple[str, Change]] = {
    "cut off": (
        "unfinished",
        lambda o: (
            o.deployment["metadata"]["annotations"].update({"dev.devloop/in-place": SECOND}),
            o.deployment["spec"].update(paused=True),
        ),
    ),
    "paused by somebody": ("paused", lambda o: o.deployment["spec"].update(paused=True)),
    "two containers": (
        "several_containers",
        lambda o: both(o, lambda s: s["containers"].append({"name": "too", "image": FIRST})),
    ),
    "an init container": (
        "several_containers",
        lambda o: both(o, lambda s: s.update(initContainers=[{"name": "init", "image": FIRST}])),
    ),
    "no image of devloop's": (
        "not_ours",
        lambda o: both(o, lambda s: s["containers"][0].update(image="todo:1")),
    ),
    "written by somebody else": (
        "not_ours",
        lambda o: o.deployment["metadata"]["managedFields"][0].update(manager="kubectl-set"),
    ),
    "the controller is behind": ("rolling", lambda o: o.deployment["status"].update(observedGeneration=2)),
    "an old ReplicaSet has pods": ("rolling", lambda o: another_set(o, ref("0"), 1)),
    "no ReplicaSet has the template": (
        "rolling",
        lambda o: template(o)["containers"][0].update(command=["true"]),
    ),
    "an old ReplicaSet has the image": ("earlier_replicaset", lambda o: another_set(o, SECOND, 0)),
    "no pods": ("no_pods", lambda o: o.pods.clear()),  # type: ignore[attr-defined]
    "scaled to none": ("no_pods", scale_to_none),
    "pods that always pull": (
        "pull_always",
        lambda o: o.pods[1]["spec"]["containers"][0].update(imagePullPolicy="Always"),
    ),
    "it ran in the pod": ("seen_in_pod", ran_before),
}


@pytest.mark.parametrize("case", REFUSED)
def test_s34_anything_else_is_a_roll(case: str) -> None:
    reason, change = REFUSED[case]
    found = objects()
    change(found)
    refused = plan(found)
    assert isinstance(refused, Refusal)
    assert refused.reason == reason
    assert refused.message


def test_s34_an_old_replicaset_with_another_image_is_no_reason() -> None:
    found = objects()
    another_set(found, THIRD, 0)
    assert isinstance(plan(found), InPlacePlan)


def test_s33_a_copied_annotation_without_a_pause_is_none() -> None:
    # `kubectl rollout undo` copies it from the ReplicaSet to the Deployment.
    found = objects()
    found.deployment["metadata"]["annotations"]["dev.devloop/in-place"] = SECOND
    assert isinstance(plan(found), InPlacePlan)


def test_s33_a_pod_that_was_left_on_the_way_goes_on_to_the_newer_image() -> None:
    found = objects()
    first = found.pods[0]
    first["metadata"]["annotations"] = {"dev.devloop/in-place": note_of(first, "web", SECOND)}
    first["spec"]["containers"][0]["image"] = SECOND
    onward, same = plan(found, THIRD), plan(found, SECOND)
    assert isinstance(onward, InPlacePlan)
    assert onward.pods[0].images == (FIRST, SECOND)
    assert isinstance(same, InPlacePlan), "an image that it runs now is none that comes back"


@pytest.mark.parametrize(
    ("written", "pods", "wanted"),
    [
        (None, 1, 1), (None, 8, 2), ("50%", 4, 2), ("100%", 3, 3),
        (0, 3, 1), (2, 3, 2), (9, 3, 3), ("x", 3, 1),
    ],
)  # fmt: skip
def test_s33_as_many_at_once_as_may_be_unavailable(written: object, pods: int, wanted: int) -> None:
    rolling = {} if written is None else {"maxUnavailable": written}
    assert at_once({"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}, pods) == wanted
    assert at_once({"strategy": {"type": "Recreate"}}, pods) == pods


def test_s33_the_note_holds_every_image_and_the_replaced_instance() -> None:
    one = objects().pods[0]
    one["status"]["containerStatuses"] = [{"name": "web", "containerID": "docker://a", "restartCount": 2}]
    for wanted in (SECOND, THIRD):
        text = note_of(one, "web", wanted)
        one["metadata"]["annotations"] = {"dev.devloop/in-place": text}
        one["spec"]["containers"][0]["image"] = wanted
    assert images_run(one, "web") == (FIRST, SECOND, THIRD)
    assert replaced(one, "web") == ("docker://a", 3)
    one["spec"]["containers"][0]["image"] = "todo:by-hand"
    assert images_run(one, "web")[-1] == "todo:by-hand"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"web": 1}', '{"web": {"images": 3}}', "[" * 5000])
def test_a_note_that_somebody_else_wrote_is_none(text: str) -> None:
    one = objects().pods[0]
    one["metadata"]["annotations"] = {"dev.devloop/in-place": text}
    assert images_run(one, "web") == (FIRST,)
    assert replaced(one, "web") == ("", 0)


def test_s34_a_template_that_names_the_image_already_is_no_fallback() -> None:
    """As after an install, whatever its first rollout has come to."""
    found = objects()
    for sets in ([], found.sets):
        refusal = plan(Objects(found.deployment, sets, []), FIRST)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == ""
