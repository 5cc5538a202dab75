"""Every wait of the rollout stage ends, and says what it waited for (S18)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from devloop.adapters.kubernetes.views import workload_fields
from devloop.model import EventView, PodView, Progressing, Ready, Snapshot, Stuck, Target
from devloop.rollout.judge import Expectation, judge
from devloop.rollout.symptoms import GRACE
from tests.rollout.test_judge import (
    EXPECTED,
    IMAGE,
    PATCHED,
    REF,
    STATEFUL,
    complete,
    container,
    old_pod,
    pod,
    progressing,
    stateful,
    stuck,
)

BEGUN = replace(EXPECTED, since=PATCHED)
STANDING = replace(BEGUN, changed=False)
DAY = 86400.0
UNREADY = pod(ready=False, containers=(container(ready=False),))
WAITING: Mapping[str, Snapshot] = {
    "not ready": complete(available=0, pods=(UNREADY,)),
    "a statefulset that is not ready": stateful(available=0, pods=(UNREADY,)),
    "the watch is behind": complete(generation=4, observed_generation=4, images={"app": "todo:old"}),
    "no controller": complete(observed_generation=4),
    "a statefulset without a controller": stateful(observed_generation=4),
    "no pod appears": complete(updated=0, current=0, available=0, pods=()),
    "no pod of a statefulset appears": stateful(updated=0, current=0, available=0, pods=()),
    "an old pod does not end": stateful(
        updated=0, pods=(old_pod("db-0", ready=False, terminating=True, ending_since=PATCHED, grace=30.0),)
    ),
    "the numbers lack behind the pods": complete(updated=0, available=0),
    "OnDelete without an old pod": stateful(strategy="OnDelete", updated=0, available=0, pods=(UNREADY,)),
}


@pytest.mark.parametrize("case", WAITING)
@pytest.mark.parametrize("expected", [BEGUN, STANDING], ids=["patched", "joined"])
def test_s18_every_wait_of_a_rollout_ends(case: str, expected: Expectation) -> None:
    snapshot = WAITING[case]
    verdict = progressing(snapshot, PATCHED + 2, expected)
    assert verdict.deadline == PATCHED + 600 + GRACE
    assert isinstance(judge(snapshot, expected, verdict.deadline), Stuck)


@pytest.mark.parametrize("case", WAITING)
def test_s18_rollout_timeout_is_the_services_own_deadline(case: str) -> None:
    snapshot = WAITING[case]
    expected = replace(BEGUN, timeout=30.0)
    assert progressing(snapshot, PATCHED + 29, expected).deadline == PATCHED + 30
    verdict = stuck(snapshot, PATCHED + 30, expected)
    assert verdict.reason == "RolloutTimeout"
    assert "30 s" in verdict.message
    assert "rollout_timeout" in f"{verdict.message} {verdict.hint}"


def test_s18_a_longer_rollout_timeout_outlives_the_deployments_own_deadline() -> None:
    given_up = complete(
        available=0,
        pods=(UNREADY,),
        conditions={"Progressing": ("False", "ProgressDeadlineExceeded", "has timed out progressing.")},
        since={"Progressing": PATCHED + 600},
    )
    assert stuck(given_up, PATCHED + 601, BEGUN).reason == "ProgressDeadlineExceeded"
    patient = replace(BEGUN, timeout=3600.0)
    assert progressing(given_up, PATCHED + 601, patient).deadline == PATCHED + 3600
    assert stuck(given_up, PATCHED + 3600, patient).reason == "RolloutTimeout"


def test_s18_a_rollout_that_goes_on_gets_its_time_anew() -> None:
    later = replace(BEGUN, since=PATCHED + 500)
    assert progressing(WAITING["not ready"], PATCHED + 800, later).deadline == PATCHED + 1100 + GRACE


def test_s18_nothing_that_is_looked_at_between_trips_has_a_deadline() -> None:
    looked = Expectation(IMAGE, REF)
    assert progressing(WAITING["not ready"], PATCHED + 30 * DAY, looked).deadline is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(None, 600.0), (2**31 - 1, 600.0), (10**9, 600.0), (1, 1.0), (7200, 7200.0)],
)
def test_s18_a_deployment_that_writes_no_end_gets_the_default(written: int | None, seconds: float) -> None:
    item = {"metadata": {"uid": "u"}, "spec": {"progressDeadlineSeconds": written}}
    assert workload_fields(Target("deployment", "web", "dev"), item)["progress_deadline"] == seconds
    assert workload_fields(STATEFUL, item)["progress_deadline"] == 600.0


def test_s18_paused_and_replicas_0_need_no_deadline() -> None:
    assert stuck(complete(paused=True, observed_generation=4), PATCHED, BEGUN).reason == "Paused"
    none = complete(replicas=0, current=0, updated=0, available=0, pods=())
    assert judge(none, BEGUN, PATCHED + DAY) == Ready(())


@pytest.mark.parametrize("fields", [{}, {"pods": (), "updated": 0}, {"observed_generation": 4}])
def test_s18_a_target_that_is_being_deleted_is_stuck_at_once(fields: dict[str, Any]) -> None:
    verdict = stuck(complete(deleting=True, **fields), PATCHED, BEGUN)
    assert verdict.reason == "Deleting"
    assert "being deleted" in verdict.message


def test_s18_late_without_a_pod_says_that_none_appeared() -> None:
    verdict = stuck(WAITING["no pod appears"], PATCHED + DAY, BEGUN)
    assert "no pod" in str(verdict.hint)


def test_s18_late_for_an_old_pod_names_it_and_its_grace_period() -> None:
    verdict = stuck(WAITING["an old pod does not end"], PATCHED + DAY, BEGUN)
    assert "db-0" in verdict.message
    assert "30 s" in verdict.message


def test_s18_a_statefulset_that_is_late_shows_its_probe() -> None:
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Readiness probe failed: refused", 9000, PATCHED)
    verdict = stuck(stateful(available=0, pods=(UNREADY,), events=(probe,)), PATCHED + DAY, BEGUN)
    assert verdict.cause == "Readiness probe failed: refused"
    assert (verdict.pod, verdict.container) == ("todo-1", "app")


# --- pods whose image is not the template's ------------------------------------------------------


def rewritten(image: str, *others: Any, **fields: Any) -> PodView:
    return pod("todo-1", container(image=image, image_id="sha256:" + "c" * 64), *others, **fields)


@pytest.mark.parametrize(
    "image",
    [f"mirror.example/library/{REF}", "todo@sha256:" + "d" * 64, "todo:1.0", "other:latest"],
    ids=["mirror", "digest", "tag", "another"],
)
@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("snapshot", [complete(), stateful()], ids=["deployment", "statefulset"])
def test_s1_a_pod_whose_image_was_rewritten_is_stuck_at_once_and_named(
    snapshot: Snapshot, image: str, ready: bool
) -> None:
    shown = replace(snapshot, pods=(rewritten(image, ready=ready),), available=int(ready))
    verdict = stuck(shown, PATCHED + 1, BEGUN)
    assert verdict.reason == "ImageRewritten"
    assert image in verdict.message
    assert REF in verdict.message
    assert "webhook" in f"{verdict.message} {verdict.hint}"


def test_s1_one_rewritten_container_of_two_is_no_live() -> None:
    """The other one alone is what the repository finds in the pod: it must not speak for both."""
    view = rewritten("mirror.example/todo:1", container(name="worker"))
    snapshot = complete(images={"app": REF, "worker": REF}, pods=(view,))
    assert stuck(snapshot, PATCHED, BEGUN).reason == "ImageRewritten"


def test_s1_a_pod_of_an_older_template_was_not_rewritten() -> None:
    snapshot = complete(current=2, available=1, pods=(UNREADY, old_pod()))
    assert isinstance(judge(snapshot, BEGUN, PATCHED), Progressing)


def test_s1_a_rewritten_pod_that_terminates_does_not_matter() -> None:
    gone = rewritten("todo:1.0", terminating=True)
    assert isinstance(judge(complete(pods=(pod("todo-2"), gone)), BEGUN, PATCHED), Ready)
