"""S39 over real workers of a fake world: orders of events that a real tree cannot be made to show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from anyio.abc import TaskGroup

from devloop.control.answers import describe_decision
from devloop.control.waiting import Decision, Waiting, decide
from devloop.errors import BuildError, FingerprintError, PlatformError
from devloop.model import (
    Failed,
    Held,
    Image,
    Live,
    LoadedImage,
    Rollout,
    Service,
    Superseded,
    Timing,
    Unchanged,
)
from devloop.secrets.redaction import Secrets
from devloop.trip.standing import Standing
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld, fingerprint
from tests.support.pools import is_live, outcomes, reasons, save, settle, until, working

pytestmark = pytest.mark.anyio
LONG = 3600.0
TREE, OLD = fingerprint("v2"), fingerprint("v1")
TIME = Timing(0.0, 0.0, (), {})


def ref(tree: str) -> str:
    return SERVICE.ref(fingerprint(tree))


class Bench:
    """A watch whose service is live at v1, and what was decided by waits of it."""

    def __init__(self, world: FakeWorld, pool: WorkerPool, group: TaskGroup) -> None:
        self.world, self.pool, self._group = world, pool, group
        self.decisions: list[Decision] = []
        self.config_taken = 0
        self.beside: Callable[[Service], Awaitable[bool]] = self._nothing_beside

    def wait(self, *names: str, seconds: float = LONG) -> None:
        waiting = Waiting(self.pool, self.world, self.world.clock, self._take_config, self.beside)
        self._group.start_soon(waiting.decide, names or ("backend",), seconds, self._note)

    async def decided(self) -> str:
        await until(lambda: self.decisions)
        return self.decisions[-1].state

    def digest(self) -> str:
        outcome = self.decisions[-1].standing.outcome
        assert outcome is not None
        assert not isinstance(outcome, Superseded)
        assert outcome.fingerprint is not None
        return outcome.fingerprint.digest

    async def _note(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def _take_config(self) -> None:
        self.config_taken += 1

    async def _nothing_beside(self, _: Service) -> bool:
        return False


@asynccontextmanager
async def live() -> AsyncIterator[Bench]:
    world = FakeWorld("v1")
    async with working(world) as pool, anyio.create_task_group() as group:
        await until(lambda: is_live(world))
        yield Bench(world, pool, group)
        group.cancel_scope.cancel()


async def test_s39_a_tree_that_is_live_is_answered_without_a_trip() -> None:
    async with live() as bench:
        bench.wait()
        assert await bench.decided() == "live"
        assert outcomes(bench.world) == ["Live"]
        assert bench.config_taken == 1


async def test_s39_an_edit_whose_event_is_still_on_its_way_makes_no_old_tree_live() -> None:
    async with live() as bench:
        bench.world.tree = "v2"  # and no event
        bench.wait()
        assert await bench.decided() == "live"
        assert bench.digest() == TREE.digest
        assert bench.world.patched == [ref("v1"), ref("v2")]
        assert reasons(bench.world) == ["start", "devloop wait"]


async def test_s39_nor_does_one_that_comes_while_the_trip_of_another_edit_runs() -> None:
    """That trip is of the older tree: it is superseded at once, and not waited for."""
    async with live() as bench:
        bench.world.builds.script.append(anyio.Event())
        save(bench.world, bench.pool, "half", "backend", "/src/a.py")
        await until(lambda: bench.world.builds.calls == 2)
        bench.world.tree = "v2"
        bench.wait()
        assert await bench.decided() == "live"
        assert bench.digest() == TREE.digest
        assert outcomes(bench.world) == ["Live", "Superseded", "Live"]


async def test_s39_a_trip_of_this_very_tree_goes_on_and_gives_the_answer() -> None:
    async with live() as bench:
        stays = anyio.Event()
        bench.world.builds.script.append(stays)
        save(bench.world, bench.pool, "v2")
        await until(lambda: bench.world.builds.calls == 2)
        bench.wait()
        bench.wait()
        await settle()
        assert bench.decisions == []
        stays.set()
        await until(lambda: len(bench.decisions) == 2)
        assert {decision.state for decision in bench.decisions} == {"live"}
        assert outcomes(bench.world) == ["Live", "Live"]
        assert reasons(bench.world) == ["start", "saved"]


async def test_s39_an_edit_after_the_question_is_waited_for_too() -> None:
    async with live() as bench:
        bench.world.builds.script.append(anyio.Event())
        save(bench.world, bench.pool, "v2")
        await until(lambda: bench.world.builds.calls == 2)
        bench.wait()
        await until(lambda: bench.world.looks.calls == 1)
        save(bench.world, bench.pool, "v3")
        assert await bench.decided() == "live"
        assert bench.digest() == fingerprint("v3").digest


async def test_s39_a_failure_is_decided_with_its_error_and_the_next_wait_again_at_once() -> None:
    async with live() as bench:
        bench.world.builds.script.append(BuildError("RUN false: exit code 1"))
        bench.world.tree = "v2"
        bench.wait()
        assert await bench.decided() == "failed"
        outcome = bench.decisions[-1].standing.outcome
        assert isinstance(outcome, Failed)
        assert outcome.error.message == "RUN false: exit code 1"
        bench.wait()
        await until(lambda: len(bench.decisions) == 2)
        assert outcomes(bench.world) == ["Live", "Failed"], "nothing has changed since"


async def test_s39_a_tree_that_cannot_be_read_fails_and_the_old_one_is_not_live() -> None:
    async with live() as bench:
        gone = FingerprintError("Dockerfile: no such file")
        bench.world.looks.script.append(gone)
        bench.world.fingerprints.script.append(gone)
        bench.wait()
        assert await bench.decided() == "failed"


async def test_s39_what_devloop_waits_for_is_not_decided() -> None:
    """The engine is away: the trip is tried again, and the answer is that of the one that gets through."""
    async with live() as bench:
        bench.world.tree = "v2"
        bench.world.builds.script.append(PlatformError("the engine does not answer"))
        bench.wait()
        assert await bench.decided() == "live"
        assert outcomes(bench.world) == ["Live", "Failed", "Live"]


async def test_s39_a_look_that_gets_no_answer_is_a_trip_that_looks_at_everything() -> None:
    async with live() as bench:
        bench.world.looks.script.append(PlatformError("the engine does not answer"))
        bench.world.tree = "v2"
        bench.wait()
        assert await bench.decided() == "live"
        assert bench.digest() == TREE.digest


async def test_s39_a_paused_service_is_paused_whatever_the_tree_is() -> None:
    async with live() as bench:
        bench.pool.pause("backend")
        bench.world.tree = "v2"
        bench.wait()
        assert await bench.decided() == "paused"


async def test_s39_a_held_service_is_held() -> None:
    async with live() as bench:
        bench.world.feed_.show(hold=fingerprint("v1").digest, images={"app": "todo-backend:0.9"})
        bench.wait()
        assert await bench.decided() == "held"


async def test_s39_manifests_that_are_not_applied_take_a_trip_of_their_own() -> None:
    async def beside(_: Service) -> bool:
        return True

    async with live() as bench:
        bench.beside = beside
        bench.wait()
        assert await bench.decided() == "live"
        assert outcomes(bench.world) == ["Live", "Unchanged"]


async def test_s39_after_the_time_is_up_it_is_undecided() -> None:
    async with live() as bench:
        bench.world.builds.script.append(anyio.Event())
        bench.world.tree = "v2"
        bench.wait(seconds=0.5)
        assert await bench.decided() == "undecided"
        assert bench.decisions[-1].standing.word == "working"


async def test_s39_each_service_is_decided_on_its_own() -> None:
    tool = replace(SERVICE, name="tool", targets=())
    world = FakeWorld("v1")
    async with working(world, (SERVICE, tool)) as pool, anyio.create_task_group() as group:
        await until(lambda: is_live(world) and is_live(world, "tool"))
        bench = Bench(world, pool, group)
        bench.wait("backend", "tool", "nobody")
        await until(lambda: len(bench.decisions) == 3)
        assert {one.service: one.state for one in bench.decisions} == {
            "backend": "live", "tool": "live", "nobody": "gone",
        }  # fmt: skip
        group.cancel_scope.cancel()


async def test_s39_a_service_that_config_yaml_changes_meanwhile_has_another_worker_to_decide() -> None:
    async with live() as bench:
        bench.world.builds.script.append(anyio.Event())
        bench.world.tree = "v2"
        bench.wait()
        await until(lambda: bench.world.builds.calls == 2)
        bench.pool.employ([replace(SERVICE, build=replace(SERVICE.build, args={"A": "1"}))])
        assert await bench.decided() == "live"
        assert bench.digest() == TREE.digest


async def test_s39_one_that_leaves_config_yaml_is_gone() -> None:
    async with live() as bench:
        bench.world.builds.script.append(anyio.Event())
        bench.world.tree = "v2"
        bench.wait()
        await until(lambda: bench.world.builds.calls == 2)
        bench.pool.employ([])
        assert await bench.decided() == "gone"


async def test_s39_pods_that_were_live_and_crash_for_good_are_a_failure_of_this_tree() -> None:
    async with live() as bench:
        feed = bench.world.feed_
        (pod,) = feed.latest.pods
        (app,) = pod.containers
        ended = replace(app, ready=False, running=False, exit_code=1, exit_reason="Error", restarts=1)
        feed.show(pods=(replace(pod, ready=False, containers=(ended,)),), available=0)
        bench.wait()
        await settle()
        assert bench.decisions == [], "it may come back"
        looped = replace(ended, waiting="CrashLoopBackOff", restarts=3, message="back-off 40s restarting")
        feed.show(pods=(replace(pod, ready=False, containers=(looped,)),), available=0)
        assert await bench.decided() == "failed"
        found = describe_decision(bench.decisions[-1], Secrets())
        assert (found["now"], found["stage"], found["reason"]) == ("degraded", "rollout", "CrashLoopBackOff")
        assert found["cause"]


# --- the decision itself ---------------------------------------------------------------------------


def image_of(tree: str) -> LoadedImage:
    found = fingerprint(tree)
    return LoadedImage(Image("backend", found, ref(tree), "sha256:1", "cli"), ("node",), "shared")


LIVE = Live(Rollout(image_of("v2"), (), ()), TIME)
UNREAD = Failed("fingerprint", FingerprintError("no such file"), TIME)


@pytest.mark.parametrize(
    ("standing", "digest", "expected"),
    [
        (Standing("live", True, False, LIVE, began=1.0), TREE.digest, "live"),
        (Standing("live", True, False, LIVE, began=1.0), OLD.digest, ""),
        (Standing("live", True, False, LIVE, began=1.0), "", ""),
        (Standing("live", True, False, LIVE, began=5.0), "", "live"),
        (Standing("live", True, False, LIVE, began=5.0), OLD.digest, "live"),
        (Standing("live", True, True, LIVE, began=5.0), TREE.digest, ""),
        (Standing("working", False, False, LIVE, began=5.0), TREE.digest, ""),
        (Standing("degraded", False, False, LIVE, began=5.0), TREE.digest, ""),
        (Standing("live", True, False, Unchanged(TREE, ref("v2"), TIME), began=1.0), TREE.digest, "live"),
        (Standing("failed", False, False, UNREAD, began=1.0), TREE.digest, ""),
        (Standing("failed", False, False, UNREAD, began=5.0), "", "failed"),
        (Standing("waiting", False, False, UNREAD, began=5.0), "", ""),
        (Standing("held", False, False, Held(TREE, TIME), began=1.0), TREE.digest, "held"),
        (Standing("held", False, False, Held(OLD, TIME), began=1.0), TREE.digest, ""),
        (Standing("contested", False, False, LIVE, began=1.0), TREE.digest, "contested"),
        (Standing("failed", False, False, Superseded("build", TIME), began=5.0), TREE.digest, ""),
        (Standing("starting", False, False, None, began=0.0), TREE.digest, ""),
        (Standing("paused", False, True, LIVE, began=1.0), "", "paused"),
    ],
)
def test_s39_only_an_outcome_of_the_tree_of_now_decides(
    standing: Standing, digest: str, expected: str
) -> None:
    assert decide(standing, digest, 4.0) == expected
