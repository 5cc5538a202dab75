from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.errors import BuildError, FingerprintError, PlatformError, TargetMissingError, TreeMovedError
from devloop.events import Event, LiveChanged, Notice, StageEnded, TripEnded, TripStarted
from devloop.model import Change, Failed, Live, Outcome, Service, Superseded, outcome_word
from devloop.rollout.service_status import standings
from devloop.trip import pace as phase
from devloop.trip import waits
from devloop.trip.sharing import Sharing
from devloop.trip.trip import trip
from devloop.trip.worker import Worker
from tests.support.fakes import SERVICE, FakeWorld, fingerprint


def ref(tree: str) -> str:
    return SERVICE.ref(fingerprint(tree))


class Bench:
    """A worker that runs, and the verbs of a test's sentence."""

    def __init__(self, fake: FakeWorld, service: Service = SERVICE) -> None:
        self.fake = fake
        self.worker = Worker(service, fake.world(), Sharing(), ())

    def save(self, tree: str, *paths: str) -> None:
        self.fake.tree = tree
        now = self.fake.clock.now()
        self.worker.inbox.put(Change(frozenset(Path(p) for p in paths or ("/src/a.py",)), now, now))

    def outcomes(self) -> list[str]:
        return [type(e.outcome).__name__ for e in self.fake.events if isinstance(e, TripEnded)]

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not true():
                await anyio.sleep(0.005)


@asynccontextmanager
async def running(fake: FakeWorld) -> AsyncIterator[Bench]:
    bench = Bench(fake)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.worker.run)
        yield bench
        group.cancel_scope.cancel()


@asynccontextmanager
async def amid_a_rollout(fake: FakeWorld) -> AsyncIterator[Bench]:
    """Patched, and its pods do not come; those of the next trip will."""
    fake.rolls_by_itself = False
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: fake.patched == [ref("v1")])
        fake.rolls_by_itself = True
        yield bench


async def supersede_at(gate_name: str) -> None:
    fake = FakeWorld("v1")
    gate = getattr(fake, gate_name)
    gate.script = [anyio.Event()]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: gate.calls == 1)
        bench.save("v2")
        await bench.until(lambda: bench.outcomes() == ["Superseded", "Live"])
    assert gate.cancelled == 1
    assert fake.patched == [ref("v2")]


async def test_newer_change_cancels_running_fingerprint() -> None:
    await supersede_at("fingerprints")


async def test_newer_change_cancels_running_build() -> None:
    await supersede_at("builds")


async def test_newer_change_cancels_running_load() -> None:
    await supersede_at("loads")


async def test_newer_change_cancels_watching_the_rollout() -> None:
    fake = FakeWorld("v1")
    async with amid_a_rollout(fake) as bench:
        bench.save("v2")
        await bench.until(lambda: bench.outcomes() == ["Superseded", "Live"])
    cancelled = [e.stage for e in fake.events if isinstance(e, StageEnded) and e.outcome == "cancelled"]
    assert cancelled == ["rollout"]


async def test_s16_the_patch_is_shielded_from_cancellation() -> None:
    fake = FakeWorld("v1")
    held = anyio.Event()
    fake.patches.script = [held]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: fake.patches.calls == 1)
        bench.save("v2")
        await anyio.wait_all_tasks_blocked()
        assert fake.patched == []
        held.set()
        await bench.until(lambda: fake.patched == [ref("v1"), ref("v2")])
    assert fake.patches.cancelled == 0


async def test_hazard_b_an_edit_and_its_revert_during_the_rollout_end_with_the_first_content() -> None:
    """Superseded after the PATCH of v2, back to v1: nothing may believe that v1 is still live."""
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        fake.rolls_by_itself = False
        bench.save("v2")
        await bench.until(lambda: fake.patched[-1] == ref("v2"))
        fake.rolls_by_itself = True
        bench.save("v1")
        await bench.until(lambda: bench.outcomes()[-1] == "Live" and len(bench.outcomes()) == 3)
    assert fake.patched == [ref("v1"), ref("v2"), ref("v1")]
    assert fake.feed_.latest.images == {"app": ref("v1")}


async def test_s21_after_three_supersessions_the_running_trip_goes_through_to_its_end() -> None:
    fake = FakeWorld("v0")
    slow = [anyio.Event() for _ in range(4)]
    fake.builds.script = list(slow)
    async with running(fake) as bench:
        for number in range(4):
            bench.save(f"v{number}")
            await bench.until(lambda: fake.builds.calls == number + 1)  # noqa: B023
        bench.save("v9")
        await anyio.wait_all_tasks_blocked()
        assert bench.outcomes() == ["Superseded"] * 3
        slow[3].set()
        await bench.until(lambda: bench.outcomes() == ["Superseded"] * 3 + ["Live", "Live"])
    assert fake.patched == [ref("v3"), ref("v9")]


async def test_s21_a_tree_that_moved_under_a_trip_that_must_pass_leaves_the_right_to_the_next() -> None:
    fake = FakeWorld("v0")
    slow = [anyio.Event() for _ in range(3)]
    last = anyio.Event()
    fake.builds.script = [*slow, TreeMovedError("src/a.py changed while it was read"), last]
    async with running(fake) as bench:
        for number in range(3):
            bench.save(f"v{number}")
            await bench.until(lambda: fake.builds.calls == number + 1)  # noqa: B023
        bench.save("v3")
        await bench.until(lambda: fake.builds.calls == 5)
        bench.save("v9")
        await anyio.wait_all_tasks_blocked()
        assert bench.outcomes() == ["Superseded"] * 3 + ["Failed"]
        last.set()
        await bench.until(lambda: bench.outcomes() == ["Superseded"] * 3 + ["Failed", "Live", "Live"])
    assert fake.patched == [ref("v3"), ref("v9")]


async def test_s1_a_trip_that_ends_when_a_newer_save_is_known_makes_nothing_live() -> None:
    """The pods run what the tree was; the next trip says what they run of it as it is."""
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        keep = fake.events.append

        def emit(event: Event) -> None:
            keep(event)
            if isinstance(event, TripEnded) and fake.tree == "v1":
                bench.save("v2")

        bench.worker._world = replace(bench.worker._world, emit=emit)
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live", "Live"])
        await bench.until(lambda: isinstance(fake.events[-1], LiveChanged))
    live = [event.ref for event in fake.events if isinstance(event, LiveChanged) and event.live]
    assert live == [ref("v2")]


async def test_paths_of_a_superseded_trip_are_not_lost() -> None:
    fake = FakeWorld("v1")
    fake.builds.script = [anyio.Event()]
    async with running(fake) as bench:
        bench.save("v1", "/src/one.py")
        await bench.until(lambda: fake.builds.calls == 1)
        bench.save("v2", "/src/two.py")
        await bench.until(lambda: "Live" in bench.outcomes())
    started = [e.change.paths for e in fake.events if type(e).__name__ == "TripStarted"]
    assert started[-1] == {Path("/src/one.py"), Path("/src/two.py")}


async def test_s8_a_tree_that_moved_is_tried_again() -> None:
    fake = FakeWorld("v1")
    fake.builds.script = [TreeMovedError("src/a.py changed while it was read")]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Failed", "Live"])


async def test_a_platform_that_is_gone_is_tried_again_until_it_is_back() -> None:
    fake = FakeWorld("v1")
    fake.builds.script = [PlatformError("engine gone"), PlatformError("engine gone")]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes()[-1:] == ["Live"])
    states = [e.state for e in fake.events if isinstance(e, LiveChanged)]
    assert "waiting" in states
    assert states[-1] == "live"


async def test_s17_a_missing_target_is_waited_for() -> None:
    fake = FakeWorld("v1")
    there = fake.feed_.latest
    fake.feed_.latest = type(there)(there.target, there.at)
    fake.patches.script = [TargetMissingError("deployment/todo-backend does not exist")]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Failed"])
        fake.feed_.latest = there
        fake.feed_.show()
        await bench.until(lambda: bench.outcomes() == ["Failed", "Live"])


async def test_s20_a_template_that_somebody_changed_is_mended() -> None:
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        fake.feed_.show(images={"app": "todo-backend:other"}, writer="kubectl-set")
        await bench.until(lambda: fake.patched == [ref("v1"), ref("v1")])
        await bench.until(lambda: len(bench.outcomes()) == 2)


async def test_s20_a_target_that_is_deleted_amid_its_rollout_is_brought_back_by_another_trip() -> None:
    fake = FakeWorld("v1")
    async with amid_a_rollout(fake) as bench:
        fake.feed_.show(uid="", generation=0, images={}, pods=())
        await bench.until(lambda: bench.outcomes() == ["Failed", "Live"])
    whys = [event.change.why for event in fake.events if isinstance(event, TripStarted)]
    assert whys == ["saved", "deployment/todo-backend was deleted"]


async def test_s20_three_reversals_stop_and_name_the_other_writer() -> None:
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        for number in range(3):
            fake.feed_.show(images={"app": f"todo-backend:other-{number}"}, writer="argocd")
            await bench.until(lambda: len(bench.outcomes()) == number + 2 or number == 2)  # noqa: B023
        await bench.until(
            lambda: any(isinstance(e, LiveChanged) and e.state == "contested" for e in fake.events)
        )
        assert any(isinstance(e, Notice) and "argocd" in e.message for e in fake.events)
        patches = len(fake.patched)
        fake.feed_.show(images={"app": "todo-backend:other-9"}, writer="argocd")
        await anyio.wait_all_tasks_blocked()
        assert len(fake.patched) == patches
        bench.save("v2")
        await bench.until(lambda: fake.patched[-1] == ref("v2"))


async def test_s19_a_failed_rollout_that_becomes_ready_later_turns_live() -> None:
    fake = FakeWorld("v1")
    fake.rolls_by_itself = False
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bool(fake.patched))
        fake.feed_.show(conditions={"Progressing": ("False", "ProgressDeadlineExceeded", "timed out")},
                        observed_generation=2)  # fmt: skip
        await bench.until(lambda: bench.outcomes() == ["Failed"])
        fake.feed_.show(conditions={})
        fake.roll(ref("v1"))
        await bench.until(
            lambda: [e.state for e in fake.events if isinstance(e, LiveChanged)][-1:] == ["live"]
        )


async def test_s35_what_a_failed_trip_could_not_clear_is_cleared_when_the_api_server_is_back() -> None:
    fake = FakeWorld("v2", running=ref("v1"))
    fake.builds.script = [BuildError("a syntax error")]
    bench = Bench(fake, replace(SERVICE, update="in-place"))
    async with anyio.create_task_group() as group:
        group.start_soon(bench.worker.run)
        bench.save("v2")
        await bench.until(lambda: bench.outcomes() == ["Failed"])
        (pod,) = fake.feed_.latest.pods
        left = replace(pod.containers[0], image=ref("v1.5"))
        fake.feed_.show(pods=(replace(pod, containers=(left,)),))  # which nobody saw before
        await bench.until(lambda: fake.deleted == [pod.uid])
        group.cancel_scope.cancel()
    assert bench.outcomes() == ["Failed"]


async def test_s1_a_live_service_whose_only_pod_is_gone_is_live_no_more() -> None:
    """A StatefulSet's pod is made again: nothing is stuck, no condition says degraded, and nobody serves."""
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        whole = fake.feed_.latest
        fake.feed_.show(available=0, pods=(replace(whole.pods[0], ready=False, ready_at=None),))
        await bench.until(lambda: not [e for e in fake.events if isinstance(e, LiveChanged)][-1].live)
        fake.feed_.show(available=1, pods=whole.pods)
        await bench.until(lambda: [e for e in fake.events if isinstance(e, LiveChanged)][-1].live)
    assert bench.outcomes() == ["Live"]


async def test_once_runs_one_trip_without_an_inbox() -> None:
    fake = FakeWorld("v1")
    worker = Worker(SERVICE, fake.world(), Sharing(), ())
    async with worker.connected():
        now = fake.clock.now()
        outcome = await worker.settle(Change(frozenset(), now, now, "start"))
    assert isinstance(outcome, Live)
    assert not isinstance(outcome, Failed | Superseded)


async def test_a_trip_without_a_fingerprint_is_failed_until_one_succeeds() -> None:
    """The cluster is as the last good trip left it: all ready, and not the tree."""
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        fake.fingerprints.script = [FingerprintError("the Dockerfile is gone")]
        bench.save("v2")
        await bench.until(lambda: bench.outcomes() == ["Live", "Failed"])
        fake.feed_.show()  # what a look at the same ready pods shows
        await anyio.wait_all_tasks_blocked()
        assert states(fake)[-1] == ("failed", False)
        bench.save("v1")
        await bench.until(lambda: states(fake)[-1] == ("live", True))
    assert bench.outcomes() == ["Live", "Failed", "Unchanged"]


async def test_a_delta_that_was_built_in_full_as_it_was_loaded_is_what_the_worker_expects() -> None:
    fake = FakeWorld("v1")
    fake.loads_as = "sha256:full"
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
        fake.feed_.show()
        await anyio.wait_all_tasks_blocked()
    assert states(fake)[-1] == ("live", True)
    assert [e.outcome.image.id for e in fake.events if isinstance(e, TripEnded)] == ["sha256:full"]  # type: ignore[union-attr]


async def test_s19_a_rollout_that_failed_with_another_content_never_turns_live() -> None:
    fake = FakeWorld("v1")
    fake.runs = "sha256:other"
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Failed"])
        fake.feed_.show()
        await anyio.wait_all_tasks_blocked()
    assert states(fake)[-1] == ("failed", False)

    async def no_release(_: object) -> str:
        return ""

    found = (await standings([SERVICE], fake.world(), no_release))["backend"]
    assert found.state == "stuck"
    assert "sha256:other" in found.message


async def test_status_gives_a_command_line_for_the_cluster_that_it_speaks_of() -> None:
    """Without --context it went to whichever cluster kubectl has as its current one."""
    fake = FakeWorld("v1")
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Live"])
    fake.feed_.show(paused=True, updated=0, pods=())

    async def no_release(_: object) -> str:
        return ""

    found = (await standings([SERVICE], fake.world(), no_release))["backend"]
    assert found.state == "stuck"
    assert str(found.hint).startswith("kubectl rollout resume ")
    assert str(found.hint).endswith(f" --context {fake.world().cluster.context}")


async def test_s8_a_tree_that_keeps_moving_is_looked_at_whole_with_a_pause_and_a_save_tries_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # After the fourth look only a save is in time.
    monkeypatch.setitem(waits.PAUSES, "moved", (*waits.MOVED_PAUSES[:3], 60.0, 0.1))
    fake = FakeWorld("v1")
    fake.builds.script = [TreeMovedError(f"file {n} moved") for n in range(5)]
    async with running(fake) as bench:
        begun = fake.clock.now()
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Failed"] * 4)
        assert fake.clock.now() - begun >= 0.8  # 0.1, 0.2 and 0.5 s between four looks
        bench.save("v1", "/src/b.py")
        await bench.until(lambda: bench.outcomes() == ["Failed"] * 5 + ["Live"])
    started = [e for e in fake.events if isinstance(e, TripStarted)]
    assert [e.change.paths for e in started] == [frozenset({Path("/src/a.py")}), *[frozenset()] * 5]
    ends = [e for e in fake.events if isinstance(e, TripEnded)]
    assert [e.repeated for e in ends] == [False, True, True, True, True, False]
    assert [e.quiet for e in started] == [False, True, True, True, True, True]


async def test_a_base_that_is_missing_is_looked_at_again_without_a_save() -> None:
    fake = FakeWorld("v1")
    fake.fingerprints.script = [BuildError("no such base", outside_tree=True)]
    async with running(fake) as bench:
        bench.save("v1")
        await bench.until(lambda: bench.outcomes() == ["Failed", "Live"])
        assert [word for word, _ in states(fake)] == ["working", "failed", "live"]


async def test_s21_a_build_that_hangs_is_superseded_though_it_must_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase, "LONGEST_WAIT", 0.1)
    fake = FakeWorld("v0")
    fake.builds.script = [anyio.Event(), anyio.Event()]
    async with running(fake) as bench:
        bench.save("v0")
        await bench.until(lambda: fake.builds.calls == 1)
        began = fake.clock.now()
        await bench.until(lambda: fake.clock.now() - began > 0.1)
        bench.save("fixed")
        await bench.until(lambda: fake.builds.calls == 2)
        began = fake.clock.now()
        bench.save("fixed again")
        await bench.until(lambda: bench.outcomes() == ["Superseded", "Superseded", "Live"])
        assert fake.clock.now() - began >= 0.15  # the patience doubled
    assert fake.patched == [ref("fixed again")]


async def test_s21_a_build_that_must_pass_goes_on_for_as_long_as_it_shows_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase, "LONGEST_WAIT", 0.2)
    fake = FakeWorld("v0")
    done = anyio.Event()
    fake.builds.script = [done]
    fake.busy = True
    async with running(fake) as bench:
        bench.save("v0")
        await bench.until(lambda: fake.builds.calls == 1)
        began = fake.clock.now()
        await bench.until(lambda: fake.clock.now() - began > 0.25)
        bench.save("v1")
        began = fake.clock.now()
        await bench.until(lambda: fake.clock.now() - began > 0.6)
        assert bench.outcomes() == []
        done.set()
        await bench.until(lambda: bench.outcomes() == ["Live", "Live"])
    assert fake.patched == [ref("v0"), ref("v1")]


async def test_s21_a_save_long_after_the_patch_supersedes_a_rollout_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phase, "LONGEST_WAIT", 0.3)
    fake = FakeWorld("v0")
    fake.rolls_by_itself = False
    async with running(fake) as bench:
        bench.save("v0")
        await bench.until(lambda: fake.patched == [ref("v0")])
        began = fake.clock.now()
        await bench.until(lambda: fake.clock.now() - began > 0.4)
        fake.rolls_by_itself = True
        bench.save("v1")
        began = fake.clock.now()
        await bench.until(lambda: bench.outcomes() == ["Superseded", "Live"])
        assert fake.clock.now() - began < 0.3


@pytest.mark.parametrize(("gate", "reason"), [("builds", "BuildIdle"), ("loads", "LoadIdle")])
async def test_s21_what_shows_no_progress_at_all_is_ended_with_an_error(gate: str, reason: str) -> None:
    fake = FakeWorld("v1")
    getattr(fake, gate).script = [anyio.Event()]
    service = replace(SERVICE, build=replace(SERVICE.build, idle_timeout=0.2))
    worker = Worker(service, fake.world(), Sharing(), ())
    async with worker.connected():
        outcome = await worker.settle(Change(frozenset(), 0.0, 0.0, "start"))
    assert isinstance(outcome, Failed)
    assert (outcome.error.reason, getattr(fake, gate).cancelled) == (reason, 1)
    assert "idle_timeout" in str(outcome.error.hint)


async def test_a_worker_that_died_of_a_bug_loses_no_change_when_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeWorld("v1")
    bugs = [ZeroDivisionError("a bug")]

    async def odd(*given: object) -> object:
        if bugs:
            raise bugs.pop()
        return await trip(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("devloop.trip.running.trip", odd)
    bench = Bench(fake)
    bench.save("v1", "/src/one.py")
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await bench.worker.run()
    assert states(fake)[-1] == ("failed", False)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.worker.run)
        await bench.until(lambda: bench.outcomes() == ["Live"])
        group.cancel_scope.cancel()
    started = [e.change.paths for e in fake.events if isinstance(e, TripStarted)]
    assert started == [frozenset({Path("/src/one.py")})] * 2


def states(fake: FakeWorld) -> list[tuple[str, bool]]:
    return [(e.state, e.live) for e in fake.events if isinstance(e, LiveChanged)]


async def test_observers_are_called_with_the_outcome_and_before_its_event() -> None:
    fake = FakeWorld("v1")
    seen: list[tuple[str, str, int]] = []

    class Observer:
        def begun(self, service: Service) -> None:
            seen.append(("begun", service.name, 0))

        def ended(self, service: Service, outcome: Outcome) -> None:
            ends = [event for event in fake.events if isinstance(event, TripEnded)]
            seen.append((outcome_word(outcome), service.name, len(ends)))

    worker = Worker(SERVICE, fake.world(), Sharing(), (Observer(),))
    async with worker.connected():
        await worker.settle(Change.start(fake.clock.now()))
    assert seen == [("begun", "backend", 0), ("live", "backend", 0)]
    assert any(isinstance(event, TripEnded) for event in fake.events)
