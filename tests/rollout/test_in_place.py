"""The flow of an update in place, over a scripted cluster: what real pods cannot be made to show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from devloop.errors import (
    BuildError,
    InPlaceError,
    OvertakenError,
    RolloutError,
    TargetMissingError,
    TreeMovedError,
)
from devloop.events import Notice, PodExited, RolloutPhase, Updated, UpdateFallback
from devloop.model import Change, Failed, Held, Live, Neighbour, Outcome, Progressing, Refusal, Service, Stuck
from devloop.ports import World
from devloop.rollout import in_place
from devloop.rollout.expectation import Expectation, strays
from devloop.rollout.follow import MOST_STRAYS
from devloop.rollout.judge import MISSING, judge
from devloop.stopwatch import Stopwatch
from devloop.trip.trip import trip
from tests.support.fakes import SERVICE, FakeUpdate, FakeWorld, fingerprint

IN_PLACE = replace(SERVICE, update="in-place")
BEFORE, AFTER = (SERVICE.ref(fingerprint(tree)) for tree in ("v1", "v2"))


def fake_world(pods: int = 1) -> FakeWorld:
    """`pods` pods run v1, and the tree is v2."""
    fake = FakeWorld("v2", running=BEFORE)
    (pod,) = fake.feed_.latest.pods
    several = tuple(replace(pod, name=f"web-{n}", uid=f"pod-{n}") for n in range(pods))
    fake.feed_.show(pods=several, replicas=pods, current=pods, updated=pods, available=pods)
    return fake


async def travel(fake: FakeWorld, world: World | None = None, service: Service = IN_PLACE) -> Outcome:
    now = fake.clock.now()
    change = Change(frozenset(), now, now)
    watch = Stopwatch(SERVICE.name, change, fake.clock, fake.events.append)
    with anyio.fail_after(20):
        return await trip(service, change, [fake.feed_], world or fake.world(), watch)


@asynccontextmanager
async def under_way(fake: FakeWorld, service: Service = IN_PLACE) -> AsyncIterator[list[Outcome]]:
    """A trip that has gone as far as it gets by itself; its outcome is in the list when the block is over."""
    outcomes: list[Outcome] = []

    async def go() -> None:
        outcomes.append(await travel(fake, service=service))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        await anyio.wait_all_tasks_blocked()
        yield outcomes


def of(fake: FakeWorld, kind: type) -> list[object]:
    return [event for event in fake.events if isinstance(event, kind)]


@pytest.mark.parametrize("pods", [1, 3])
async def test_s33_every_pod_gets_the_image_and_nothing_is_rolled(pods: int) -> None:
    fake = fake_world(pods)
    outcome = await travel(fake)
    assert isinstance(outcome, Live)
    assert outcome.rollout.update == "in-place"
    assert fake.put == [(f"pod-{n}", AFTER) for n in range(pods)]
    assert fake.patched == []
    assert of(fake, Updated) == [Updated("backend", "in-place")]
    assert {event.phase for event in of(fake, RolloutPhase)} == {"started", "serving", "complete"}  # type: ignore[attr-defined]
    ran = [span.stage for span in outcome.timing.spans]
    assert ran == ["detect", "fingerprint", "build", "load", "patch", "rollout"]


async def test_s33_the_next_pod_waits_until_this_one_is_available() -> None:
    fake = fake_world(2)
    gate = anyio.Event()
    fake.puts.script = [gate]
    async with anyio.create_task_group() as group:
        group.start_soon(travel, fake)
        await anyio.wait_all_tasks_blocked()
        assert fake.puts.calls == 1
        gate.set()
    assert [uid for uid, _ in fake.put] == ["pod-0", "pod-1"]


async def test_s34_what_is_refused_is_rolled_and_reported_once() -> None:
    fake = fake_world()
    world = fake.world()
    fake.refusal = Refusal("seen_in_pod", "it ran here before")
    assert isinstance(await travel(fake, world), Live)
    fake.tree = "v3"
    assert isinstance(await travel(fake, world), Live)
    assert fake.patched == [AFTER, SERVICE.ref(fingerprint("v3"))]
    assert [event.first for event in of(fake, UpdateFallback)] == [True, False]  # type: ignore[attr-defined]
    assert of(fake, Updated) == [Updated("backend", "roll")] * 2


async def test_s34_where_the_template_names_the_image_already_there_is_nothing_to_report() -> None:
    fake = fake_world()
    fake.refusal = Refusal("", "it was just installed")
    assert isinstance(await travel(fake), Live)
    assert fake.patched == [AFTER]
    assert of(fake, UpdateFallback) == []


async def test_s34_what_cannot_go_on_is_rolled() -> None:
    fake = fake_world()
    fake.puts.script = [InPlaceError("somebody else wrote")]
    outcome = await travel(fake)
    assert isinstance(outcome, Live)
    assert outcome.rollout.update == "roll"
    assert [event.reason for event in of(fake, UpdateFallback)] == ["conflict"]  # type: ignore[attr-defined]


async def test_s35_a_container_that_ends_gives_way_to_the_image_before() -> None:
    fake = fake_world(3)
    fake.ends = True
    outcome = await travel(fake)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, RolloutError)
    assert outcome.stage == "rollout"
    assert outcome.error.evidence == fake.last_lines
    assert BEFORE in outcome.error.message
    assert fake.undone == ["pod-0"], "the others never had it"
    assert fake.patched == []
    assert len(of(fake, PodExited)) == 1


async def test_s35_a_pod_that_was_left_with_another_image_is_replaced() -> None:
    fake = fake_world(2)
    first, second = fake.feed_.latest.pods
    left = replace(first, containers=(replace(first.containers[0], image=SERVICE.ref(fingerprint("v0"))),))
    fake.feed_.show(pods=(left, second))
    fake.tree = "v1"  # which the template names already
    fake.built.add(BEFORE)
    expected = Expectation(SERVICE.image, BEFORE)
    assert [pod.uid for pod, _ in strays(fake.feed_.latest, expected)] == ["pod-0"]
    assert "yet to get" in getattr(judge(fake.feed_.latest, expected, 0.0), "note", "")
    await travel(fake)
    assert fake.deleted == ["pod-0"]
    assert not list(strays(fake.feed_.latest, expected))


async def test_s35_pods_that_serve_with_another_image_are_replaced_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = fake_world(3)
    other = SERVICE.ref(fingerprint("v0"))
    pods = tuple(
        replace(pod, containers=(replace(pod.containers[0], image=other),)) for pod in fake.feed_.latest.pods
    )
    fake.feed_.show(pods=pods)
    fake.tree = "v1"
    fake.built.add(BEFORE)
    dropped: list[str] = []

    async def drop(update: FakeUpdate, pod: str, uid: str, container: str) -> bool:
        dropped.append(uid)
        new = tuple(
            replace(one, ready=False, containers=(replace(one.containers[0], image=BEFORE),))
            if one.uid == uid
            else one
            for one in fake.feed_.latest.pods
        )
        fake.feed_.show(pods=new)
        return True

    monkeypatch.setattr(FakeUpdate, "drop", drop)
    async with anyio.create_task_group() as group:
        group.start_soon(travel, fake)
        for number in (1, 2, 3):
            while len(dropped) < number:
                await anyio.sleep(0)
            await anyio.wait_all_tasks_blocked()
            assert len(dropped) == number, "the others serve meanwhile"
            fake.feed_.show(pods=tuple(replace(one, ready=True) for one in fake.feed_.latest.pods))
    assert dropped == ["pod-0", "pod-1", "pod-2"]


async def test_s35_a_pause_that_devloop_left_is_ended_though_the_template_names_the_image() -> None:
    fake = FakeWorld("v1", running=BEFORE)
    fake.feed_.show(paused=True, in_place=BEFORE)
    fake.refusal = Refusal("unfinished", "cut off")
    await travel(fake)
    assert fake.patched == [BEFORE]


async def test_s26_s33_a_container_of_another_service_that_is_not_ready_does_not_hold_up_the_update() -> None:
    fake = fake_world()
    (pod,) = fake.feed_.latest.pods
    other = replace(pod.containers[0], name="other", image="other:dl-0000000000000001", ready=False)
    fake.feed_.show(pods=(replace(pod, ready=False, containers=(*pod.containers, other)),))
    fake.feed_.show(theirs={"other": Neighbour("other", "failed in rollout")})
    fake.keeps_unready = True
    with anyio.move_on_after(0.5):  # the rollout itself waits on: that is its own affair
        await travel(fake)
    assert fake.feed_.latest.images == {"app": AFTER}
    assert fake.undone == []


@pytest.mark.parametrize("old", [True, False])
async def test_s33_a_long_wait_is_reported_once(monkeypatch: pytest.MonkeyPatch, *, old: bool) -> None:
    monkeypatch.setattr(in_place, "REPORT_AFTER", 0.02)
    fake = fake_world()
    fake.keeps_unready, fake.keeps_old = True, old
    with anyio.move_on_after(0.3):
        await travel(fake)
    notices = [event.message for event in of(fake, Notice)]  # type: ignore[attr-defined]
    what = "the process before in web-0 has not ended yet" if old else "web-0 is not ready"
    assert [text for text in notices if "still updating" in text] == [f"still updating in place: {what}"]
    assert fake.feed_.latest.images == {"app": BEFORE}


@pytest.mark.parametrize("old", [True, False])
async def test_s35_what_took_too_long_is_named(*, old: bool) -> None:
    fake = fake_world()
    fake.keeps_unready, fake.keeps_old = True, old
    fake.feed_.show(pods=tuple(replace(pod, stop_grace=0.0) for pod in fake.feed_.latest.pods))
    outcome = await travel(fake, service=replace(IN_PLACE, rollout_timeout=0.05))
    assert isinstance(outcome, Failed)
    assert outcome.error.reason == "RolloutTimeout"
    assert ("the process before in web-0 has not ended yet" in outcome.error.message) is old
    assert ("SIGTERM" in (outcome.error.hint or "")) is old
    assert fake.undone == ["pod-0"]


async def test_s33_an_image_that_was_patched_just_before_is_not_taken_for_this_one() -> None:
    """v1.5 was PATCHed while v1 had its grace period: the kubelet starts it, and then v2."""
    fake = fake_world()
    fake.keeps_old = True
    (pod,) = fake.feed_.latest.pods

    def show(image_id: str, restarts: int, *, ready: bool) -> None:
        app = replace(
            pod.containers[0], image=AFTER, image_id=image_id, restarts=restarts, ready=ready, first=1
        )
        ended = replace(app, exit_code=143, exit_reason="Error") if restarts > 1 else app
        fake.feed_.show(pods=(replace(pod, containers=(ended,), ready=ready),))

    async with under_way(fake) as outcomes:
        show("sha256:of-the-one-before", 1, ready=True)
        await anyio.wait_all_tasks_blocked()
        assert fake.feed_.latest.images == {"app": BEFORE}, "it was taken for the new one"
        for ready in (False, True):
            show(fake.ids[AFTER], 2, ready=ready)
            await anyio.wait_all_tasks_blocked()
    assert isinstance(outcomes[0], Live), outcomes
    assert fake.undone == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_s35_a_container_that_ends_within_min_ready_seconds_gives_way_too(*, restarted: bool) -> None:
    fake = fake_world(3)
    fake.min_ready = 60.0
    pods = fake.feed_.latest.pods  # which were updated twice before
    fake.feed_.show(pods=tuple(replace(p, containers=(replace(p.containers[0], restarts=2),)) for p in pods))
    async with under_way(fake) as outcomes:
        assert fake.put == [("pod-0", AFTER)], "it is not available yet"
        first, *others = fake.feed_.latest.pods
        ended = replace(first.containers[0], exit_code=3, exit_reason="Error")
        # Or it is ready again before anybody looked.
        app = replace(ended, restarts=3) if restarted else replace(ended, ready=False, running=False)
        fake.feed_.show(pods=(replace(first, containers=(app,), ready=restarted), *others))
    (outcome,) = outcomes
    assert isinstance(outcome, Failed)
    assert "exited with code 3 (Error), once" in outcome.error.message
    assert fake.undone == ["pod-0"], "the others never had it"
    assert fake.feed_.latest.images == {"app": BEFORE}


@pytest.mark.parametrize("deaf", [True, False])
async def test_s35_a_process_that_takes_longer_than_stop_after_is_killed(deaf: bool) -> None:
    fake = fake_world()
    (pod,) = fake.feed_.latest.pods
    container = replace(pod.containers[0], instance="docker://old")
    fake.feed_.show(pods=(replace(pod, containers=(container,)),))
    fake.keeps_old, fake.deaf = True, deaf
    service = replace(IN_PLACE, stop_after=0.05)
    with anyio.move_on_after(0.5):
        await travel(fake, service=service)
    late = [] if deaf else [("docker://old", False)]
    assert fake.hurried == [("docker://old", True), *late]


async def test_s35_an_instance_that_begins_after_the_patch_and_gives_way_is_looked_at_too() -> None:
    """It had not started when its pod was PATCHed, and SIGTERM comes before its process listens to it."""
    fake = fake_world()
    fake.keeps_old = True
    (pod,) = fake.feed_.latest.pods
    starting = replace(pod.containers[0], running=False, ready=False)
    fake.feed_.show(pods=(replace(pod, containers=(starting,), ready=False),))
    async with anyio.create_task_group() as group:
        group.start_soon(travel, fake)
        await anyio.wait_all_tasks_blocked()
        assert fake.hurried == []
        for instance in ("docker://old", "docker://of-the-one-before"):
            app = replace(
                starting, image=AFTER, image_id="sha256:of-the-one-before", instance=instance, running=True
            )
            for restarts in (0, 1):  # whatever else of it changes
                fake.feed_.show(pods=(replace(pod, containers=(replace(app, restarts=restarts),)),))
                await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert fake.hurried == [("docker://old", True), ("docker://of-the-one-before", True)]


async def test_s35_a_prestop_hook_has_its_time() -> None:
    fake = fake_world()
    (pod,) = fake.feed_.latest.pods
    fake.feed_.show(pods=(replace(pod, pre_stop=True),))
    assert isinstance(await travel(fake), Live)
    assert fake.hurried == []


@pytest.mark.parametrize("held", [False, True])
async def test_s35_pods_that_were_changed_already_do_not_wait_for_a_build_that_works(*, held: bool) -> None:
    """v1.5 was on its way when a save superseded it that cannot be built, or is held at v1."""
    fake = fake_world(2)
    first, second = fake.feed_.latest.pods
    left = replace(first, containers=(replace(first.containers[0], image=SERVICE.ref(fingerprint("v1.5"))),))
    fake.feed_.show(pods=(left, second), hold=fingerprint("v2").digest if held else "")
    fake.builds.script = [BuildError("a syntax error")]
    outcome = await travel(fake)
    assert isinstance(outcome, Held if held else Failed)
    assert fake.deleted == ["pod-0"]
    notices = [event.message for event in of(fake, Notice)]  # type: ignore[attr-defined]
    assert notices == ["web-0 has an image that deployment/todo-backend does not name: deleting it"]


async def test_s35_a_tree_that_moves_leaves_them_to_the_trip_that_starts_over() -> None:
    fake = fake_world(2)
    first, second = fake.feed_.latest.pods
    left = replace(first, containers=(replace(first.containers[0], image=SERVICE.ref(fingerprint("v1.5"))),))
    fake.feed_.show(pods=(left, second))
    fake.builds.script = [TreeMovedError("it moved")]
    assert isinstance(await travel(fake), Failed)
    assert fake.deleted == []


async def test_s35_pods_of_the_template_before_are_none_that_were_left() -> None:
    """A roll has begun, and the watch does not show the PATCH yet."""
    fake = fake_world(2)
    assert list(strays(fake.feed_.latest, Expectation(SERVICE.image, AFTER))) == []
    fake.shows_patches = False
    now = fake.clock.now()
    change = Change(frozenset(), now, now)
    watch = Stopwatch(SERVICE.name, change, fake.clock, fake.events.append)
    async with anyio.create_task_group() as group:
        group.start_soon(trip, SERVICE, change, [fake.feed_], fake.world(), watch)
        await anyio.wait_all_tasks_blocked()
        assert fake.patched == [AFTER]
        assert fake.deleted == []
        group.cancel_scope.cancel()


async def test_s24_a_rollback_in_the_middle_of_it_is_not_overwritten() -> None:
    fake = fake_world(2)
    gate = anyio.Event()
    fake.puts.script = [gate, InPlaceError("the template is another one")]
    async with under_way(fake) as outcomes:
        fake.feed_.show(hold=fingerprint("v2").digest)
        gate.set()
    assert isinstance(outcomes[0], Held), outcomes
    assert fake.patched == []


async def test_s20_a_target_that_is_deleted_in_the_middle_of_it_is_not_waited_for() -> None:
    """Its manifest brings it back, in the next trip."""
    fake = fake_world()
    fake.puts.script = [TargetMissingError("there is none")]
    outcome = await travel(fake)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, OvertakenError)
    assert outcome.error.reason == MISSING


async def test_s35_a_process_that_ends_within_its_grace_period_takes_nothing_of_the_time_of_the_next() -> (
    None
):
    fake = fake_world()
    fake.keeps_unready, fake.keeps_old = True, True
    async with under_way(fake, service=replace(IN_PLACE, rollout_timeout=0.05)) as outcomes:
        await anyio.sleep(0.2)
        assert not outcomes
        (pod,) = fake.feed_.latest.pods
        app = replace(pod.containers[0], stale=False)
        fake.feed_.show(pods=(replace(pod, containers=(app,), ready=True),))
    assert isinstance(outcomes[0], Live)


async def test_s34_an_image_that_the_node_does_not_have_is_brought_back_by_a_roll() -> None:
    """The kubelet has ended the container before: its status still has the old instance."""
    fake = fake_world()
    fake.keeps_old = True
    async with under_way(fake) as outcomes:
        (pod,) = fake.feed_.latest.pods
        app = replace(pod.containers[0], waiting="ErrImageNeverPull", running=False, ready=False)
        fake.feed_.show(pods=(replace(pod, containers=(app,), ready=False),))
    (outcome,) = outcomes
    assert isinstance(outcome, Live), outcome
    assert outcome.rollout.update == "roll"
    assert fake.patched == [AFTER]
    assert [event.reason for event in of(fake, UpdateFallback)] == ["image_lost"]  # type: ignore[attr-defined]


async def test_s35_a_pod_whose_image_is_pinned_by_a_webhook_is_not_deleted_but_reported() -> None:
    fake = FakeWorld("v1", running=BEFORE)
    fake.built.add(BEFORE)
    (pod,) = fake.feed_.latest.pods
    pinned = replace(pod.containers[0], image=f"{BEFORE}@sha256:00ff")
    fake.feed_.show(pods=(replace(pod, containers=(pinned,)),))
    outcome = await travel(fake, service=SERVICE)
    assert isinstance(outcome, Failed)
    assert outcome.error.reason == "ImageRewritten"
    assert fake.deleted == []


async def test_s35_pods_that_get_another_image_again_and_again_are_not_deleted_for_ever() -> None:
    fake = FakeWorld("v1", running=BEFORE)
    fake.built.add(BEFORE)
    fake.gives_another = SERVICE.ref(fingerprint("v0"))
    (pod,) = fake.feed_.latest.pods
    other = replace(pod.containers[0], image=fake.gives_another)
    fake.feed_.show(pods=(replace(pod, containers=(other,)),))
    with anyio.move_on_after(0.5):
        await travel(fake, service=SERVICE)
    assert len(fake.deleted) == len(set(fake.deleted)) == MOST_STRAYS


def test_s33_an_image_of_before_in_a_pod_that_was_updated_in_place_is_waited_out() -> None:
    """The pod was PATCHed before it had a container: the one that starts first is of the image before."""
    fake = FakeWorld("v1", running=AFTER)
    (pod,) = fake.feed_.latest.pods
    expected = Expectation(SERVICE.image, AFTER, "sha256:wanted")
    for updated, verdict in ((True, Progressing), (False, Stuck)):
        app = replace(pod.containers[0], image_id="sha256:before", updated=updated)
        fake.feed_.show(pods=(replace(pod, containers=(app,)),))
        assert isinstance(judge(fake.feed_.latest, expected, 0.0), verdict)


@pytest.mark.parametrize("left", [True, False])
async def test_s35_what_was_left_is_cleared_up_though_the_service_is_rolled_by_now(*, left: bool) -> None:
    fake = FakeWorld("v2", running=BEFORE)
    fake.builds.script = [BuildError("RUN false: exit code 1")]
    (pod,) = fake.feed_.latest.pods
    if left:
        other = replace(pod.containers[0], image=SERVICE.ref(fingerprint("v0")))
        fake.feed_.show(pods=(replace(pod, containers=(other,)),))
    outcome = await travel(fake, service=SERVICE)
    assert isinstance(outcome, Failed)
    assert fake.deleted == ([pod.uid] if left else [])
