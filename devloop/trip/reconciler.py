"""What a service's last trip, and the cluster since, ask for next. Pure: a state in, the next one out.

What the cluster is expected to show belongs to the outcome of the last trip: it is read from that outcome
alone (`expectation_of`), so it begins and ends with it. A trip that failed before it knew what to expect
expects nothing, and nothing that the cluster shows can make it live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devloop.errors import OvertakenError, PlatformError, TargetMissingError, TreeMovedError
from devloop.events import Notice
from devloop.model import (
    Change,
    Failed,
    Held,
    Live,
    Outcome,
    Ready,
    Service,
    Snapshot,
    Stuck,
    Superseded,
    Unchanged,
    outcome_word,
)
from devloop.rollout.hold import hold_of
from devloop.rollout.judge import Expectation, carries, judge, lost_image, serves, strays
from devloop.rollout.states import DeploymentState, deployment_state
from devloop.trip.drift import rewritten, rolling, with_revisions
from devloop.trip.pace import Reversals
from devloop.trip.waits import PAUSES, Wait, wait_after

AGAIN = "trying again"  # why a trip starts that nobody asked for: what it repeats is not reported twice


@dataclass(frozen=True, slots=True)
class ServiceState:
    """All that a worker knows of its service between two trips, and what it shows of it.

    `settled`: what the cluster showed when the last trip ended. `undone`: the change of a trip that has to
    start over. `tries`: trips in a row that ended in waiting for the same. `error_key`: the shown error.
    """

    outcome: Outcome | None = None  # of the last trip; None before the first, and while one runs
    settled: tuple[Snapshot, ...] = ()
    undone: Change | None = None
    waits_for: Wait | None = None
    tries: int = 0
    reversals: Reversals = field(default_factory=Reversals)
    contested: bool = False
    error_key: tuple[str, ...] = ()
    word: str = "starting"
    live: bool = False

    @property
    def pause(self) -> float | None:
        """Seconds until another look though nothing happens; None: no look of its own accord."""
        pauses = PAUSES.get(self.waits_for) if self.waits_for is not None else None
        return None if pauses is None else pauses[min(self.tries, len(pauses)) - 1]


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: start a trip for the reason `trip`, and report it."""

    trip: str = ""
    notice: Notice | None = None


NOTHING = Step()
Next = tuple[ServiceState, Step]


def begun(state: ServiceState, change: Change) -> ServiceState:
    """A trip starts: what was expected is over. A repeated look changes nothing of what is shown."""
    known = replace(state, outcome=None, undone=None, contested=False, live=False)
    return known if change.why == AGAIN and not state.live else replace(known, word="working")


def ended(
    service: Service,
    state: ServiceState,
    change: Change,
    outcome: Outcome,
    snapshots: Sequence[Snapshot],
    now: float,
) -> Next:
    """A trip is over: what it leaves undone, and what it waits for."""
    waits_for = wait_after(outcome)
    word, live = _shown_state(outcome)
    known = replace(
        state,
        outcome=outcome,
        settled=tuple(snapshots),
        undone=replace(change, paths=frozenset(), why=AGAIN) if waits_for == "moved" else None,
        waits_for=waits_for,
        tries=state.tries + 1 if waits_for == state.waits_for else 1,
        error_key=_key(outcome),
        word=word,
        live=live,
    )
    if isinstance(outcome, Failed) and isinstance(outcome.error, OvertakenError):
        return _reversed(service, known, snapshots, now)
    return known, NOTHING


def behind(state: ServiceState) -> ServiceState:
    """A newer change is known of than that of the last trip: until its own trip, nothing is live (S1)."""
    return replace(state, word="working", live=False) if state.live else state


def fell(state: ServiceState) -> ServiceState:
    """The worker itself ended by an error that nobody expected: what was known is known no more."""
    return replace(state, outcome=None, waits_for=None, word="failed", live=False)


def repeats(state: ServiceState, change: Change, outcome: Outcome) -> bool:
    """Whether the outcome is an error that was shown already, found by a look that nobody asked for."""
    again = change.why == AGAIN or wait_after(outcome) == "moved"
    return again and isinstance(outcome, Failed) and _key(outcome) == state.error_key


def next_step(service: Service, state: ServiceState, snapshots: Sequence[Snapshot], now: float) -> Next:
    """What the cluster shows now, judged by what the last trip expects of it (S20)."""
    outcome = state.outcome
    if outcome is None or state.contested or not snapshots:
        return state, NOTHING
    if isinstance(outcome, Failed) and isinstance(outcome.error, TargetMissingError):
        there = all(snapshot.exists for snapshot in snapshots)
        return state, Step("the target exists now") if there else NOTHING
    if isinstance(outcome, Held):
        held = _is_held(service, snapshots, outcome)
        return state, NOTHING if held else Step("the hold was lifted")
    expected = expectation_of(service, outcome)
    if expected is None:
        return state, NOTHING
    if all(carries(snapshot, service.image, expected.ref) for snapshot in snapshots):
        state = replace(state, settled=with_revisions(state.settled, snapshots))
        rolls = rolling(state.settled, snapshots) if _follows_rollouts(outcome) else None
        if rolls is not None:
            return replace(state, settled=tuple(snapshots)), Step(f"{rolls} has another template")
        return _review_pods(service, state, expected, snapshots, now)
    if rewritten(service, state.settled, snapshots, expected.ref):
        return _reversed(service, state, snapshots, now)
    return state, NOTHING


def expectation_of(service: Service, outcome: Outcome | None) -> Expectation | None:
    """What the cluster is to show after this outcome; None where it says nothing of it."""
    match outcome:
        case Live(rollout=rollout):
            return Expectation(service.image, rollout.loaded.image.ref, rollout.loaded.image.id)
        case Unchanged(ref=ref, image_id=image_id):
            return Expectation(service.image, ref, image_id)
        case Failed(fingerprint=fingerprint, loaded=loaded) if fingerprint is not None:
            return Expectation(service.image, service.ref(fingerprint), loaded.image.id if loaded else "")
        case _:
            return None


def recovered(
    service: Service, state: ServiceState, snapshots: Sequence[Snapshot], now: float
) -> Unchanged | None:
    """The outcome of a failed rollout that became ready after all (S19), None for whatever else."""
    outcome, expected = state.outcome, expectation_of(service, state.outcome)
    if expected is None or not expected.image_id or not snapshots:
        return None
    if not isinstance(outcome, Failed) or outcome.stage != "rollout" or outcome.fingerprint is None:
        return None
    if not all(isinstance(judge(snapshot, expected, now), Ready) for snapshot in snapshots):
        return None
    return Unchanged(outcome.fingerprint, expected.ref, outcome.timing, image_id=expected.image_id)


def trouble(
    service: Service, outcome: Outcome | None, snapshots: Sequence[Snapshot], now: float
) -> Stuck | None:
    """Why pods that were live will not be again by themselves; None where they are, or may be."""
    expected = expectation_of(service, outcome)
    if expected is None:
        return None
    verdicts = (judge(snapshot, expected, now) for snapshot in snapshots)
    return next((verdict for verdict in verdicts if isinstance(verdict, Stuck)), None)


# --- steps --------------------------------------------------------------------------------------


def _review_pods(
    service: Service, state: ServiceState, expected: Expectation, snapshots: Sequence[Snapshot], now: float
) -> Next:
    """The template is the tree's: are its pods still ready, or again?"""
    lost = any(lost_image(snapshot, expected) for snapshot in snapshots)
    if isinstance(state.outcome, Failed):
        return _review_failure(service, state, expected, snapshots, now)
    if lost:
        return state, Step("a node lost the image")
    left = next((pod.name for snapshot in snapshots for pod, _ in strays(snapshot, expected)), "")
    if left:
        return state, Step(f"{left} has another image than its template")
    verdicts = [judge(snapshot, expected, now) for snapshot in snapshots]
    if all(isinstance(verdict, Ready) for verdict in verdicts):
        return replace(state, word="live", live=True), NOTHING
    degraded = any(deployment_state(snapshot) is DeploymentState.DEGRADED for snapshot in snapshots)
    serving = all(serves(snapshot, expected) for snapshot in snapshots)
    if degraded or not serving or any(isinstance(verdict, Stuck) for verdict in verdicts):
        return replace(state, word="degraded", live=False), NOTHING
    return state, NOTHING


def _review_failure(
    service: Service, state: ServiceState, expected: Expectation, snapshots: Sequence[Snapshot], now: float
) -> Next:
    """A rollout that failed may still become ready (S19); any other stage has to be gone through again."""
    unchanged = recovered(service, state, snapshots, now)
    if unchanged is not None:
        notice = Notice(service.name, "info", "the failed rollout became ready after all: live")
        return replace(state, outcome=unchanged, waits_for=None, error_key=(), word="live", live=True), Step(
            notice=notice
        )
    assert isinstance(state.outcome, Failed)
    before = all(carries(snapshot, service.image, expected.ref) for snapshot in state.settled)
    if state.outcome.stage != "rollout" and not before:
        return replace(state, settled=tuple(snapshots)), Step("the cluster names the tree's image now")
    return state, NOTHING


def _reversed(service: Service, state: ServiceState, snapshots: Sequence[Snapshot], now: float) -> Next:
    """Somebody else wrote another image: mend it, unless it is held (S24), or a tug-of-war (S20)."""
    if _is_held(service, snapshots, state.outcome):
        return replace(state, settled=tuple(snapshots)), Step("it is held at another image")
    known = replace(state, settled=tuple(snapshots), reversals=state.reversals.noted(now))
    writer = next((s.writer for s in snapshots if s.writer), "") or "somebody"
    gone = next((str(snapshot.target) for snapshot in snapshots if not snapshot.exists), "")
    if not known.reversals.contested:
        return known, Step(f"{gone} was deleted" if gone else f"{writer} changed the template")
    what = f"{gone} is deleted again and again" if gone else f"{writer} keeps writing another image"
    contested = Notice(
        service.name,
        "error",
        f"contested: {what}; devloop stops until the next save",
        f"stop {'whoever does' if gone else 'that writer'}, or take {service.name} out of config.yaml",
    )
    given_up = replace(
        known, reversals=Reversals(), contested=True, waits_for=None, word="contested", live=False
    )
    return given_up, Step(notice=contested)


# --- reading an outcome -------------------------------------------------------------------------


def _follows_rollouts(outcome: Outcome) -> bool:
    """Whether a rollout that somebody else starts is a trip's to follow: the last one got that far itself."""
    return not isinstance(outcome, Failed) or outcome.stage == "rollout"


def _shown_state(outcome: Outcome) -> tuple[str, bool]:
    """(state, live) as shown to people and metrics."""
    if isinstance(outcome, Live | Unchanged):
        return "live", True
    waiting = wait_after(outcome) in ("platform", "prerequisite", "target", "dependency")
    return "waiting" if waiting else outcome_word(outcome), False


def _key(outcome: Outcome) -> tuple[str, ...]:
    """What makes an error the same one; a tree that moves is one, whichever file it is, and a platform that
    is gone is one in every stage."""
    if not isinstance(outcome, Failed):
        return ()
    moved = isinstance(outcome.error, TreeMovedError)
    stage = "" if isinstance(outcome.error, PlatformError) else outcome.stage
    return (stage, outcome.error.reason, "" if moved else outcome.error.message)


def _is_held(service: Service, snapshots: Sequence[Snapshot], outcome: Outcome | None) -> bool:
    """Whether the service is held back at the very tree that the outcome is of (S24)."""
    tree = _digest(outcome)
    return bool(tree) and any(hold_of(snapshot.hold, service.name) == tree for snapshot in snapshots)


def _digest(outcome: Outcome | None) -> str:
    fingerprint = None if outcome is None or isinstance(outcome, Superseded) else outcome.fingerprint
    return fingerprint.digest if fingerprint is not None else ""
