from __future__ import annotations

from dataclasses import replace

import pytest

from devloop.errors import (
    BuildError,
    DevloopError,
    FingerprintError,
    LoadError,
    OvertakenError,
    PlatformError,
    PrerequisiteError,
    RolloutError,
    TargetMissingError,
    TreeMovedError,
)
from devloop.model import (
    Change,
    Failed,
    Held,
    Image,
    Live,
    LoadedImage,
    Neighbour,
    Outcome,
    Rollout,
    Snapshot,
    Superseded,
    Timing,
    Unchanged,
)
from devloop.trip.reconciler import (
    AGAIN,
    ServiceState,
    begun,
    ended,
    expectation_of,
    next_step,
    recovered,
    repeats,
)
from tests.support.fakes import SERVICE, FakeWorld, fingerprint

TIME = Timing(0.0, 0.0, ())
SAVED = Change(frozenset(), 0.0, 0.0)
TREE = fingerprint("v2")
REF = SERVICE.ref(TREE)
ID = f"sha256:{TREE.digest}"
LOADED = LoadedImage(Image("backend", TREE, REF, ID, "cli"), ("node",), "shared")


def shows(running: str, **changes: object) -> Snapshot:
    """The Deployment with one ready pod that runs `running`."""
    return replace(FakeWorld(running=running).feed_.latest, **changes)  # type: ignore[arg-type]


def failed(error: DevloopError, stage: str = "build", *, known: bool = True, loaded: bool = False) -> Failed:
    return Failed(stage, error, TIME, TREE if known else None, loaded=LOADED if loaded else None)


OURS, OTHER = shows(REF), shows("todo-backend:other", writer="kubectl-set")
WRONG = shows(REF, pods=(replace(OURS.pods[0], containers=(
    replace(OURS.pods[0].containers[0], image_id="sha256:other"),)),))  # fmt: skip
UNREADY = shows(REF, available=0, pods=(replace(OURS.pods[0], ready=False),))
LOST = shows(REF, available=0, pods=(replace(OURS.pods[0], ready=False, containers=(
    replace(OURS.pods[0].containers[0], ready=False, waiting="ErrImageNeverPull"),)),))  # fmt: skip
RESTARTED = replace(OURS, revision="another")
YOUNG = replace(OURS, revision="")  # its ReplicaSet was not shown yet
SHARED = replace(OURS, theirs={"side": Neighbour("side", "is live", "side:dl-1")})
SIDE_SAVED = {
    "side": Neighbour("side", "", "side:dl-2")
}  # the image that its trip writes into the same template
GONE = Snapshot(OURS.target, 0.0)
LIVE = Live(Rollout(LOADED, (), ()), TIME)
UNCHANGED = Unchanged(TREE, REF, TIME, image_id=ID)
ROLLED_BACK = shows("todo-backend:other", hold=TREE.digest)

# outcome, what the cluster showed as it ended, what it shows now -> (state, live), why a trip starts
TABLE: list[tuple[str, Outcome, Snapshot, Snapshot, tuple[str, bool], str]] = [
    ("live stays live", LIVE, OURS, OURS, ("live", True), ""),
    ("unchanged stays live", UNCHANGED, OURS, OURS, ("live", True), ""),
    ("live, another id under the tag", LIVE, OURS, WRONG, ("degraded", False), ""),
    ("unchanged, another id under the tag", UNCHANGED, OURS, WRONG, ("degraded", False), ""),
    ("live, its pod gets unready", LIVE, OURS, UNREADY, ("degraded", False), ""),
    ("live, rewritten", LIVE, OURS, OTHER, ("live", True), "kubectl-set changed the template"),
    ("live, rolled back", LIVE, OURS, ROLLED_BACK, ("live", True), "it is held at another image"),
    ("live, deleted", LIVE, OURS, GONE, ("live", True), "deployment/todo-backend was deleted"),
    ("live, a node lost it", LIVE, OURS, LOST, ("live", True), "a node lost the image"),
    ("live, another template", LIVE, OURS, RESTARTED, ("live", True),
     "deployment/todo-backend has another template"),
    ("live, its own ReplicaSet is shown late", LIVE, YOUNG, OURS, ("live", True), ""),
    ("live, its ReplicaSet is not shown for a moment", LIVE, OURS, YOUNG, ("live", True), ""),
    ("live, another template of a shared workload", LIVE, SHARED, replace(SHARED, revision="another"),
     ("live", True), "deployment/todo-backend has another template"),
    ("live, another service's image in the same pods", LIVE, SHARED,
     replace(SHARED, revision="another", theirs=SIDE_SAVED), ("live", True), ""),
    ("live, the controller has not seen another service's image", LIVE,
     replace(SHARED, generation=9, theirs=SIDE_SAVED),
     replace(SHARED, revision="another", theirs=SIDE_SAVED), ("live", True), ""),
    ("rollout failed, another template", failed(RolloutError("late"), "rollout", loaded=True), UNREADY,
     RESTARTED, ("failed", False), "deployment/todo-backend has another template"),
    ("not built, another template", failed(BuildError("RUN false")), OURS, RESTARTED, ("failed", False), ""),
    ("no fingerprint, all ready", failed(FingerprintError("no Dockerfile"), "fingerprint", known=False),
     OURS, OURS, ("failed", False), ""),
    ("no base, all ready", failed(BuildError("no base"), known=False), OURS, OURS, ("failed", False), ""),
    ("no fingerprint, rewritten", failed(FingerprintError("no"), known=False), OURS, OTHER,
     ("failed", False), ""),
    ("not built, the old image is ready", failed(BuildError("RUN false")), shows("todo-backend:dl-1"),
     shows("todo-backend:dl-1"), ("failed", False), ""),
    ("not built, and the tag is ready all the time", failed(BuildError("RUN false")), OURS, OURS,
     ("failed", False), ""),
    ("not built, and somebody put the tag there", failed(BuildError("RUN false")), OTHER, OURS,
     ("failed", False), "the cluster names the tree's image now"),
    ("rollout failed, later ready", failed(RolloutError("late"), "rollout", loaded=True), UNREADY, OURS,
     ("live", True), ""),
    ("rollout failed, later ready with another id", failed(RolloutError("late"), "rollout", loaded=True),
     UNREADY, WRONG, ("failed", False), ""),
    ("rollout failed, not ready", failed(RolloutError("late"), "rollout", loaded=True), UNREADY, UNREADY,
     ("failed", False), ""),
    ("load failed, the pods became ready", failed(LoadError("no"), "load"), UNREADY, OURS,
     ("failed", False), ""),
    ("target missing, still", failed(TargetMissingError("no"), "patch", loaded=True), GONE, GONE,
     ("waiting", False), ""),
    ("target missing, there now", failed(TargetMissingError("no"), "patch", loaded=True), GONE, OTHER,
     ("waiting", False), "the target exists now"),
    ("superseded", Superseded("build", TIME), OURS, OURS, ("superseded", False), ""),
    ("held", Held(TREE, TIME), ROLLED_BACK, ROLLED_BACK, ("held", False), ""),
    ("no longer held", Held(TREE, TIME), ROLLED_BACK, OTHER, ("held", False), "the hold was lifted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "before", "now", "expected", "trip"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_what_an_outcome_and_a_snapshot_lead_to(
    outcome: Outcome, before: Snapshot, now: Snapshot, expected: tuple[str, bool], trip: str
) -> None:
    state, _ = ended(SERVICE, ServiceState(), SAVED, outcome, [before], 0.0)
    after, step = next_step(SERVICE, state, [now], 1.0)
    assert (after.word, after.live) == expected
    assert step.trip == trip


@pytest.mark.parametrize("before", [LIVE, UNCHANGED, failed(RolloutError("late"), "rollout", loaded=True)])
@pytest.mark.parametrize("shown", [OURS, OTHER, WRONG, UNREADY, LOST])
def test_what_was_expected_of_the_last_trip_ends_with_it(before: Outcome, shown: Snapshot) -> None:
    """A trip that fails before it has a fingerprint inherits nothing from the one before."""
    state, _ = ended(SERVICE, ServiceState(), SAVED, before, [OURS], 0.0)
    state = begun(state, SAVED)
    assert expectation_of(SERVICE, state.outcome) is None
    assert next_step(SERVICE, state, [shown], 1.0)[0] == state
    error = FingerprintError("the Dockerfile is gone")
    state, _ = ended(SERVICE, state, SAVED, failed(error, "fingerprint", known=False), [OURS], 2.0)
    after, step = next_step(SERVICE, state, [shown], 3.0)
    assert (after.word, after.live, step.trip) == ("failed", False, "")
    assert recovered(SERVICE, after, [shown], 3.0) is None


def test_s20_another_template_after_a_replica_set_that_was_shown_late_is_followed() -> None:
    state, _ = ended(SERVICE, ServiceState(), SAVED, LIVE, [YOUNG], 0.0)
    state, step = next_step(SERVICE, state, [OURS], 1.0)
    assert step.trip == ""
    assert next_step(SERVICE, state, [RESTARTED], 2.0)[1].trip == f"{OURS.target} has another template"


def test_s20_a_template_that_changes_after_another_service_changed_it_is_followed() -> None:
    """Also where a StatefulSet's status shows the other's revision late."""
    state, _ = ended(SERVICE, ServiceState(), SAVED, LIVE, [SHARED], 0.0)
    saved = replace(SHARED, theirs=SIDE_SAVED)
    for now in (replace(saved, generation=9), replace(saved, revision="of side")):
        state, step = next_step(SERVICE, state, [now], 1.0)
        assert step.trip == ""
    step = next_step(SERVICE, state, [replace(saved, revision="edited")], 2.0)[1]
    assert step.trip == f"{OURS.target} has another template"


def test_s20_the_workload_that_has_another_template_is_named() -> None:
    second = replace(OURS, target=replace(OURS.target, name="second"))
    state, _ = ended(SERVICE, ServiceState(), SAVED, LIVE, [OURS, second], 0.0)
    step = next_step(SERVICE, state, [OURS, replace(second, revision="edited")], 1.0)[1]
    assert step.trip == "deployment/second has another template"


def test_s20_the_third_reversal_is_contested_and_a_rollback_is_none() -> None:
    state, _ = ended(SERVICE, ServiceState(), SAVED, LIVE, [OURS], 0.0)
    for number in range(4):
        held, step = next_step(SERVICE, state, [ROLLED_BACK], float(number))
        assert step.trip == "it is held at another image"
        state = replace(held, settled=(OURS,))
    for number in range(2):
        state, step = next_step(SERVICE, state, [OTHER], float(number))
        assert step.trip == "kubectl-set changed the template"
        state = replace(state, settled=(OURS,))
    state, step = next_step(SERVICE, state, [OTHER], 3.0)
    assert (state.word, state.live, step.trip) == ("contested", False, "")
    assert step.notice is not None
    assert "kubectl-set" in step.notice.message
    assert next_step(SERVICE, state, [OURS], 4.0) == (state, next_step(SERVICE, state, [], 4.0)[1])
    assert not begun(state, SAVED).contested


def test_s20_a_workload_that_is_deleted_again_and_again_is_contested_as_that() -> None:
    state, _ = ended(SERVICE, ServiceState(), SAVED, LIVE, [OURS], 0.0)
    for number in range(3):
        state, step = next_step(SERVICE, state, [GONE], float(number))
        state = replace(state, settled=(OURS,))
    assert (state.word, step.trip) == ("contested", "")
    assert step.notice is not None
    assert "deployment/todo-backend is deleted again and again" in step.notice.message


def test_another_services_container_of_the_same_workload_is_no_affair_of_ours() -> None:
    both = {"app": "todo-backend:other", "side": "todo-side:1"}
    before = shows("todo-backend:other", images=both)
    error = failed(BuildError("RUN false"))
    state, _ = ended(SERVICE, ServiceState(), SAVED, error, [before], 0.0)
    now = replace(before, images={**both, "side": "todo-side:2"})
    assert next_step(SERVICE, state, [now], 1.0)[1].trip == ""
    now = replace(before, images={"app": "elsewhere/backend:2", "side": "todo-side:1"})
    assert next_step(SERVICE, state, [now], 1.0)[1].trip == "somebody changed the template"


def test_s24_a_rollback_amid_the_rollout_is_no_reversal() -> None:
    error = OvertakenError("it carries another image")
    state, step = ended(
        SERVICE, ServiceState(), SAVED, failed(error, "rollout", loaded=True), [ROLLED_BACK], 0.0
    )
    assert (step.trip, state.reversals.times) == ("it is held at another image", ())


def test_an_overtaken_rollout_counts_as_a_reversal() -> None:
    error = OvertakenError("it carries another image")
    state, step = ended(SERVICE, ServiceState(), SAVED, failed(error, "rollout", loaded=True), [OTHER], 0.0)
    assert step.trip == "kubectl-set changed the template"
    assert len(state.reversals.times) == 1


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (TreeMovedError("it moved"), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0]),
        (PlatformError("gone"), [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]),
        (LoadError("disk full"), [2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]),
        (BuildError("no such base", outside_tree=True), [2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]),
        (
            RolloutError("gone from the node", reason="ErrImageNeverPull"),
            [2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0],
        ),
        (RolloutError("it crashes", reason="CrashLoopBackOff"), [None] * 7),
        (BuildError("RUN false"), [None] * 7),
        (PrerequisiteError("no secret"), [None] * 7),
        (TargetMissingError("no deployment"), [None] * 7),
    ],
)
def test_what_lies_outside_of_the_tree_is_looked_at_again_with_a_growing_pause(
    error: DevloopError, pauses: list[float | None]
) -> None:
    state, found = ServiceState(), []
    for number in range(7):
        state, _ = ended(SERVICE, begun(state, SAVED), SAVED, failed(error), [OTHER], float(number))
        found.append(state.pause)
    assert found == pauses
    state, _ = ended(SERVICE, begun(state, SAVED), SAVED, LIVE, [OURS], 9.0)
    assert state.pause is None
    state, _ = ended(SERVICE, begun(state, SAVED), SAVED, failed(error), [OURS], 9.0)
    assert state.pause == pauses[0]


def test_s8_a_tree_that_moved_is_looked_at_whole_with_its_first_times() -> None:
    change = replace(SAVED, paths=frozenset({SERVICE.build.dockerfile}), saved_at=-1.0)
    state, _ = ended(SERVICE, ServiceState(), change, failed(TreeMovedError("it moved")), [OURS], 0.0)
    assert state.undone == Change(frozenset(), 0.0, -1.0, AGAIN)
    assert begun(state, change).undone is None


def test_the_same_error_is_reported_once_and_again_after_a_save() -> None:
    again = replace(SAVED, why=AGAIN)
    error = failed(BuildError("no such base", outside_tree=True), known=False)
    state, _ = ended(SERVICE, ServiceState(), SAVED, error, [OURS], 0.0)
    assert repeats(state, again, error)
    assert not repeats(state, SAVED, error)
    assert not repeats(state, again, failed(BuildError("another", outside_tree=True)))
    assert not repeats(state, again, LIVE)
    assert begun(state, again).word == "failed"
    assert begun(state, SAVED).word == "working"
    gone = PlatformError("the engine is not reachable", reason="EngineGone")
    state, _ = ended(SERVICE, ServiceState(), SAVED, failed(gone, "build"), [OURS], 0.0)
    assert repeats(state, again, failed(gone, "fingerprint", known=False)), "wherever it stops the trip"
    moved = failed(TreeMovedError("a.py moved"))
    state, _ = ended(SERVICE, ServiceState(), SAVED, moved, [OURS], 0.0)
    assert repeats(state, SAVED, failed(TreeMovedError("b.py moved")))
