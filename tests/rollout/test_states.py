"""States of deployments and pods: one row per state and per listed transition."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from devloop.model import ContainerView, PodView, Snapshot, Target
from devloop.rollout.states import (
    DEPLOYMENT_TRANSITIONS,
    POD_TRANSITIONS,
    DeploymentState,
    PodState,
    deployment_path,
    deployment_state,
    pod_state,
)

D, P = DeploymentState, PodState
TARGET = Target("deployment", "web", "default")
APP = ContainerView("app", "web:1", "", False, 0)
POD = PodView("web-1", "default", "u", "new", "Pending", False, False, False, "", (APP,))
OLD = replace(POD, name="web-0", revision="old", ready=True)
OVER = {"Progressing": ("True", "NewReplicaSetAvailable", "")}
BUSY = {"Progressing": ("True", "ReplicaSetUpdated", "")}
MISSING = Snapshot(TARGET, 0.0)
STARTING = Snapshot(
    TARGET, 0.0, "uid", 1, 1, replicas=2, current=2, updated=2, available=0, conditions=BUSY, revision="new",
    pods=(POD,),
)  # fmt: skip
RUNNING = replace(STARTING, available=2, conditions=OVER)
DEGRADED = replace(RUNNING, available=1)
ROLLING = replace(RUNNING, generation=2, observed_generation=2, updated=1, conditions=BUSY, pods=(POD, OLD))
UNSEEN = replace(RUNNING, generation=2)
WAS_READY = replace(POD, ready_at=1.0)
ENDING = replace(OLD, terminating=True, ready_at=1.0)
EVICTED = replace(OLD, ready=False, phase="Failed", reason="Evicted")
NAMED = "web:dl-0000000000000001"


def changed(image: str) -> PodView:
    """A pod whose image an update in place changed, before the template names it."""
    return replace(POD, ready=True, containers=(replace(APP, image=image),))


SET_DEGRADED = replace(
    DEGRADED, target=Target("statefulset", "db", "default"), conditions={}, pods=(WAS_READY, WAS_READY)
)
# 001 "State Transitions": (what the cluster shows, status label of the release) before and after.
TRANSITIONS = [
    ((MISSING, ""), (MISSING, "pending-install"), D.NOT_DEPLOYED, D.INSTALLING),
    ((STARTING, "pending-install"), (STARTING, "deployed"), D.INSTALLING, D.DEPLOYED),
    ((STARTING, "deployed"), (RUNNING, "deployed"), D.DEPLOYED, D.RUNNING),
    ((RUNNING, "deployed"), (DEGRADED, "deployed"), D.RUNNING, D.DEGRADED),
    ((DEGRADED, "deployed"), (RUNNING, "deployed"), D.DEGRADED, D.RUNNING),
    ((RUNNING, "deployed"), (RUNNING, "pending-upgrade"), D.RUNNING, D.UPGRADING),
    ((ROLLING, "deployed"), (RUNNING, "deployed"), D.UPGRADING, D.RUNNING),
    ((RUNNING, "deployed"), (RUNNING, "uninstalling"), D.RUNNING, D.UNINSTALLING),
    ((RUNNING, "uninstalling"), (MISSING, ""), D.UNINSTALLING, D.NOT_DEPLOYED),
]


@pytest.mark.parametrize("before, after, word, next_word", TRANSITIONS)
def test_each_transition_of_a_deployment(
    before: tuple[Snapshot, str], after: tuple[Snapshot, str], word: D, next_word: D
) -> None:
    assert (deployment_state(*before), deployment_state(*after)) == (word, next_word)
    assert (word, next_word) in DEPLOYMENT_TRANSITIONS


BY_ANNOTATION = [
    (MISSING, replace(STARTING, writing="installing"), D.NOT_DEPLOYED, D.INSTALLING),
    (replace(STARTING, writing="installing"), STARTING, D.INSTALLING, D.DEPLOYED),
    (RUNNING, replace(RUNNING, writing="upgrading"), D.RUNNING, D.UPGRADING),
    (replace(RUNNING, writing="upgrading"), RUNNING, D.UPGRADING, D.RUNNING),
    (RUNNING, replace(RUNNING, writing="uninstalling"), D.RUNNING, D.UNINSTALLING),
    (replace(RUNNING, writing="uninstalling"), MISSING, D.UNINSTALLING, D.NOT_DEPLOYED),
]


@pytest.mark.parametrize("before, after, word, next_word", BY_ANNOTATION)
def test_transitions_of_plain_manifests_by_devloops_annotation(
    before: Snapshot, after: Snapshot, word: D, next_word: D
) -> None:
    assert (deployment_state(before), deployment_state(after)) == (word, next_word)
    assert (word, next_word) in DEPLOYMENT_TRANSITIONS


def test_the_table_is_whole() -> None:
    assert {(word, then) for _, _, word, then in TRANSITIONS} == DEPLOYMENT_TRANSITIONS
    assert len(DEPLOYMENT_TRANSITIONS) == 9
    assert len(POD_TRANSITIONS) == 7
    assert len(D) == len(P) == 7


@pytest.mark.parametrize(
    "snapshot, release, word",
    [
        (ROLLING, "", D.UPGRADING),
        (UNSEEN, "", D.UPGRADING),
        (RUNNING, "pending-rollback", D.UPGRADING),
        (RUNNING, "failed", D.RUNNING),
        (replace(RUNNING, deleting=True), "", D.UNINSTALLING),
        # Plain manifests: devloop's annotation, dev.devloop/state.
        (replace(STARTING, writing="installing"), "", D.INSTALLING),
        (replace(RUNNING, writing="upgrading"), "", D.UPGRADING),
        (replace(RUNNING, writing="uninstalling"), "", D.UNINSTALLING),
        (replace(RUNNING, writing="uninstalling", deleting=True), "", D.UNINSTALLING),
        (replace(MISSING, writing="uninstalling"), "", D.NOT_DEPLOYED),
        (replace(RUNNING, writing="anything"), "", D.RUNNING),
        (replace(RUNNING, writing="upgrading", helm_managed=True), "deployed", D.RUNNING),
        (replace(RUNNING, writing="upgrading"), "pending-install", D.INSTALLING),
        (replace(STARTING, conditions={}), "", D.DEPLOYED),
        # A rollout's own steps are no degradation, of whatever kind and strategy.
        (SET_DEGRADED, "", D.DEGRADED),
        (
            replace(SET_DEGRADED, pods=(WAS_READY, POD)),
            "",
            D.DEPLOYED,
        ),  # its first rollout: the second starts
        (
            replace(SET_DEGRADED, pods=(replace(WAS_READY, ready=True),) * 2),
            "",
            D.DEPLOYED,
        ),  # its first rollout: the second pod is ready, and its status does not count it yet
        (replace(SET_DEGRADED, later=True), "", D.UPGRADING),
        (replace(SET_DEGRADED, pods=(WAS_READY, ENDING)), "", D.UPGRADING),
        (replace(SET_DEGRADED, later=True, pods=(ENDING,)), "", D.UPGRADING),
        (replace(DEGRADED, pods=(ENDING,)), "", D.UPGRADING),  # Recreate: the controller still says available
        (replace(DEGRADED, revision="", pods=()), "", D.DEPLOYED),
        (replace(DEGRADED, revision="", later=True, pods=()), "", D.UPGRADING),
        (replace(DEGRADED, conditions=BUSY, later=True), "", D.UPGRADING),
        (replace(DEGRADED, later=True), "", D.DEGRADED),
        (replace(DEGRADED, images={"app": NAMED}, pods=(changed(NAMED),)), "", D.DEGRADED),
        (
            replace(DEGRADED, images={"app": NAMED}, pods=(changed("web:dl-0000000000000002"),)),
            "",
            D.UPGRADING,
        ),
        (
            replace(RUNNING, images={"app": NAMED}, pods=(changed("web:dl-0000000000000002"),)),
            "",
            D.UPGRADING,
        ),
        (replace(RUNNING, images={"app": NAMED}, pods=(changed("web:by-hand"),)), "", D.RUNNING),
        (replace(DEGRADED, pods=(EVICTED,)), "", D.DEGRADED),
        (replace(RUNNING, replicas=0, current=0, updated=0, available=0), "", D.RUNNING),
    ],
)
def test_what_the_cluster_shows_without_a_helm_at_work(snapshot: Snapshot, release: str, word: D) -> None:
    assert deployment_state(snapshot, release) is word


STARTED = replace(APP, running=True)
FAILED = replace(POD, scheduled=True, containers=(replace(APP, exit_code=1),))
LOOPING = replace(FAILED, containers=(replace(APP, exit_code=1, waiting="CrashLoopBackOff", restarts=2),))
CREATING = replace(POD, scheduled=True)
POD_RUNNING = replace(CREATING, phase="Running", containers=(STARTED,))
READY = replace(POD_RUNNING, ready=True)
POD_ROWS = [
    (POD, CREATING, P.PENDING, P.CREATING),
    (CREATING, POD_RUNNING, P.CREATING, P.RUNNING),
    (POD_RUNNING, READY, P.RUNNING, P.READY),
    (READY, replace(READY, terminating=True), P.READY, P.TERMINATING),
    (POD_RUNNING, FAILED, P.RUNNING, P.FAILED),
    (FAILED, POD, P.FAILED, P.PENDING),
    (FAILED, LOOPING, P.FAILED, P.CRASH_LOOP),
]


@pytest.mark.parametrize("before, after, word, next_word", POD_ROWS)
def test_each_transition_of_a_pod(before: PodView, after: PodView, word: P, next_word: P) -> None:
    assert (pod_state(before), pod_state(after)) == (word, next_word)
    assert {(word, then) for _, _, word, then in POD_ROWS} == POD_TRANSITIONS


def test_a_container_that_runs_again_is_not_failed() -> None:
    again = replace(STARTED, exit_code=1, restarts=1)
    assert pod_state(replace(POD_RUNNING, containers=(again,))) is P.RUNNING
    assert pod_state(replace(READY, containers=(again,))) is P.READY


def test_what_happens_between_two_looks_is_passed_through() -> None:
    assert list(deployment_path(D.NOT_DEPLOYED, D.RUNNING)) == [D.INSTALLING, D.DEPLOYED, D.RUNNING]
    assert list(deployment_path(D.RUNNING, D.NOT_DEPLOYED)) == [D.UNINSTALLING, D.NOT_DEPLOYED]
    for start in D:
        for end in set(D) - {start}:
            path = (start, *deployment_path(start, end))
            assert path[-1] is end
            assert set(pairwise(path)) <= DEPLOYMENT_TRANSITIONS, (start, end)


def test_a_container_that_another_service_sets_is_no_update_in_place() -> None:
    """As `sharing.marked` shows a shared workload: the other's container is not among its images."""
    other = replace(APP, name="other", image="other:dl-0000000000000002")
    pod = replace(POD, ready=True, containers=(replace(APP, image=NAMED), other))
    shared = replace(RUNNING, images={"app": NAMED}, pods=(pod, pod))
    assert deployment_state(shared) is D.RUNNING
