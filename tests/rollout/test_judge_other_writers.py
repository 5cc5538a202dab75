"""What others do to a rollout: autoscalers, nodes, kubelets, webhooks, a second ReplicaSet (S1, S18, S19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from devloop.model import EventView, PodView, Progressing, Ready, Snapshot, Stuck
from devloop.rollout.judge import failed_containers, judge, lost_image, restarts_of, serves
from tests.rollout.test_judge import (
    EXPECTED,
    ID,
    OLD_REF,
    PATCHED,
    REF,
    complete,
    container,
    old_pod,
    pod,
    progressing,
    rolling,
    stateful,
    stuck,
    waiting,
)

OTHER_ID = "sha256:" + "c" * 64
SAME_IMAGE = pod("todo-0", revision="old")  # of another template with the same image
STARTING = pod("a", container(ready=False, running=False, image_id=""), ready=False)
CRASHED = pod("a", container(ready=False, running=False, exit_code=1, exit_reason="Error"), ready=False)
MIGRATE = container(name="migrate", init=True, running=False, exit_code=0, exit_reason="Completed")
BOTH = {"app": REF, "migrate": REF}


def evicted(name: str, **fields: str) -> PodView:
    over = container(ready=False, running=False, image_id="", exit_code=137, exit_reason="Error", restarts=7)
    reason = {"reason": "Evicted", "message": "The node was low on resource: memory."}
    return pod(name, over, phase="Failed", ready=False, node="n1", **{**reason, **fields})


# Each row: what the cluster shows, and how it must be judged. None of them is live but the last part.
NOT_LIVE: dict[str, Snapshot] = {
    "crashed since, the numbers lag behind": complete(pods=(CRASHED,)),
    "ready once, and no pod now": complete(pods=()),
    "only the old template's pod with the same image": complete(pods=(SAME_IMAGE,)),
    "the old template's pod counts for nothing": complete(replicas=2, updated=2, current=2, available=2,
                                                           pods=(pod("a"), SAME_IMAGE)),
    "scaled up by an autoscaler, not seen yet": complete(generation=6, replicas=3),
    "scaled up by an autoscaler, under way": complete(
        generation=6, observed_generation=6, replicas=3, updated=3, current=3, available=1,
        pods=(pod("a"), STARTING),
    ),
    "ready and not yet available": complete(available=0),
    "evicted": complete(available=0, pods=(evicted("a"),)),
    "evicted, and the next one starts": complete(available=0, pods=(evicted("a"), STARTING)),
    "its node is not ready": complete(available=0, pods=(pod(ready=False),)),
    "its node is gone": complete(available=0, pods=(pod(ready=True, terminating=True),)),
    "an init container of ours runs": complete(
        available=0, images=BOTH,
        pods=(pod("a", replace(MIGRATE, running=True, exit_code=None), STARTING.containers[0], ready=False),),
    ),
    "a sidecar that is an init container restarts": complete(
        available=0,
        pods=(pod("a", container(name="proxy", image="envoy:1", init=True, restarts=1, exit_code=1),
                  container(ready=False), ready=False),),
    ),
    "a statefulset's second pod is old": stateful(
        replicas=2, available=2, pods=(pod("db-1"), old_pod("db-0"))
    ),
    "the controller is behind": complete(observed_generation=4),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_LIVE)
def test_s1_s18_what_is_not_live_yet_is_no_failure_either(case: str) -> None:
    verdict = judge(NOT_LIVE[case], EXPECTED, PATCHED + 2)
    assert isinstance(verdict, Progressing), verdict


LIVE: dict[str, Snapshot] = {
    "evicted before, and another one runs": complete(pods=(evicted("a"), pod("b"))),
    "five were evicted, and another one runs": complete(
        pods=(*(evicted(f"e{n}") for n in range(5)), pod("b"))
    ),
    "scaled down by an autoscaler": complete(generation=7, observed_generation=7, pods=(pod("a"),)),
    "more ready pods than wanted": complete(pods=(pod("a"), pod("b"))),
    "an old pod still ends": complete(pods=(pod("a"), old_pod(terminating=True))),
    "a pod of the old template was evicted": complete(pods=(pod("a"), old_pod(phase="Failed", ready=False))),
    "the init container of ours ended well": complete(images=BOTH, pods=(pod("a", MIGRATE, container()),)),
}


@pytest.mark.parametrize("case", LIVE)
def test_s1_s18_what_is_live_whatever_lies_around(case: str) -> None:
    verdict = judge(LIVE[case], replace(EXPECTED, restarts={}), PATCHED + 2)
    assert isinstance(verdict, Ready), verdict
    assert all(one.ready and not one.over and one.revision == "new" for one in verdict.pods)


@pytest.mark.parametrize(
    "views",
    [
        (pod("a", container(image_id=OTHER_ID)),),
        (pod("a"), pod("b", container(image_id=OTHER_ID))),
        (pod("a", replace(MIGRATE, image_id=OTHER_ID), container()),),
    ],
    ids=["the only one", "one of two nodes", "an init container"],
)
def test_s1_one_container_with_another_content_is_no_live(views: tuple[PodView, ...]) -> None:
    count = len(views)
    snapshot = complete(
        replicas=count, updated=count, current=count, available=count, images=BOTH, pods=views
    )
    assert stuck(snapshot).reason == "WrongImage"
    assert not serves(snapshot, EXPECTED)


def test_s19_an_evicted_pod_tells_nothing_of_the_template() -> None:
    """Seven restarts and an exit code of a pod that is over: the one that replaces it is judged alone."""
    snapshot = complete(available=0, pods=(evicted("a"), STARTING))
    assert not list(failed_containers(snapshot, EXPECTED))
    lost = replace(evicted("a"), containers=(waiting("ErrImageNeverPull"),))
    assert not lost_image(complete(available=0, pods=(lost,)), EXPECTED)
    assert "Evicted: The node was low" in progressing(complete(available=0, pods=(evicted("a"),))).note


@pytest.mark.parametrize("reason", ["Evicted", "OutOfcpu", "UnexpectedAdmissionError", "NodeAffinity"])
def test_s19_pods_that_are_turned_away_one_after_the_other_are_an_outcome(reason: str) -> None:
    """Kubernetes goes on for ever; three new ones are enough, and old ones that lie around are none."""
    old = complete(available=0, pods=tuple(evicted(f"old-{n}") for n in range(5)))
    expected = replace(EXPECTED, restarts=restarts_of(old))
    new = tuple(evicted(f"new-{n}", reason=reason) for n in range(3))
    assert isinstance(judge(replace(old, pods=(*old.pods, *new[:2])), expected, PATCHED), Progressing)
    verdict = stuck(replace(old, pods=(*old.pods, *new)), PATCHED, expected)
    assert verdict.reason == reason
    assert "n1" in str(verdict.hint)


def test_s18_a_pod_of_a_node_that_is_gone_is_late_with_the_line_that_removes_it() -> None:
    ending = old_pod("db-0", ready=True, terminating=True, ending_since=PATCHED, grace=30.0, node="n2")
    snapshot = stateful(updated=0, available=0, pods=(ending,))
    verdict = stuck(snapshot, PATCHED + 700)
    assert "n2" in str(verdict.hint)
    assert "delete pod db-0" in str(verdict.hint)


@pytest.mark.parametrize(
    ("snapshot", "truth"),
    [
        (complete(), True),
        (complete(pods=()), False),
        (complete(replicas=0, pods=()), True),
        (complete(pods=(CRASHED,)), False),
        (complete(pods=(pod(terminating=True),)), False),
        (complete(pods=(evicted("a"),)), False),
        (rolling(STARTING), False),  # the old image answers
        (complete(pods=(SAME_IMAGE, STARTING)), True),  # rolled for another reason: the same image answers
        (complete(replicas=3, pods=(pod("a"), STARTING)), True),  # scaled up: whoever answers is the tree's
        (complete(pods=(pod("a"), old_pod(terminating=True))), True),
        (complete(pods=(pod("a", container(image_id=OTHER_ID)),)), False),
        (complete(pods=(pod("a", container(image_id=ID, stale=True)),)), False),
        (complete(pods=(pod("a", container(image=OLD_REF)),)), False),
        (complete(uid="", replicas=0, pods=()), False),
    ],
)
def test_s1_live_is_what_the_ready_pods_run_at_this_moment(snapshot: Snapshot, truth: bool) -> None:
    assert serves(snapshot, EXPECTED) is truth


def test_s19_a_restart_of_a_sidecar_that_is_an_init_container_is_no_outcome_at_first() -> None:
    def times(count: int) -> Snapshot:
        proxy = container(
            name="proxy", image="envoy:1", init=True, ready=False, restarts=count, exit_code=1, running=True
        )
        return complete(available=0, pods=(pod("a", proxy, container(ready=False), ready=False),))

    verdicts: list[Callable[[object], bool]] = [lambda v: isinstance(v, Progressing)] * 2
    verdicts.append(lambda v: isinstance(v, Stuck))
    for count, holds in enumerate(verdicts, 1):
        assert holds(judge(times(count), EXPECTED, PATCHED)), count


# --- what the template before left behind ---------------------------------------------------------

REFUSED = {"ReplicaFailure": ("True", "FailedCreate", "pods is forbidden: violates PodSecurity")}


def test_s19_a_refusal_of_the_template_before_gives_the_new_one_its_grace() -> None:
    """A Deployment tells the failures of its old ReplicaSets too: the save that mends them must pass."""
    none = complete(
        updated=0, available=0, pods=(), conditions=REFUSED, since={"ReplicaFailure": PATCHED - 900}
    )
    assert progressing(none, PATCHED + 2).deadline == PATCHED + 10
    assert stuck(none, PATCHED + 10).reason == "FailedCreate"
    starts = replace(none, updated=1, pods=(STARTING,))
    assert isinstance(judge(starts, EXPECTED, PATCHED + 60), Progressing), (
        "its pods are there: none was refused"
    )


def test_s19_events_of_the_template_before_do_not_fail_a_statefulset() -> None:
    def warning(at: float) -> EventView:
        return EventView("StatefulSet/db", "Warning", "FailedCreate", "exceeded quota", 1, at)

    none = stateful(updated=0, current=0, available=0, pods=(), events=(warning(PATCHED - 900),))
    assert isinstance(judge(none, EXPECTED, PATCHED + 60), Progressing)
    again = replace(none, events=(warning(PATCHED - 900), warning(PATCHED + 1)))
    assert progressing(again, PATCHED + 2).deadline == PATCHED + 11
    assert stuck(again, PATCHED + 11).reason == "FailedCreate"


def test_s19_a_statefulsets_next_pod_does_not_answer_for_the_one_before_of_its_name() -> None:
    def probe(uid: str, message: str) -> EventView:
        return EventView("Pod/db-0", "Warning", "Unhealthy", message, 9000, PATCHED, uid)

    view = pod("db-0", container(ready=False), ready=False)
    before = probe("uid-before", "Readiness probe failed: of the old pod")
    snapshot = stateful(available=0, pods=(view,), events=(before,))
    assert "of the old pod" not in progressing(snapshot).note
    late = stuck(snapshot, PATCHED + 700)
    assert "of the old pod" not in f"{late.cause} {late.hint} {late.evidence}"
    own = replace(snapshot, events=(before, probe(view.uid, "Readiness probe failed: of the new one")))
    late = stuck(own, PATCHED + 700)
    assert late.cause == "Readiness probe failed: of the new one"
    assert late.evidence == ("Unhealthy: Readiness probe failed: of the new one",)
