"""Sync, then bake, over a scripted cluster: the order of things, and each way in which it ends otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.errors import LoadError, SyncError
from devloop.events import Notice, Updated, UpdateFallback
from devloop.model import Failed, Live, Outcome, Ready, Refusal, Service, SyncFiles, Unchanged
from devloop.rollout.expectation import Expectation, strays
from devloop.rollout.judge import judge
from devloop.rollout.leftovers import _is_left
from devloop.rollout.state_monitor import count_synced
from devloop.rollout.states import DeploymentState, deployment_state
from devloop.synced import UNKNOWN
from tests.rollout.test_in_place import AFTER, BEFORE, of, travel
from tests.rollout.test_in_place import fake_world as pods_world
from tests.support.fake_syncer import FakeSyncer
from tests.support.fakes import SERVICE, FakeWorld, fingerprint

SYNC = replace(SERVICE, update="sync")
OLD, NEW = (fingerprint(tree).digest for tree in ("v1", "v2"))


@pytest.fixture
def fake() -> FakeWorld:
    return fake_world()


@pytest.fixture
def syncer(fake: FakeWorld, tmp_path: Path) -> FakeSyncer:
    return FakeSyncer(fake, tmp_path / "synced.json")


def fake_world(pods: int = 1) -> FakeWorld:
    """`pods` pods run v1 in containers that can be told apart, and the tree is v2."""
    fake = pods_world(pods)
    fake.feed_.show(
        pods=tuple(
            replace(pod, containers=(replace(pod.containers[0], instance=f"docker://{pod.uid}"),))
            for pod in fake.feed_.latest.pods
        )
    )
    return fake


async def synced(fake: FakeWorld, syncer: FakeSyncer, service: Service = SYNC) -> Outcome:
    return await travel(fake, replace(fake.world(), syncer=syncer), service)


def fallbacks(fake: FakeWorld) -> list[tuple[str, str]]:
    return [(event.wanted, event.reason) for event in of(fake, UpdateFallback)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pods", [1, 3])
@pytest.mark.parametrize("reload", ["none", "HUP"])
async def test_s36_s37_files_go_into_every_container_and_the_image_is_named_behind_them(
    tmp_path: Path, pods: int, reload: str
) -> None:
    fake = fake_world(pods)
    syncer = FakeSyncer(fake, tmp_path / "synced.json")
    outcome = await synced(fake, syncer, replace(SYNC, reload=reload))
    assert isinstance(outcome, Live), outcome
    assert outcome.rollout.update == "sync"
    assert sorted(syncer.written) == [(f"pod-{n}", reload) for n in range(pods)]
    assert (fake.put, fake.patched, fake.deleted) == ([], [], []), "no pod was touched"
    seen = fake.feed_.latest
    assert seen.images == {"app": AFTER}
    assert {pod.containers[0].image for pod in seen.pods} == {BEFORE}
    assert {pod.containers[0].synced for pod in seen.pods} == {NEW}
    assert (syncer.asked, syncer.held) == ([(OLD, NEW)], [NEW])
    text = f"synced 1 file into {pods} container{'s' * (pods > 1)}"
    assert of(fake, Notice) == [Notice(SERVICE.name, "info", text)]
    assert of(fake, Updated) == [Updated(SERVICE.name, "sync")]
    assert outcome.timing.seconds()["sync"] >= 0
    assert count_synced(seen) == pods
    assert deployment_state(seen) is not DeploymentState.UPGRADING
    again = await synced(fake, syncer)
    assert isinstance(again, Unchanged), again


async def test_s37_the_files_are_there_before_the_image_is_built(fake: FakeWorld, syncer: FakeSyncer) -> None:
    fake.builds.script.append(anyio.Event())
    async with anyio.create_task_group() as group:
        group.start_soon(synced, fake, syncer)
        await anyio.wait_all_tasks_blocked()
        assert fake.feed_.latest.pods[0].containers[0].synced == NEW
        assert fake.feed_.latest.images == {"app": BEFORE}
        assert not isinstance(
            judge(fake.feed_.latest, Expectation(SERVICE.image, AFTER), fake.clock.now()), Ready
        )
        group.cancel_scope.cancel()
    # A newer save superseded it: its files go on from what the containers hold.
    fake.tree = "v3"
    assert isinstance(await synced(fake, syncer), Live)
    assert syncer.asked == [(OLD, NEW), (NEW, fingerprint("v3").digest)]


async def test_s37_a_bake_that_fails_leaves_the_files_and_says_so(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    fake.loads.script.append(LoadError("the node's disk is full", reason="DiskFull"))
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Failed)
    assert (outcome.stage, fake.deleted) == ("load", [])
    seen = fake.feed_.latest
    assert (seen.images["app"], seen.pods[0].containers[0].synced) == (BEFORE, NEW)
    assert not _is_left(SYNC, seen)
    # The next trip has nothing to write, and names the image.
    syncer.made = SyncFiles(b"", ())
    assert isinstance(await synced(fake, syncer), Live)
    assert (len(syncer.written), syncer.asked[-1]) == (1, (NEW, NEW))


async def test_s36_an_edit_that_is_taken_back_restarts_nothing(fake: FakeWorld, syncer: FakeSyncer) -> None:
    await synced(fake, syncer)
    fake.tree = "v1"
    fake.built.add(BEFORE)
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert outcome.rollout.update == "sync"
    assert (fake.feed_.latest.images["app"], fake.put) == (BEFORE, [])
    assert syncer.synced.content("docker://pod-0") is None, "its image holds what it runs again"


@pytest.mark.parametrize(
    ("made", "refusal"),
    [
        (Refusal("deleted", "/app/a was deleted"), None),
        (None, Refusal("mounted", "/app/a lies in a volume")),
    ],
)
async def test_s36_what_cannot_be_synced_goes_in_place_and_is_reported_once(
    fake: FakeWorld, syncer: FakeSyncer, made: Refusal | None, refusal: Refusal | None
) -> None:
    syncer.made, syncer.refusal = made or syncer.made, refusal
    world = replace(fake.world(), syncer=syncer)
    outcome = await travel(fake, world, SYNC)
    assert isinstance(outcome, Live), outcome
    assert outcome.rollout.update == "in-place"
    assert (fake.put, syncer.written) == ([("pod-0", AFTER)], [])
    fake.tree = "v3"
    await travel(fake, world, SYNC)
    wanted = made or refusal
    assert wanted is not None
    assert fallbacks(fake) == [("sync", wanted.reason)] * 2
    assert [event.first for event in of(fake, UpdateFallback)] == [True, False]  # type: ignore[attr-defined]


async def test_s36_each_mode_falls_back_to_the_next(fake: FakeWorld, syncer: FakeSyncer) -> None:
    fake.refusal = Refusal("rolling", "a rollout is under way")
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live)
    assert outcome.rollout.update == "roll"
    assert fallbacks(fake) == [("sync", "rolling"), ("in-place", "rolling")]
    assert fake.patched == [AFTER]


@pytest.mark.parametrize("session", ["once", "restart"])
async def test_s36_in_place_where_nobody_looks_after_it_and_where_a_restart_is_asked_for(
    fake: FakeWorld, syncer: FakeSyncer, session: str
) -> None:
    service = replace(SYNC, reload="restart" if session == "restart" else "none")
    world = replace(fake.world(), syncer=None if session == "once" else syncer)
    outcome = await travel(fake, world, service)
    assert isinstance(outcome, Live)
    assert (outcome.rollout.update, syncer.written, fallbacks(fake)) == ("in-place", [], [])


async def test_s37_files_that_could_not_be_written_leave_a_container_that_counts_as_nothing(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    fake.builds.script.append(anyio.Event())
    syncer.puts.script.append(SyncError("no space left"))
    async with anyio.create_task_group() as group:
        group.start_soon(synced, fake, syncer)
        await anyio.wait_all_tasks_blocked()
        seen = fake.feed_.latest
        assert seen.pods[0].containers[0].synced == UNKNOWN
        assert _is_left(SYNC, seen)
        for ref in (BEFORE, AFTER):
            assert not isinstance(judge(seen, Expectation(SERVICE.image, ref), fake.clock.now()), Ready)
        group.cancel_scope.cancel()
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert (outcome.rollout.update, fake.put) == ("in-place", [("pod-0", AFTER)])
    assert fallbacks(fake) == [("sync", "failed"), ("sync", "unknown_content")]


async def test_s36_a_newer_save_does_not_interrupt_the_writing(fake: FakeWorld, syncer: FakeSyncer) -> None:
    gate = anyio.Event()
    syncer.puts.script.append(gate)
    async with anyio.create_task_group() as group:
        group.start_soon(synced, fake, syncer)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        gate.set()
    assert syncer.synced.content("docker://pod-0") == NEW
    assert syncer.puts.cancelled == 0


async def test_s36_containers_that_do_not_all_hold_the_same_get_the_image(tmp_path: Path) -> None:
    fake = fake_world(2)
    syncer = FakeSyncer(fake, tmp_path / "synced.json")
    syncer.synced.finish(SERVICE.name, ["docker://pod-0"], "aa")
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert outcome.rollout.update == "in-place"
    assert fallbacks(fake) == [("sync", "unknown_content")]


async def test_s36_a_container_that_does_not_run_gets_the_image(fake: FakeWorld, syncer: FakeSyncer) -> None:
    (pod,) = fake.feed_.latest.pods
    fake.feed_.show(pods=(replace(pod, containers=(replace(pod.containers[0], running=False),)),))
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert (fallbacks(fake), fake.put) == ([("sync", "not_running")], [("pod-0", AFTER)])


async def test_s37_a_process_that_ended_before_the_image_was_named_gets_it_in_place(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    syncer.ended = {"pod-0"}
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert (fallbacks(fake), fake.put) == ([("sync", "ended")], [("pod-0", AFTER)])


async def test_s37_a_container_that_starts_again_from_the_older_image_is_a_stray_and_gets_the_new_one(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    await synced(fake, syncer)
    (pod,) = fake.feed_.latest.pods
    expected = Expectation(SERVICE.image, AFTER, f"sha256:{NEW}")
    assert isinstance(judge(fake.feed_.latest, expected, fake.clock.now()), Ready)
    app = replace(pod.containers[0], instance="docker://next", restarts=1, synced=None)
    fake.feed_.show(pods=(replace(pod, containers=(app,)),))
    assert not isinstance(judge(fake.feed_.latest, expected, fake.clock.now()), Ready)
    assert [one.name for one, _ in strays(fake.feed_.latest, expected)] == [pod.name]
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Unchanged), outcome
    assert (fake.put, fake.deleted) == ([("pod-0", AFTER)], [])


async def test_s36_an_edit_that_changes_no_file_of_the_image_is_noted(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    syncer.made = SyncFiles(b"", ())
    outcome = await synced(fake, syncer)
    assert isinstance(outcome, Live), outcome
    assert fake.feed_.latest.pods[0].containers[0].synced == NEW


async def test_s4_where_nothing_is_to_be_written_nothing_was_synced(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    """The image is named, and a pod of it has yet to get ready."""
    await synced(fake, syncer)
    (pod,) = fake.feed_.latest.pods
    fake.feed_.show(pods=(replace(pod, ready=False),))
    async with anyio.create_task_group() as group:
        outcomes: list[Outcome] = []

        async def go() -> None:
            outcomes.append(await synced(fake, syncer))

        group.start_soon(go)
        await anyio.wait_all_tasks_blocked()
        fake.feed_.show(pods=(pod,))
    assert isinstance(outcomes[0], Unchanged), outcomes
    assert (len(syncer.written), fallbacks(fake)) == (1, [])


async def test_s38_what_a_killed_devloop_left_is_given_the_image_and_waited_for(
    fake: FakeWorld, syncer: FakeSyncer
) -> None:
    """The status shows the instance before for a moment: its files are unknown, but it is about to end."""
    await synced(fake, syncer)
    syncer.synced.disown(())
    fake.keeps_old = True
    outcomes: list[Outcome] = []

    async def go() -> None:
        outcomes.append(await travel(fake, replace(fake.world(), syncer=None), SYNC))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        await anyio.wait_all_tasks_blocked()
        assert fake.put == [("pod-0", AFTER)]
        (pod,) = fake.feed_.latest.pods
        app = replace(pod.containers[0], synced=UNKNOWN)
        fake.feed_.show(pods=(replace(pod, containers=(app,)),))
        await anyio.wait_all_tasks_blocked()
        assert outcomes == [], "it is rolled out"
        app = replace(app, instance="docker://next", stale=False, synced=None)
        fake.feed_.show(pods=(replace(pod, containers=(app,)),))
    assert isinstance(outcomes[0], Unchanged), outcomes
