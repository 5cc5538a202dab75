"""The judgement on rollouts: tables of snapshots, one line of Kubernetes' behaviour each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devloop.model import (
    ContainerView,
    EventView,
    PodView,
    Progressing,
    Ready,
    Revision,
    Snapshot,
    Stuck,
    Target,
)
from devloop.rollout.judge import (
    MISSING,
    REPLACED,
    START_OVER,
    TEMPLATE_CHANGED,
    Expectation,
    carries,
    drift,
    failed_containers,
    judge,
    lost_image,
    own_pods,
)
from devloop.rollout.symptoms import FATAL, GRACE, read_log
from devloop.rollout.target_symptoms import pods_to_replace

IMAGE = "todo"
REF = "todo:dl-00000000000000aa"
OLD_REF = "todo:dl-00000000000000bb"
ID = "sha256:" + "a" * 64
TARGET = Target("deployment", "todo", "dev")
STATEFUL = Target("statefulset", "db", "dev")
PATCHED = 1000.0
EXPECTED = Expectation(IMAGE, REF, ID, 5, "uid-1", PATCHED, changed=True)


def container(**fields: Any) -> ContainerView:
    return replace(ContainerView("app", REF, ID, True, 0, running=True), **fields)


def waiting(reason: str, **fields: Any) -> ContainerView:
    return container(ready=False, running=False, waiting=reason, image_id="", **fields)


def pod(name: str = "todo-1", *containers: ContainerView, **fields: Any) -> PodView:
    base = PodView(
        name, "dev", f"uid-{name}", "new", "Running", True, False, True, "", containers or (container(),)
    )
    return replace(base, **fields)


def old_pod(name: str = "todo-0", **fields: Any) -> PodView:
    return pod(name, container(image=OLD_REF, image_id="sha256:bb"), revision="old", **fields)


def complete(**fields: Any) -> Snapshot:
    """A Deployment of one replica that is all there."""
    base = Snapshot(
        TARGET,
        at=PATCHED + 2,
        uid="uid-1",
        generation=5,
        observed_generation=5,
        replicas=1,
        current=1,
        updated=1,
        available=1,
        images={"app": REF},
        revision="new",
        pods=(pod(),),
    )
    return replace(base, **fields)


def rolling(*pods: PodView, **fields: Any) -> Snapshot:
    """One new pod that is not ready, beside the old one."""
    return complete(current=2, available=1, pods=(*pods, old_pod()), **fields)


def stuck(snapshot: Snapshot, now: float = PATCHED + 2, expected: Expectation = EXPECTED) -> Stuck:
    verdict = judge(snapshot, expected, now)
    assert isinstance(verdict, Stuck), verdict
    return verdict


def progressing(
    snapshot: Snapshot, now: float = PATCHED + 2, expected: Expectation = EXPECTED
) -> Progressing:
    verdict = judge(snapshot, expected, now)
    assert isinstance(verdict, Progressing), verdict
    return verdict


# --- S18: kubectl's rules -----------------------------------------------------------------------


def test_s18_a_complete_rollout_is_ready_with_its_pods() -> None:
    assert judge(complete(), EXPECTED, PATCHED + 2) == Ready((pod(),))


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 4, "observed_generation": 4, "images": {"app": OLD_REF}},  # the watch is behind
        {"observed_generation": 4},  # the controller has not seen it
        {"observed_generation": 0},
        {"updated": 0},
        {"current": 2},  # an old pod is pending termination
        {"available": 0},
        {"replicas": 2},
        {"generation": 6},  # somebody scaled it: what the controller says is of the template before
    ],
)
def test_s18_not_complete_while_a_rule_of_kubectl_fails(fields: dict[str, Any]) -> None:
    progressing(complete(**fields))


def test_s18_a_foreign_change_that_keeps_the_image_is_judged_again() -> None:
    assert isinstance(judge(complete(generation=6, observed_generation=6), EXPECTED, PATCHED), Ready)


def test_s18_paused_is_stuck_at_once_with_the_resume_line() -> None:
    verdict = stuck(rolling(paused=True), PATCHED, replace(EXPECTED, context="minikube"))
    assert verdict.reason == "Paused"
    assert verdict.hint == "kubectl rollout resume deployment/todo -n dev --context minikube"


def test_s18_paused_after_its_pods_are_ready_is_no_trouble() -> None:
    assert isinstance(judge(complete(paused=True), EXPECTED, PATCHED), Ready)


def test_s18_zero_replicas_are_live_with_no_pods() -> None:
    snapshot = complete(replicas=0, current=0, updated=0, available=0, pods=())
    assert judge(snapshot, EXPECTED, PATCHED) == Ready(())


def test_s18_another_uid_starts_over() -> None:
    assert stuck(complete(uid="uid-2")).reason == REPLACED
    assert REPLACED in START_OVER


def test_s18_a_target_that_is_gone_starts_over() -> None:
    assert stuck(Snapshot(TARGET, PATCHED)).reason == MISSING


def test_s18_a_foreign_template_starts_over_and_names_the_writer() -> None:
    verdict = stuck(complete(generation=6, images={"app": OLD_REF}, writer="kubectl-set"))
    assert verdict.reason == TEMPLATE_CHANGED
    assert "kubectl-set" in verdict.message
    assert OLD_REF in verdict.message


def test_s18_progress_deadline_is_stuck_and_shows_the_probe() -> None:
    probe = EventView(
        "Pod/todo-1", "Warning", "Unhealthy", "Readiness probe failed: HTTP 503", 9, PATCHED + 5
    )
    snapshot = rolling(
        pod(ready=False, containers=(container(ready=False),)),
        conditions={"Progressing": ("False", "ProgressDeadlineExceeded", "has timed out progressing.")},
        since={"Progressing": PATCHED + 600},
        events=(probe,),
    )
    verdict = stuck(snapshot, PATCHED + 601)
    assert verdict.reason == "ProgressDeadlineExceeded"
    assert verdict.cause == "Readiness probe failed: HTTP 503"
    assert verdict.evidence == ("Unhealthy: Readiness probe failed: HTTP 503",)
    assert (verdict.pod, verdict.container) == ("todo-1", "app")


def test_s18_a_stale_progress_deadline_of_a_returned_replicaset_does_not_count() -> None:
    condition = {"Progressing": ("False", "ProgressDeadlineExceeded", "has timed out progressing.")}
    snapshot = rolling(
        pod(ready=False, containers=(container(ready=False),)),
        conditions=condition,
        since={"Progressing": PATCHED - 60},
    )
    verdict = progressing(snapshot)
    assert verdict.deadline == PATCHED + 600 + GRACE
    assert stuck(snapshot, PATCHED + 600 + GRACE).reason == "ProgressDeadlineExceeded"
    followed = replace(EXPECTED, changed=False)  # no PATCH of ours: the deadline is this rollout's own
    assert stuck(snapshot, expected=followed).reason == "ProgressDeadlineExceeded"


def test_s18_a_failing_probe_is_reported_while_it_lasts() -> None:
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Readiness probe failed: refused", 3, PATCHED + 2)
    snapshot = rolling(pod(ready=False, containers=(container(ready=False),)), events=(probe,))
    assert progressing(snapshot).note == "Readiness probe failed: refused"


# --- S18: StatefulSets --------------------------------------------------------------------------


def stateful(**fields: Any) -> Snapshot:
    return replace(complete(), **{"target": STATEFUL, "strategy": "RollingUpdate", **fields})


def test_s18_statefulset_is_ready_when_all_pods_are_updated() -> None:
    assert isinstance(judge(stateful(), EXPECTED, PATCHED), Ready)


def test_s18_statefulset_waits_for_ready_and_updated_replicas() -> None:
    progressing(stateful(replicas=2))
    progressing(stateful(updated=0, pods=(old_pod(),)))


def test_s18_statefulset_with_a_partition_needs_the_pods_above_it() -> None:
    pods = (pod("db-1"), old_pod("db-0"))
    assert judge(stateful(replicas=2, partition=1, available=2, pods=pods), EXPECTED, PATCHED) == Ready(
        (pod("db-1"),)
    )


def test_s18_statefulset_whose_partition_covers_all_pods_is_stuck() -> None:
    assert stuck(stateful(partition=1, updated=0, pods=(old_pod("db-0"),))).reason == "Partitioned"


def test_s18_statefulset_on_delete_names_the_pods_to_delete() -> None:
    verdict = stuck(stateful(updated=0, pods=(old_pod("db-0"),), strategy="OnDelete"))
    assert verdict.reason == "OnDelete"
    assert verdict.hint == "kubectl delete pod db-0 -n dev"


def test_s18_statefulset_that_waits_for_a_broken_old_pod_says_so_after_the_grace() -> None:
    broken = old_pod("db-0", ready=False)
    broken = replace(
        broken,
        since=PATCHED - 30,
        containers=(waiting("CrashLoopBackOff", exit_code=1, restarts=5),),
    )
    snapshot = stateful(updated=0, available=0, pods=(broken,))
    assert progressing(snapshot).deadline == PATCHED + GRACE
    verdict = stuck(snapshot, PATCHED + GRACE)
    assert verdict.reason == "BrokenPodBlocks"
    assert verdict.hint == "kubectl delete pod db-0 -n dev"


def broken_old(name: str = "db-0", image: str = OLD_REF, reason: str = "CrashLoopBackOff") -> PodView:
    view = old_pod(name, ready=False)
    crashing = waiting(reason, exit_code=1, restarts=5, image=image)
    return replace(view, since=PATCHED - 30, containers=(crashing,))


def test_s18_a_broken_old_pod_blocks_though_others_have_the_new_template() -> None:
    """The mend is an edit taken back: the pods that were not rolled yet carry that template already."""
    snapshot = stateful(replicas=2, updated=1, available=1, pods=(pod("db-0"), broken_old("db-1")))
    assert stuck(snapshot, PATCHED + GRACE).reason == "BrokenPodBlocks"


def test_s18_a_pod_that_devloops_own_earlier_image_broke_is_to_be_replaced() -> None:
    snapshot = stateful(replicas=2, updated=1, available=1, pods=(pod("db-0"), broken_old("db-1")))
    assert [one.name for one in pods_to_replace(snapshot, EXPECTED, PATCHED)] == ["db-1"]


@pytest.mark.parametrize(
    "view",
    [
        broken_old(image=IMAGE + ":latest"),
        replace(broken_old(), terminating=True),
        replace(broken_old(), revision="new"),
        old_pod("db-0"),
        replace(broken_old(reason="ImagePullBackOff"), since=PATCHED),
    ],
    ids=["no image of devloop's", "ends already", "this template", "ready", "may still be pulled"],
)
def test_s18_no_other_pod_is_replaced(view: PodView) -> None:
    assert pods_to_replace(stateful(updated=0, available=0, pods=(view,)), EXPECTED, PATCHED) == ()


@pytest.mark.parametrize("fields", [{"partition": 1}, {"strategy": "OnDelete"}])
def test_s18_what_would_come_back_or_is_the_users_to_delete_is_left(fields: dict[str, Any]) -> None:
    snapshot = stateful(replicas=2, updated=0, available=0, pods=(broken_old("db-0"),), **fields)
    assert pods_to_replace(snapshot, EXPECTED, PATCHED) == ()


def test_s18_above_the_partition_a_broken_pod_is_replaced() -> None:
    pods = (old_pod("db-0"), broken_old("db-1"))
    snapshot = stateful(replicas=2, updated=0, available=1, partition=1, pods=pods)
    assert [one.name for one in pods_to_replace(snapshot, EXPECTED, PATCHED)] == ["db-1"]


def never_ready(**fields: Any) -> PodView:
    """Its process runs, and its probe fails: nothing is wrong with it but that it is not ready."""
    ours = container(image=OLD_REF, image_id="sha256:bb", ready=False)
    return pod("db-0", ours, revision="old", ready=False, **fields)


def test_s18_an_old_pod_that_runs_and_is_never_ready_is_replaced_after_the_grace() -> None:
    """A wrong port, saved and mended: the StatefulSet would wait for the pod of the first save for ever."""
    snapshot = stateful(updated=0, available=0, pods=(never_ready(started_at=PATCHED - 30),))
    assert pods_to_replace(snapshot, EXPECTED, PATCHED + GRACE - 1) == ()
    verdict = progressing(snapshot)
    assert verdict.deadline == PATCHED + GRACE
    assert verdict.note == "db-0 of the old template is not ready, and statefulset/db waits for it"
    assert [one.name for one in pods_to_replace(snapshot, EXPECTED, PATCHED + GRACE)] == ["db-0"]


@pytest.mark.parametrize(
    "view",
    [
        never_ready(started_at=PATCHED + 5),
        never_ready(started_at=PATCHED - 30, terminating=True),
        never_ready(started_at=PATCHED - 30, containers=(container(image="db:1", ready=False),)),
        never_ready(started_at=PATCHED - 30, ready_at=PATCHED - 20),
    ],
    ids=["just begun", "ends already", "no image of devloop's", "was ready once"],
)
def test_s18_an_old_pod_that_is_not_ready_may_be_left(view: PodView) -> None:
    snapshot = stateful(updated=0, available=0, pods=(view,))
    assert pods_to_replace(snapshot, EXPECTED, PATCHED + GRACE) == ()


def test_s18_pods_of_a_deployment_are_left_to_its_controller() -> None:
    assert pods_to_replace(complete(available=0, pods=(broken_old(),)), EXPECTED, PATCHED) == ()


# --- S1: what a pod must run --------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        pod(ready=False),
        pod(terminating=True),
        pod("todo-1", container(image=OLD_REF)),
        pod(revision="old"),
    ],
    ids=["not ready", "terminating", "other image", "other template"],
)
def test_s1_counters_alone_do_not_make_it_live(view: PodView) -> None:
    assert not isinstance(judge(complete(pods=(view,)), EXPECTED, PATCHED + 2), Ready)


def test_s1_the_same_tag_with_another_content_is_no_match() -> None:
    verdict = stuck(complete(pods=(pod("todo-1", container(image_id="sha256:" + "c" * 64)),)))
    assert verdict.reason == "WrongImage"


@pytest.mark.parametrize("expected_id, actual", [("", ID), (ID, "todo@sha256:" + "d" * 64), (ID, ID)])
def test_s1_an_id_that_cannot_be_compared_does_not_count(expected_id: str, actual: str) -> None:
    snapshot = complete(pods=(pod("todo-1", container(image_id=actual)),))
    assert isinstance(judge(snapshot, replace(EXPECTED, image_id=expected_id), PATCHED), Ready)


def test_s1_sidecars_of_other_repositories_do_not_matter() -> None:
    sidecar = container(name="proxy", image="envoy:1", image_id="sha256:ee")
    snapshot = complete(images={"app": REF, "proxy": "envoy:1"}, pods=(pod("todo-1", container(), sidecar),))
    assert isinstance(judge(snapshot, EXPECTED, PATCHED), Ready)


def test_s14_with_a_container_named_only_that_one_counts() -> None:
    target = replace(TARGET, container="app")
    snapshot = complete(target=target, images={"app": "other/name:dl-00000000000000aa", "init": OLD_REF})
    assert carries(snapshot, IMAGE, "other/name:dl-00000000000000aa")
    assert not carries(snapshot, IMAGE, REF)


def test_s4_the_template_carries_the_reference_only_in_every_container_of_ours() -> None:
    assert carries(complete(images={"app": f"docker.io/library/{REF}", "x": "redis:7"}), IMAGE, REF)
    assert not carries(complete(images={"app": REF, "migrate": OLD_REF}), IMAGE, REF)
    assert not carries(complete(images={"x": "redis:7"}), IMAGE, REF)
    assert not carries(Snapshot(TARGET, 0.0), IMAGE, REF)


# --- S19: failures ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", sorted(FATAL))
@pytest.mark.parametrize("init", [False, True])
def test_s19_fatal_waiting_reasons_are_stuck_at_once(reason: str, init: bool) -> None:
    view = pod("todo-1", waiting(reason, message="the kubelet's message", init=init), ready=False)
    verdict = stuck(rolling(view))
    assert (verdict.reason, verdict.pod, verdict.container) == (reason, "todo-1", "app")
    assert "the kubelet's message" in verdict.message
    assert verdict.hint


@pytest.mark.parametrize("reason", ["ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"])
def test_s19_s13_a_missing_image_gets_ten_seconds_and_is_reported_as_lost(reason: str) -> None:
    view = pod("todo-1", waiting(reason), ready=False, since=PATCHED + 1)
    snapshot = rolling(view)
    assert lost_image(snapshot, EXPECTED)
    assert progressing(snapshot, PATCHED + 2).deadline == PATCHED + 11
    assert stuck(snapshot, PATCHED + 11).reason == reason


def test_s13_a_missing_image_that_is_not_ours_is_not_loaded_again() -> None:
    sidecar = waiting("ErrImagePull", name="proxy", image="envoy:1")
    snapshot = rolling(pod("todo-1", container(), sidecar, ready=False))
    assert not lost_image(snapshot, EXPECTED)
    assert not lost_image(complete(), EXPECTED)


def test_s19_unschedulable_gets_ten_seconds() -> None:
    view = pod(
        ready=False,
        unschedulable="0/1 nodes are available: 1 Insufficient memory.",
        scheduled=False,
        since=PATCHED + 1,
        containers=(container(ready=False, running=False, image_id=""),),
    )
    assert progressing(rolling(view)).deadline == PATCHED + 11
    verdict = stuck(rolling(view), PATCHED + 11)
    assert verdict.reason == "Unschedulable"
    assert "Insufficient memory" in verdict.message


def test_s19_failed_create_gets_ten_seconds_and_the_quota_hint() -> None:
    snapshot = complete(
        current=1,
        updated=0,
        pods=(old_pod(),),
        conditions={"ReplicaFailure": ("True", "FailedCreate", "pods is forbidden: exceeded quota: small")},
        since={"ReplicaFailure": PATCHED + 1},
    )
    assert progressing(snapshot).deadline == PATCHED + 11
    verdict = stuck(snapshot, PATCHED + 11)
    assert verdict.reason == "FailedCreate"
    assert "describe quota" in str(verdict.hint)


@pytest.mark.parametrize(
    "restarts, running",
    [(0, False), (1, True), (1, False), (2, True)],
    ids=["first exit", "restarted", "second exit", "restarted again"],
)
def test_s19_the_first_two_exits_are_no_outcome(restarts: int, running: bool) -> None:
    died = container(ready=False, running=running, restarts=restarts, exit_code=1, exit_reason="Error")
    snapshot = rolling(pod("todo-1", died, ready=False))
    progressing(snapshot)
    assert [(p.name, c.exit_code) for p, c in failed_containers(snapshot, EXPECTED)] == [("todo-1", 1)]


@pytest.mark.parametrize("restarts, running", [(2, False), (3, True)])
def test_s19_the_third_exit_is_an_outcome(restarts: int, running: bool) -> None:
    died = container(ready=False, running=running, restarts=restarts, exit_code=1, exit_reason="Error")
    verdict = stuck(rolling(pod("todo-1", died, ready=False)))
    assert "exited with code 1" in verdict.message
    assert "3 times" in verdict.message


def test_s19_crash_loop_back_off_is_an_outcome() -> None:
    died = waiting("CrashLoopBackOff", exit_code=1, exit_reason="Error", restarts=1)
    assert stuck(rolling(pod("todo-1", died, ready=False))).reason == "CrashLoopBackOff"


def test_s19_a_crash_of_an_old_pod_is_not_the_new_templates() -> None:
    died = replace(
        old_pod(), ready=False, containers=(waiting("CrashLoopBackOff", image=OLD_REF, exit_code=1),)
    )
    progressing(complete(current=2, pods=(pod(ready=False, containers=(container(ready=False),)), died)))


def test_s19_a_failed_init_container_counts_and_a_finished_one_does_not() -> None:
    done = container(
        name="migrate", init=True, ready=True, running=False, exit_code=0, exit_reason="Completed"
    )
    app = container(ready=False, running=False, image_id="")
    progressing(rolling(pod("todo-1", done, app, ready=False)))
    broken = waiting("CrashLoopBackOff", name="migrate", init=True, exit_code=2, restarts=1)
    assert stuck(rolling(pod("todo-1", broken, app, ready=False))).container == "migrate"


def test_s19_oom_killed_names_the_limit() -> None:
    died = waiting(
        "CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled", restarts=1, memory_limit="64Mi"
    )
    verdict = stuck(rolling(pod("todo-1", died, ready=False)))
    assert verdict.reason == "OOMKilled"
    assert "64Mi" in str(verdict.hint)


def test_s19_a_process_that_ends_with_zero_has_to_keep_running() -> None:
    died = waiting("CrashLoopBackOff", exit_code=0, exit_reason="Completed", restarts=1)
    assert "keep running" in str(stuck(rolling(pod("todo-1", died, ready=False))).hint)


def test_s19_a_liveness_probe_that_kills_is_named() -> None:
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Liveness probe failed: HTTP 500", 3, PATCHED + 2)
    died = waiting("CrashLoopBackOff", exit_code=143, exit_reason="Error", restarts=1)
    verdict = stuck(rolling(pod("todo-1", died, ready=False), events=(probe,)))
    assert "Liveness probe failed: HTTP 500" in str(verdict.hint)


def test_s19_another_architecture_is_known_by_its_message_and_by_its_log() -> None:
    started = waiting("RunContainerError", message="exec /app: exec format error")
    verdict = stuck(rolling(pod("todo-1", started, ready=False)))
    assert "architecture" in str(verdict.hint)
    died = waiting("CrashLoopBackOff", exit_code=1, exit_reason="Error", restarts=1)
    verdict = stuck(rolling(pod("todo-1", died, ready=False)))
    explained = read_log(verdict, ("exec /app: exec format error",))
    assert "architecture" in str(explained.hint)
    assert explained.evidence == ("exec /app: exec format error",)


def test_s19_the_log_of_a_process_that_ended_by_itself_gives_the_cause() -> None:
    died = waiting("CrashLoopBackOff", exit_code=1, exit_reason="Error", restarts=1)
    verdict = stuck(rolling(pod("todo-1", died, ready=False)))
    log = ("Traceback (most recent call last):", '  File "/app/a.py", line 3, in f', "KeyError: 'PORT'")
    assert read_log(verdict, log).cause == "KeyError: 'PORT' (a.py, line 3)"
    assert "printed nothing" in str(read_log(verdict, ()).hint)


def test_s19_what_was_killed_is_explained_by_who_killed_it_and_not_by_its_log() -> None:
    log = ("ERROR: of some request",)
    full = waiting(
        "CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled", restarts=1, memory_limit="64Mi"
    )
    verdict = stuck(rolling(pod("todo-1", full, ready=False)))
    assert read_log(verdict, log).cause == "OOMKilled: it used more memory than its limit of 64Mi"
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Liveness probe failed: HTTP 500", 3, PATCHED + 2)
    died = waiting("CrashLoopBackOff", exit_code=143, exit_reason="Error", restarts=1)
    verdict = stuck(rolling(pod("todo-1", died, ready=False), events=(probe,)))
    assert read_log(verdict, log).cause == "Liveness probe failed: HTTP 500"
    done = waiting("CrashLoopBackOff", exit_code=0, exit_reason="Completed", restarts=1)
    assert read_log(stuck(rolling(pod("todo-1", done, ready=False))), log).cause == ""


def test_s19_a_failed_rollout_that_becomes_ready_is_ready() -> None:
    recovered = container(restarts=4, exit_code=1, exit_reason="Error")
    assert isinstance(judge(complete(pods=(pod("todo-1", recovered),)), EXPECTED, PATCHED), Ready)


# --- S20, S24: drift ----------------------------------------------------------------------------


def test_s20_a_template_that_is_not_the_trees_is_drift() -> None:
    assert drift(complete(), IMAGE, REF) is None
    difference = drift(complete(images={"app": OLD_REF}, writer="helm"), IMAGE, REF)
    assert difference is not None
    assert "helm" in difference
    assert drift(Snapshot(TARGET, 0.0), IMAGE, REF) is None


def test_s24_a_hold_of_this_very_tree_is_no_drift() -> None:
    held = complete(images={"app": OLD_REF}, hold="00000000000000aa")
    assert drift(held, IMAGE, REF) is None
    assert drift(held, IMAGE, "todo:dl-00000000000000cc") is not None


def test_own_pods_of_an_unknown_revision_are_known_by_image() -> None:
    assert own_pods(complete(revision=""), IMAGE, REF) == (pod(),)
    assert own_pods(complete(revision="", pods=(old_pod(),)), IMAGE, REF) == ()


def test_expectation_is_taken_from_the_revision() -> None:
    revision = Revision(TARGET, "uid-1", 5, REF, PATCHED)
    assert Expectation.of(IMAGE, revision, ID) == EXPECTED


def test_a_probe_that_was_refused_once_is_no_news() -> None:
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Readiness probe failed: refused", 1, PATCHED + 2)
    snapshot = rolling(pod(ready=False, containers=(container(ready=False),)), events=(probe,))
    assert progressing(snapshot).note == "1 old pods are pending termination"


def test_s19_the_evidence_of_a_crash_leaves_out_the_probe_it_refused() -> None:
    probe = EventView("Pod/todo-1", "Warning", "Unhealthy", "Readiness probe failed: refused", 9, PATCHED + 2)
    back_off = EventView("Pod/todo-1", "Warning", "BackOff", "Back-off restarting", 2, PATCHED + 2)
    died = waiting("CrashLoopBackOff", exit_code=1, exit_reason="Error", restarts=1)
    verdict = stuck(rolling(pod("todo-1", died, ready=False), events=(probe, back_off)))
    assert verdict.evidence == ("BackOff: Back-off restarting",)


def test_s13_an_image_that_was_loaded_again_gives_the_kubelet_time_to_look() -> None:
    view = pod("todo-1", waiting("ErrImageNeverPull"), ready=False, since=PATCHED)
    reloaded = replace(EXPECTED, loaded_at=PATCHED + 4)
    assert progressing(rolling(view), PATCHED + 12, reloaded).deadline == PATCHED + 24
    assert stuck(rolling(view), PATCHED + 24, reloaded).reason == "ErrImageNeverPull"
