"""before_build and after_live over real workers of a fake world, where generators write into the tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.clock import Clock
from devloop.control.waiting import Decision, Waiting
from devloop.errors import BuildError, HookError
from devloop.events import Notice, Output, StageEnded, TripEnded
from devloop.model import Change, Failed, Hook, Hooks, Live, Service
from devloop.trip.after_live import AfterLive
from devloop.trip.once import once
from devloop.trip.sharing import Sharing
from devloop.trip.worker import Worker
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld, fingerprint
from tests.support.pools import is_live, net_of, outcomes, reasons, save, settle, states, until, working

pytestmark = pytest.mark.anyio
HOOK = Hook(("make", "generate"), 60.0, Path("/src"))
SERVICE_WITH = replace(SERVICE, hooks=Hooks(before_build=HOOK))
TESTED = replace(SERVICE, hooks=Hooks(after_live=HOOK))
CONFIRM = "looking at what before_build wrote"


def ref(tree: str) -> str:
    return SERVICE.ref(fingerprint(tree))


def generator(tree: str) -> str:
    """The same for the same source: v2 becomes v2+2."""
    source = tree.partition("+")[0]
    return f"{source}+{source[1:]}"


def hooks_of(world: FakeWorld) -> int:
    return len(world.hooked)


def notices(world: FakeWorld) -> list[str]:
    return [event.message for event in world.events if isinstance(event, Notice)]


@asynccontextmanager
async def at_work(world: FakeWorld, service: Service = SERVICE_WITH) -> AsyncIterator[WorkerPool]:
    async with working(world, (service,)) as pool:
        yield pool


async def test_what_it_generates_is_built_and_confirmed_once() -> None:
    world = FakeWorld("v1")
    world.generates = generator
    async with at_work(world):
        await until(lambda: len(outcomes(world)) == 2)
        await settle()
        assert world.patched == [ref("v1+1")]
        assert outcomes(world) == ["Live", "Unchanged"]
        assert reasons(world) == ["start", CONFIRM]
        assert world.hooked == [("before_build", {"DEVLOOP_SERVICE": "backend"})] * 2
        assert world.builds.calls == 1, "the tree before it is not built"
    assert Output("backend", "before_build", "before_build ran") in world.events
    stages = [event.stage for event in world.events if isinstance(event, StageEnded)]
    assert stages[:4] == ["detect", "fingerprint", "before_build", "fingerprint"]


async def test_where_it_changes_nothing_it_runs_once_a_save() -> None:
    world = FakeWorld("v1")
    async with at_work(world) as pool:
        await until(lambda: is_live(world))
        save(world, pool, "v2")
        await until(lambda: world.patched == [ref("v1"), ref("v2")] and is_live(world))
        await settle()
        assert hooks_of(world) == 2
        assert outcomes(world) == ["Live", "Live"]


async def test_its_own_writes_make_no_endless_row_of_trips() -> None:
    """Each of its runs makes a file event, during it and after it, also where the content is the same."""
    world = FakeWorld("v1")
    async with at_work(world) as pool:
        generated = Path("/src/generated.py")

        def generates(tree: str) -> str:
            save(world, pool, generator(tree), "backend", str(generated))
            return generator(tree)

        await until(lambda: is_live(world))
        world.generates = generates
        save(world, pool, "v2", "backend", "/src/source.proto")
        await until(lambda: is_live(world) and reasons(world)[-1] == CONFIRM)
        await settle()
        assert world.patched == [ref("v1"), ref("v2+2")]
        assert outcomes(world) == ["Live", "Live", "Unchanged"], "nothing was superseded by its writes"
        save(world, pool, world.tree, "backend", str(generated))  # an event that came late
        await until(lambda: len(outcomes(world)) == 4)
        await settle()
        assert outcomes(world)[-1] == "Unchanged"
        assert hooks_of(world) == 3, "no run for that"


async def test_a_generator_that_writes_something_else_each_time_is_left_at_that() -> None:
    world = FakeWorld("v1")
    numbers = iter(range(100))
    world.generates = lambda tree: f"{tree.partition('+')[0]}+{next(numbers)}"
    async with at_work(world) as pool:
        await until(lambda: any("something else each" in text for text in notices(world)))
        await until(lambda: is_live(world) and len(outcomes(world)) == 3)
        await settle()
        assert hooks_of(world) == 3
        assert world.patched == [ref("v1+0"), ref("v1+1"), ref("v1+2")]
        save(world, pool, "v2")
        await until(lambda: world.patched[-1] == ref("v2+5"))
        await until(lambda: len(outcomes(world)) == 6)
        await settle()
        assert hooks_of(world) == 6


async def test_a_save_while_it_runs_does_not_end_it_and_is_generated_from_too() -> None:
    """It may have read the file before."""
    world = FakeWorld("v1")
    async with at_work(world) as pool:
        await until(lambda: is_live(world))
        world.generates = lambda tree: "v3+2" if hooks_of(world) == 2 else generator(tree)
        stays = anyio.Event()
        world.hooks.script.append(stays)
        save(world, pool, "v2", "backend", "/src/source.proto")
        await until(lambda: hooks_of(world) == 2)
        save(world, pool, "v3", "backend", "/src/source.proto")
        await settle()
        assert world.hooks.cancelled == 0
        stays.set()
        await until(lambda: world.patched[-1] == ref("v3+3") and is_live(world))
        assert world.hooks.cancelled == 0


async def test_a_save_after_it_ran_supersedes_the_trip() -> None:
    world = FakeWorld("v1")
    world.generates = generator
    async with at_work(world) as pool:
        await until(lambda: len(outcomes(world)) == 2)
        world.builds.script.append(anyio.Event())
        save(world, pool, "v2", "backend", "/src/source.proto")
        await until(lambda: world.builds.calls == 2)
        save(world, pool, "v3", "backend", "/src/source.proto")
        await until(lambda: world.patched[-1] == ref("v3+3") and is_live(world))
        assert outcomes(world)[2] == "Superseded"


async def test_a_failure_stops_the_trip_and_a_save_is_the_next_try() -> None:
    world = FakeWorld("v1")
    async with at_work(world) as pool:
        await until(lambda: is_live(world))
        world.hooks.script.append(HookError("before_build: exit code 2: make generate"))
        save(world, pool, "v2")
        await until(lambda: states(world)[-1] == ("failed", False))
        await settle()
        ended = [event.outcome for event in world.events if isinstance(event, TripEnded)]
        assert isinstance(ended[-1], Failed)
        assert (ended[-1].stage, ended[-1].error.exit_code) == ("before_build", 1)
        assert (hooks_of(world), world.builds.calls) == (2, 1), "not tried again by itself, nothing built"
        save(world, pool, "v3")
        await until(lambda: is_live(world) and world.patched[-1] == ref("v3"))


async def test_what_is_missing_before_it_ran_is_no_failure() -> None:
    world = FakeWorld("v1")
    world.fingerprints.script.append(BuildError("COPY gen: no such file"))
    world.generates = generator
    async with at_work(world):
        await until(lambda: is_live(world))
        assert world.patched == [ref("v1+1")]


async def test_nothing_is_run_where_nothing_is_to_be_built() -> None:
    """Somebody has the image already, at the start; later, what others do is mended without it."""
    world = FakeWorld("v1")
    world.built.add(ref("v1"))
    async with at_work(world) as pool:
        await until(lambda: is_live(world))
        world.roll("todo-backend:by-hand")
        await until(lambda: len(outcomes(world)) == 2 and is_live(world))
        pool.begin("backend", Change(frozenset(), 0.0, 0.0, "restart", restart=True))
        await until(lambda: len(outcomes(world)) == 3 and is_live(world))
        assert hooks_of(world) == 0


async def test_a_manual_service_is_not_pending_by_what_it_generates() -> None:
    world = FakeWorld("v1")
    async with at_work(world, replace(SERVICE_WITH, trigger="manual")) as pool:
        await until(lambda: is_live(world))

        def generates(tree: str) -> str:
            save(world, pool, generator(tree), "backend", "/src/generated.py")
            return generator(tree)

        world.generates = generates
        save(world, pool, "v2", "backend", "/src/source.proto")
        await until(lambda: states(world)[-1] == ("pending", False))
        assert pool.trigger("backend")
        await until(lambda: len(outcomes(world)) == 3)
        await settle()
        assert states(world)[-1] == ("live", True)


async def test_s39_a_wait_is_answered_for_what_was_generated() -> None:
    world = FakeWorld("v1")
    world.generates = generator

    async def take(decision: Decision) -> None:
        assert decision.standing.outcome is not None

    async def nothing_beside(_: Service) -> bool:
        return False

    async with at_work(world) as pool:
        await until(lambda: is_live(world))
        world.tree = "v2"  # and no event
        waiting = Waiting(pool, world, world.clock, lambda: None, nothing_beside)
        (decision,) = await waiting.decide(("backend",), 3600.0, take)
        assert decision.state == "live"
        assert world.patched[-1] == ref("v2+2")


# --- after_live ----------------------------------------------------------------------------------


@asynccontextmanager
async def at_rest(world: FakeWorld, service: Service = TESTED) -> AsyncIterator[WorkerPool]:
    """A pool whose after_live hooks run."""
    after = AfterLive(world.world())
    pool = WorkerPool(world.world(), lambda _: nullcontext(), net_of(world), Sharing(), (after,))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(after.run)
            group.start_soon(pool.run, (service,))
            yield pool
            group.cancel_scope.cancel()


async def test_after_live_knows_what_is_live() -> None:
    world = FakeWorld("v1")
    async with at_rest(world):
        await until(lambda: Output("backend", "after_live", "after_live ran") in world.events)
    variables = {
        "DEVLOOP_SERVICE": "backend",
        "DEVLOOP_IMAGE": ref("v1"),
        "DEVLOOP_FINGERPRINT": fingerprint("v1").digest,
        "DEVLOOP_URL": "http://127.0.0.1:30080",
    }
    assert world.hooked == [("after_live", variables)]


async def test_a_failure_of_after_live_is_reported_and_the_service_stays_live() -> None:
    world = FakeWorld("v1")
    failure = HookError("after_live: exit code 1: make smoke", cause="AssertionError: 500")
    world.hooks.script.append(failure)
    async with at_rest(world):
        await until(lambda: notices(world))
        await settle()
        assert notices(world) == ["after_live: exit code 1: make smoke: AssertionError: 500"]
        assert states(world)[-1] == ("live", True)
        assert outcomes(world) == ["Live"]


async def test_the_next_live_trip_ends_an_after_live_that_runs() -> None:
    world = FakeWorld("v1")
    world.hooks.script.append(anyio.Event())
    async with at_rest(world) as pool:
        await until(lambda: hooks_of(world) == 1)
        save(world, pool, "v2")
        await until(lambda: hooks_of(world) == 2)
        assert world.hooks.cancelled == 1
        await until(lambda: Output("backend", "after_live", "after_live ran") in world.events)


async def test_the_look_at_what_before_build_wrote_ends_no_after_live() -> None:
    world = FakeWorld("v1")
    world.generates = generator
    service = replace(SERVICE, hooks=Hooks(before_build=HOOK, after_live=HOOK))
    async with at_rest(world, service):
        await until(lambda: outcomes(world) == ["Live", "Unchanged"])
        await until(lambda: Output("backend", "after_live", "after_live ran") in world.events)
    assert sorted(name for name, _ in world.hooked) == ["after_live", "before_build", "before_build"]


async def test_nothing_runs_after_a_trip_that_changed_nothing_or_failed() -> None:
    world = FakeWorld("v1")
    async with at_rest(world) as pool:
        await until(lambda: hooks_of(world) == 1)
        save(world, pool, "v1")
        await until(lambda: len(outcomes(world)) == 2)
        world.builds.script.append(BuildError("no"))
        save(world, pool, "v2")
        await until(lambda: len(outcomes(world)) == 3)
        await settle()
        assert outcomes(world) == ["Live", "Unchanged", "Failed"]
        assert hooks_of(world) == 1


async def test_once_runs_both_and_waits_for_after_live() -> None:
    world = FakeWorld("v1")
    world.generates = generator
    service = replace(SERVICE, hooks=Hooks(before_build=HOOK, after_live=HOOK))
    after = AfterLive(world.world())
    with anyio.fail_after(20):
        found = await once([Worker(service, world.world(), Sharing(), (after,))], Clock())
        await after.finish()
    assert isinstance(found["backend"], Live)
    assert [name for name, _ in world.hooked] == ["before_build", "after_live"]
    assert states(world)[-1] == ("live", True)
