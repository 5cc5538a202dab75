"""What a container did before this rollout, or under another image, is not this rollout's (S19)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devloop.adapters.kubernetes.stamps import PodStamps
from devloop.adapters.kubernetes.views import pod_view
from devloop.model import PodView, Progressing, Ready, Snapshot, Stuck
from devloop.rollout.judge import Expectation, failed_containers, judge, restarts_of
from tests.rollout.test_judge import (
    EXPECTED,
    ID,
    IMAGE,
    OLD_REF,
    PATCHED,
    REF,
    STATEFUL,
    complete,
    container,
    pod,
)

HASH = "pod-template-hash"
STANDING = replace(EXPECTED, changed=False)


def booting(restarts: int, **fields: Any) -> PodView:
    """A pod that runs and is not ready yet, with a past: a node that was rebooted, say."""
    view = container(
        ready=False, restarts=restarts, exit_code=255, exit_reason="Error", running=True, **fields
    )
    return pod("todo-1", view, ready=False)


def only(view: PodView, **fields: Any) -> Snapshot:
    return complete(available=0, pods=(view,), **fields)


def judged(snapshot: Snapshot, expected: Expectation, now: float = PATCHED + 2) -> object:
    return judge(snapshot, expected, now)


# --- pods that were there before -----------------------------------------------------------------


@pytest.mark.parametrize("restarts", [3, 30])
@pytest.mark.parametrize("target", ["deployment", "statefulset"])
def test_s19_exits_from_before_a_rollout_that_is_only_joined_do_not_count(restarts: int, target: str) -> None:
    fields = {} if target == "deployment" else {"target": STATEFUL}
    snapshot = only(booting(restarts), **fields)
    assert isinstance(judged(snapshot, STANDING), Progressing)
    joined = replace(STANDING, restarts=restarts_of(snapshot))
    assert isinstance(judged(snapshot, joined), Progressing)
    assert not list(failed_containers(snapshot, joined)), "and they are not shown as news"


def test_s19_exits_since_a_rollout_was_joined_do_count() -> None:
    joined = replace(STANDING, restarts=restarts_of(only(booting(3))))
    assert isinstance(judged(only(booting(5)), joined), Progressing)
    assert [c.restarts for _, c in failed_containers(only(booting(4)), joined)] == [4]
    verdict = judged(only(booting(6)), joined)
    assert isinstance(verdict, Stuck)
    assert "3 times" in verdict.message


def test_s19_pods_of_a_template_that_came_back_bring_no_exits_along() -> None:
    """The PATCH went back to a ReplicaSet whose pods were still there, and had crashed before."""
    returned = replace(EXPECTED, restarts=restarts_of(only(booting(4))))
    assert isinstance(judged(only(booting(4)), returned), Progressing)
    assert isinstance(judged(only(booting(7)), returned), Stuck)


def test_s19_all_exits_of_a_pod_that_this_rollout_made_count() -> None:
    made = replace(EXPECTED, restarts=restarts_of(complete(pods=())))
    assert isinstance(judged(only(booting(2)), made), Progressing)
    assert isinstance(judged(only(booting(3)), made), Stuck)


@pytest.mark.parametrize("init", [False, True])
def test_s19_an_old_exit_of_a_sidecar_does_not_count_either(init: bool) -> None:
    proxy = container(
        name="proxy", image="envoy:1", image_id="sha256:ee", ready=False, restarts=4, exit_code=1, init=init
    )
    view = pod("todo-1", container(ready=False), proxy, ready=False)
    snapshot = only(view, images={"app": REF, "proxy": "envoy:1"})
    assert isinstance(judged(snapshot, STANDING), Progressing)


def test_s19_a_crash_loop_that_stands_when_it_is_joined_is_an_outcome() -> None:
    looping = container(
        ready=False, running=False, restarts=6, exit_code=1, exit_reason="Error", waiting="CrashLoopBackOff"
    )
    snapshot = only(pod("todo-1", looping, ready=False))
    assert isinstance(judged(snapshot, replace(STANDING, restarts=restarts_of(snapshot))), Stuck)


def test_s19_a_container_that_could_not_start_in_its_last_life_only_may_yet_start() -> None:
    view = booting(1)
    again = replace(view.containers[0], exit_reason="StartError")
    assert isinstance(judged(only(replace(view, containers=(again,))), STANDING), Progressing)


# --- a pod whose image is changed in place -------------------------------------------------------


def raw(image: str, restarts: int, container_id: str, *, last: int | None = None, **state: Any) -> Any:
    status = {
        "name": "app", "ready": "running" in state, "restartCount": restarts, "imageID": ID,
        "containerID": container_id, "state": state,
        "lastState": {"terminated": {"exitCode": last, "reason": "Error"}} if last is not None else {},
    }  # fmt: skip
    return {
        "metadata": {"name": "todo-1", "namespace": "dev", "uid": "p", "labels": {HASH: "new"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if "running" in state else "False"}],
            "containerStatuses": [status] if container_id else [],
        },
    }  # fmt: skip


def seen(*shown: Any) -> PodView:
    """The view of a pod after the watch has shown these, one after the other."""
    stamps = PodStamps()
    for number, one in enumerate(shown):
        stamps.observe(one, PATCHED + number, live=True)
    return pod_view(shown[-1], stamps.of(shown[-1]), HASH)


RUNS = {"running": {"startedAt": "2026-11-22T10:00:02Z"}}


def test_s1_an_instance_from_before_an_image_was_changed_in_place_is_not_of_this_image() -> None:
    """The status names the old container for seconds; with an equal image id it looks right."""
    view = seen(raw(OLD_REF, 0, "docker://a", **RUNS), raw(REF, 0, "docker://a", **RUNS))
    assert view.containers[0].stale
    assert isinstance(judged(complete(pods=(view,)), EXPECTED), Progressing)
    view = seen(
        raw(OLD_REF, 0, "docker://a", **RUNS),
        raw(REF, 0, "docker://a", **RUNS),
        raw(REF, 1, "docker://b", last=137, **RUNS),
    )
    assert not view.containers[0].stale
    assert isinstance(judged(complete(pods=(view,)), EXPECTED), Ready)
    assert not list(failed_containers(complete(pods=(view,)), EXPECTED)), "its end was the change itself"


def test_s19_exits_of_the_image_before_do_not_count_for_the_one_that_was_put_in_place() -> None:
    ended = {"waiting": {"reason": "CrashLoopBackOff"}}
    before = raw(OLD_REF, 5, "docker://f", last=1, **ended)
    after = raw(REF, 5, "docker://f", last=1, **ended)
    assert isinstance(judged(only(seen(before, after)), EXPECTED), Progressing), "the old image's back-off"
    third = raw(REF, 8, "docker://i", last=1, waiting={"reason": "CrashLoopBackOff"})
    verdict = judged(only(seen(before, after, third)), EXPECTED)
    assert isinstance(verdict, Stuck)
    assert "3 times" in verdict.message


def test_s19_an_image_that_never_started_leaves_nothing_to_subtract() -> None:
    """The one before was never pulled: the first instance of the new one has the restart count 0."""
    view = seen(raw(OLD_REF, 0, ""), raw(REF, 0, "docker://a", **RUNS))
    assert (view.containers[0].first, view.containers[0].stale) == (0, False)
    assert isinstance(judged(complete(pods=(view,)), EXPECTED), Ready)


def test_s19_a_rollout_that_nobody_joined_counts_only_what_is_there_now() -> None:
    """`devloop status` looks once: three reboots ago is no failure of today."""
    assert isinstance(judged(only(booting(3)), Expectation(IMAGE, REF)), Progressing)


@pytest.mark.parametrize(
    ("restarts", "words"), [(0, "once"), (1, "restarted once"), (4, "restarted 4 times in all")]
)
def test_who_looks_only_now_reports_the_restart_count(restarts: int, words: str) -> None:
    """`devloop status` saw one exit at most, and a pod that crashed four times did not crash once."""
    crashing = container(
        ready=False,
        running=False,
        restarts=restarts,
        exit_code=3,
        exit_reason="Error",
        waiting="CrashLoopBackOff",
    )
    verdict = judged(only(pod("todo-1", crashing, ready=False)), STANDING)
    assert isinstance(verdict, Stuck)
    assert verdict.message.endswith(f"(Error), {words}")


@pytest.mark.parametrize(("written", "seconds"), [(None, 30.0), (0, 0.0), (7, 7.0)])
def test_s35_how_long_a_process_may_take_to_end_is_read_from_its_pod(
    written: int | None, seconds: float
) -> None:
    item = raw(IMAGE, 0, "docker://1", **RUNS)
    if written is not None:
        item["spec"]["terminationGracePeriodSeconds"] = written
    assert seen(item).stop_grace == seconds
