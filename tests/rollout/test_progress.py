"""What a rollout does over time: one truth for phases, stage and reason (S18, S32)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from devloop.errors import DevloopError
from devloop.events import Event, Notice, RolloutPhase, StageEnded, TripEnded
from devloop.model import (
    Change,
    Image,
    LoadedImage,
    PodView,
    Revision,
    Service,
    Snapshot,
    Span,
    Target,
    Timing,
    Unchanged,
)
from devloop.rollout.follow import follow
from devloop.rollout.progress import RolloutProgress, Waits, phases, waits_for, why_long
from devloop.stopwatch import Stopwatch
from devloop.trip.sharing import Sharing
from devloop.trip.worker import Worker
from tests.rollout.test_judge import (
    EXPECTED,
    IMAGE,
    PATCHED,
    REF,
    TARGET,
    complete,
    container,
    old_pod,
    pod,
    rolling,
    stateful,
)
from tests.support.fakes import SERVICE, FakeFeed, FakeWorld, fingerprint

SENT = Revision(TARGET, "uid-1", 5, REF, PATCHED)


# --- phases -------------------------------------------------------------------------------------


def reached(*snapshots: Snapshot, revisions: Sequence[Revision] = (SENT,)) -> list[tuple[str, float, bool]]:
    found = phases(IMAGE, list(zip(snapshots, revisions, strict=True)))
    return [(phase, round(seconds, 3), coarse) for phase, seconds, coarse in found]


def at(name: str, scheduled: float, started: float, ready: float, **fields: bool) -> PodView:
    return pod(
        name,
        scheduled_at=PATCHED + scheduled,
        started_at=PATCHED + started,
        ready_at=PATCHED + ready,
        **fields,
    )


def test_s32_phases_are_those_of_the_first_new_pod_since_the_patch() -> None:
    old = old_pod(scheduled_at=1.0, started_at=2.0, ready_at=3.0)
    pods = (at("a", 0.1, 0.5, 1.0), at("b", 0.2, 0.4, 1.5), old)
    snapshot = complete(replicas=2, current=2, updated=2, available=2, pods=pods)
    assert reached(snapshot) == [("scheduled", 0.1, False), ("started", 0.4, False), ("serving", 1.0, False)]


def test_s32_phases_of_two_targets_are_those_of_the_first_pod_of_both() -> None:
    later = replace(SENT, patched_at=PATCHED + 0.2)
    snapshots = complete(pods=(at("a", 0.5, 2.0, 3.0),)), complete(pods=(at("b", 0.6, 1.0, 9.0),))
    assert reached(*snapshots, revisions=(SENT, later)) == [
        ("scheduled", 0.4, False),
        ("started", 0.8, False),
        ("serving", 3.0, False),
    ]


def test_s32_a_running_rollout_has_only_the_phases_it_reached() -> None:
    view = pod(ready=False, scheduled_at=PATCHED + 0.1, coarse=True, containers=(container(ready=False),))
    assert reached(rolling(view)) == [("scheduled", 0.1, True)]


def test_s32_a_rollout_that_was_not_patched_has_no_phases() -> None:
    assert (
        reached(complete(pods=(at("a", -300.0, -290.0, 1.0),)), revisions=(replace(SENT, changed=False),))
        == []
    )


def test_s32_pods_that_were_there_before_the_patch_are_not_timed() -> None:
    """The template came back to a ReplicaSet whose pods still ran: 0.0 s would be nobody's rollout."""
    assert reached(complete(pods=(at("a", -5.0, -5.0, -4.0),))) == []
    assert reached(complete(replicas=2, pods=(at("a", -5.0, -5.0, -4.0), at("b", 0.1, 0.5, 1.0)))) == [
        ("scheduled", 0.1, False),
        ("started", 0.5, False),
        ("serving", 1.0, False),
    ]


def test_s18_a_whole_second_of_the_api_is_no_time_before_the_patch() -> None:
    assert [
        seconds for _, seconds, _ in reached(complete(pods=(at("a", -0.9, -0.9, 0.1, coarse=True),)))
    ] == [
        0.0,
        0.0,
        0.1,
    ]


# --- progress -----------------------------------------------------------------------------------


def test_s18_one_more_pod_gives_the_rollout_its_time_anew_and_a_step_back_does_not() -> None:
    half = complete(replicas=2, updated=1, current=2, pods=(pod("a", ready=False), old_pod()))
    ready = replace(half, pods=(pod("a"), old_pod()))
    gone = replace(ready, updated=2, pods=(pod("a"), pod("b", ready=False)))
    progress = RolloutProgress(PATCHED)
    times = []
    for number, snapshot in enumerate((half, half, ready, half, ready, gone, gone), 1):
        progress = progress.seen(snapshot, EXPECTED, PATCHED + number)
        times.append(progress.at - PATCHED)
    assert times == [0, 0, 3, 3, 3, 6, 6]


def test_s18_numbers_of_the_template_before_are_no_progress() -> None:
    progress = RolloutProgress(PATCHED).seen(complete(observed_generation=4), EXPECTED, PATCHED + 5)
    assert progress == RolloutProgress(PATCHED)


def test_s18_another_template_starts_its_own_count_and_two_that_take_turns_end() -> None:
    progress = RolloutProgress(PATCHED)
    for number, revision in enumerate(("new", "newer", "new", "newer"), 1):
        snapshot = complete(revision=revision, pods=(pod(revision=revision),))
        progress = progress.seen(snapshot, EXPECTED, PATCHED + number)
    assert progress.at == PATCHED + 2


# --- reasons ------------------------------------------------------------------------------------

ENDING = old_pod("db-0", ready=False, terminating=True, ending_since=PATCHED, grace=30.0, node="n1")
ALONE = stateful(updated=0, available=0, current=1, pods=(ENDING,))


@pytest.mark.parametrize(
    ("snapshot", "after", "words"),
    [
        (complete(observed_generation=4), 3, "the controller had yet to see"),
        (complete(generation=4, observed_generation=4), 3, "the controller had yet to see"),
        (complete(updated=0, pods=(old_pod(),)), 3, "yet to make the new pods"),
        (rolling(pod(ready=False, scheduled=False)), 3, "a place on a node"),
        (
            rolling(pod("a", container(ready=False, running=False, image_id=""), ready=False)),
            3,
            "creating the container",
        ),
        (rolling(pod("a", container(ready=False), ready=False)), 3, "the new process took long"),
        (
            rolling(pod("a"), pod("b", container(ready=False), ready=False), replicas=2),
            3,
            "the new processes of 2 pods had to become ready",
        ),
        (
            rolling(
                pod("a", container(ready=False), ready=False), probe_note="readinessProbe.periodSeconds 10"
            ),
            3,
            "readinessProbe.periodSeconds 10",
        ),
        (
            rolling(pod("a", container(ready=False), ready=False), cpu_limit="500m"),
            3,
            "the new process took long to become ready, with a CPU limit of 500m",
        ),
        (complete(available=0, probe_note="minReadySeconds 10"), 3, "minReadySeconds 10"),
        (ALONE, 12, "db-0 took 12.0 s to end (its grace period is 30 s)"),
        (ALONE, 30, "its whole grace period of 30 s to end: its process does not react to SIGTERM"),
        (replace(ALONE, pods=(replace(ENDING, pre_stop=True),)), 31, "its preStop hook or its process takes"),
        (ALONE, 90, "is its node n1 ready?"),
        (
            complete(strategy="Recreate", updated=0, current=0, available=0, pods=(ENDING,)),
            30,
            "does not react to SIGTERM",
        ),
    ],
)
def test_a_rollout_says_what_it_waits_for(snapshot: Snapshot, after: float, words: str) -> None:
    assert words in waits_for(snapshot, EXPECTED, PATCHED + after)[1]


def test_a_pod_that_ends_beside_a_rolling_update_is_not_waited_for() -> None:
    shown = rolling(pod("a", container(ready=False), ready=False), ENDING)
    assert "db-0" not in waits_for(shown, EXPECTED, PATCHED + 30)[1]


def test_the_reason_is_what_took_most_of_the_time() -> None:
    waits = Waits()
    slow = rolling(pod("a", container(ready=False), ready=False))
    waits = waits.spent(ALONE, EXPECTED, PATCHED, PATCHED + 30)
    waits = waits.spent(slow, EXPECTED, PATCHED + 30, PATCHED + 31)
    assert "does not react to SIGTERM" in waits.reason(31.0)
    assert waits.reason(100.0) == "", "nothing took half of it"
    assert Waits().reason(10.0) == ""


@pytest.mark.parametrize(
    ("seconds", "reason", "line"),
    [(1.9, "a probe", ""), (11.2, "a probe", "rollout 11.2 s: a probe"), (11.2, "", "")],
)
def test_a_long_rollout_gets_its_reason(seconds: float, reason: str, line: str) -> None:
    timing = Timing(0.0, seconds, (Span("rollout", 0.0, seconds, "ok"),), reason=reason)
    assert why_long(timing) == line


# --- a whole stage ------------------------------------------------------------------------------

SECOND = Target("statefulset", "todo-db", "default")
PAIR = replace(SERVICE, targets=(SERVICE.targets[0], SECOND))


class Stage:
    """The rollout stage of a service with one feed per target, as `follow` runs it."""

    def __init__(self, service: Service, *snapshots: Snapshot, ago: float = 0.0) -> None:
        self.fake = FakeWorld("v1")
        self.service = service
        self.feeds = [FakeFeed(snapshot) for snapshot in snapshots]
        now = self.fake.clock.now()
        self.watch = Stopwatch(service.name, Change(frozenset(), now, now), self.fake.clock, self.emit)
        self.events: list[Event] = []
        self.fake.events = self.events
        self.ref = service.ref(fingerprint("v1"))
        image = Image(service.name, fingerprint("v1"), self.ref, "", "cli")
        self.loaded = LoadedImage(image, ("node",), "shared")
        self.patched_at = now - ago

    def emit(self, event: Event) -> None:
        if hasattr(self, "events"):
            self.events.append(event)

    async def run(self, *, changed: bool = True) -> DevloopError | None:
        revisions = [
            Revision(
                feed.latest.target,
                feed.latest.uid,
                feed.latest.generation,
                self.ref,
                self.patched_at,
                changed,
            )
            for feed in self.feeds
        ]
        with anyio.fail_after(30):
            try:
                with self.watch.time("rollout"):
                    await follow(
                        self.service, self.feeds, revisions, self.loaded, self.fake.world(), self.watch
                    )
            except DevloopError as error:
                return error
        return None


def shown(target: Target, ref: str, *, ready: bool) -> Snapshot:
    fake = FakeWorld("v1")
    snapshot = replace(fake._snapshot(ref, 2), target=target)
    if ready:
        return snapshot
    view = replace(snapshot.pods[0], ready=False, ready_at=None)
    return replace(snapshot, available=0, pods=(view,))


async def test_s32_the_phase_complete_of_two_targets_is_the_end_of_the_stage() -> None:
    ref = PAIR.ref(fingerprint("v1"))
    stage = Stage(PAIR, shown(PAIR.targets[0], ref, ready=True), shown(SECOND, ref, ready=False), ago=1.0)

    async def second() -> None:
        await anyio.wait_all_tasks_blocked()
        assert [e.phase for e in stage.events if isinstance(e, RolloutPhase)] == [
            "scheduled",
            "started",
            "serving",
        ]
        await anyio.sleep(0.2)
        stage.feeds[1].latest = shown(SECOND, ref, ready=True)
        stage.feeds[1].show()

    async with anyio.create_task_group() as group:
        group.start_soon(second)
        assert await stage.run() is None
    (whole,) = [e.seconds for e in stage.events if isinstance(e, StageEnded)]
    (complete_at,) = [
        e.seconds for e in stage.events if isinstance(e, RolloutPhase) and e.phase == "complete"
    ]
    assert complete_at >= whole >= 0.2
    assert stage.watch.timing().phases["complete"] == complete_at


@pytest.mark.parametrize("kind", ["deployment", "statefulset"])
async def test_s18_a_rollout_that_stands_still_ends_at_the_services_rollout_timeout(kind: str) -> None:
    target = replace(SERVICE.targets[0], kind=kind)  # type: ignore[arg-type]
    service = replace(SERVICE, targets=(target,), rollout_timeout=0.05)
    for changed in (True, False):
        stage = Stage(service, shown(target, service.ref(fingerprint("v1")), ready=False))
        error = await stage.run(changed=changed)
        assert error is not None
        assert error.reason == "RolloutTimeout"
        assert stage.watch.timing().reason, "and what it waited for is known"


async def test_a_long_rollout_says_what_it_waits_for_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devloop.rollout.follow.TELL_AFTER", 0.01)
    service = replace(SERVICE, rollout_timeout=0.2)
    stage = Stage(service, shown(service.targets[0], service.ref(fingerprint("v1")), ready=False))
    await stage.run()
    messages = [event.message for event in stage.events if isinstance(event, Notice)]
    assert messages == ["still rolling out: 0 of 1 new pods are ready"], "once"


async def test_s4_a_standing_rollout_that_is_joined_is_in_no_histogram() -> None:
    fake = FakeWorld("v1")
    ref = SERVICE.ref(fingerprint("v1"))
    fake.built.add(ref)
    fake.feed_.latest = shown(SERVICE.targets[0], ref, ready=False)
    worker = Worker(SERVICE, fake.world(), Sharing(), ())
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        now = fake.clock.now()
        worker.inbox.put(Change(frozenset(), now, now, "start"))
        await anyio.wait_all_tasks_blocked()
        fake.roll(ref)
        with anyio.fail_after(20):
            while not any(isinstance(event, TripEnded) for event in fake.events):
                await anyio.sleep(0.005)
        group.cancel_scope.cancel()
    (ended,) = [event for event in fake.events if isinstance(event, TripEnded)]
    assert isinstance(ended.outcome, Unchanged)
    assert fake.patched == []
    assert not [event for event in fake.events if isinstance(event, RolloutPhase)]
    assert ended.outcome.timing.phases == {}
