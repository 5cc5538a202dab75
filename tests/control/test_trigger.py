"""`trigger: manual` over real workers of a fake world: what is saved waits for its trigger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.control.actions import Actions, Result
from devloop.control.waiting import Decision, Waiting
from devloop.errors import BuildError, PlatformError, TreeMovedError
from devloop.events import Notice, TripEnded, TripStarted
from devloop.inputs.rebuild_salt import RebuildSalts
from devloop.model import Service
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld, fingerprint
from tests.support.pools import is_live, outcomes, reasons, save, settle, states, until, working

pytestmark = pytest.mark.anyio
MANUAL = replace(SERVICE, trigger="manual")


def ref(tree: str) -> str:
    return SERVICE.ref(fingerprint(tree))


async def _not_held(_: Service) -> bool:
    return False


@asynccontextmanager
async def live(
    tmp_path: Path, *services: Service, world: FakeWorld | None = None
) -> AsyncIterator[tuple[FakeWorld, WorkerPool, Actions]]:
    world = world or FakeWorld()
    async with working(world, services or (MANUAL,)) as pool:
        await until(lambda: outcomes(world))
        yield world, pool, Actions(pool, RebuildSalts(tmp_path), _not_held, world.clock)


def shown(world: FakeWorld) -> list[str]:
    return [word for word, _ in states(world)]


def notices(world: FakeWorld) -> list[str]:
    return [event.message for event in world.events if isinstance(event, Notice)]


async def test_the_first_start_deploys_it_and_what_is_saved_then_waits_for_the_trigger(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as (world, pool, actions):
        assert world.patched == [ref("v1")]
        save(world, pool, "v2", "backend", "/src/a.py")
        save(world, pool, "v3", "backend", "/src/b.py")
        await settle()
        assert states(world)[-1] == ("pending", False)
        assert notices(world) == ["manual trigger pending"], "once, however much is saved"
        assert outcomes(world) == ["Live"]
        assert await actions.trigger() == (Result("backend", True, "triggered"),)
        await until(lambda: is_live(world))
        assert world.patched == [ref("v1"), ref("v3")]
        started = [event for event in world.events if isinstance(event, TripStarted)]
        assert started[-1].change.paths == {Path("/src/a.py"), Path("/src/b.py")}
        ended = [event.outcome for event in world.events if isinstance(event, TripEnded)]
        assert ended[-1].timing.trip < 1, "the time until the trigger is no part of the trip"
    assert shown(world) == ["working", "live", "pending", "working", "live"]


async def test_without_anything_pending_a_trigger_does_nothing(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, _, actions):
        assert await actions.trigger(["backend"]) == (Result("backend", True, "nothing is pending"),)
        await settle()
        assert outcomes(world) == ["Live"]


async def test_a_service_that_follows_every_save_is_not_triggered(tmp_path: Path) -> None:
    async with live(tmp_path, SERVICE) as (_, _, actions):
        refused = Result("backend", False, "follows every save: its trigger is not manual")
        assert await actions.trigger(["backend"]) == (refused,)
        assert await actions.trigger() == (), "without names those that are manual are meant"


async def test_what_is_saved_during_its_trip_supersedes_nothing_and_is_pending_after_it(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as (world, pool, actions):
        stays = anyio.Event()
        world.builds.script.append(stays)
        save(world, pool, "v2")
        await actions.trigger()
        await until(lambda: world.builds.calls == 2)
        save(world, pool, "v3")
        await settle()
        assert states(world)[-1] == ("working", False)
        stays.set()
        await until(lambda: states(world)[-1] == ("pending", False))
        assert outcomes(world) == ["Live", "Live"]
        assert world.patched == [ref("v1"), ref("v2")]


async def test_a_rebuild_takes_it_up_too(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        save(world, pool, "v2")
        assert await actions.rebuild() == (Result("backend", True, "rebuilding"),)
        await until(lambda: is_live(world) and world.patched[-1] == ref("v2"))


async def test_a_pause_outlasts_the_trigger_and_a_resume_triggers_nothing(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        await actions.pause()
        save(world, pool, "v2")
        paused = Result("backend", False, "is paused", "devloop resume backend")
        assert await actions.trigger(["backend"]) == (paused,)
        assert states(world)[-1] == ("paused", False)
        await actions.resume()
        await settle()
        assert states(world)[-1] == ("pending", False)
        assert outcomes(world) == ["Live"]
        await actions.trigger()
        await until(lambda: is_live(world))


async def test_what_others_do_while_it_is_pending_is_mended_after_the_trigger(tmp_path: Path) -> None:
    """A trip that mended it would bring what was saved."""
    async with live(tmp_path) as (world, pool, actions):
        save(world, pool, "v2")
        for number in range(6):  # more often than S20 has patience
            world.roll(f"todo-backend:by-hand-{number}")
            await settle()
        assert outcomes(world) == ["Live"]
        await actions.trigger()
        await until(lambda: is_live(world))
        assert world.patched == [ref("v1"), ref("v2")]


async def test_with_nothing_pending_what_others_do_is_mended_at_once(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, _, _):
        world.roll("todo-backend:by-hand")
        await until(lambda: len(outcomes(world)) == 2 and is_live(world))
        assert world.patched == [ref("v1"), ref("v1")]


async def test_a_triggered_trip_is_tried_again_until_the_platform_is_back(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        save(world, pool, "v2")
        world.builds.script.append(PlatformError("the engine is gone"))
        await actions.trigger()
        await until(lambda: is_live(world) and world.patched[-1] == ref("v2"))
        assert outcomes(world) == ["Live", "Failed", "Live"]


async def test_a_triggered_trip_of_a_tree_that_moves_starts_over_with_what_was_saved(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        save(world, pool, "v2")
        stays = anyio.Event()
        world.fingerprints.script += [stays, TreeMovedError("it moved")]
        world.builds.script.append(TreeMovedError("a.py was written while it was read"))
        await actions.trigger()
        await until(lambda: world.fingerprints.calls == 2)
        save(world, pool, "v3")
        stays.set()
        await until(lambda: is_live(world) and world.patched[-1] == ref("v3"))


async def test_a_failure_stays_until_the_trigger_after_the_fix(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        world.builds.script.append(BuildError("RUN false: exit code 1"))
        save(world, pool, "v2")
        await actions.trigger()
        await until(lambda: states(world)[-1] == ("failed", False))
        save(world, pool, "v3")
        await settle()
        assert states(world)[-1] == ("pending", False)
        await actions.trigger()
        await until(lambda: is_live(world))


async def test_its_new_configuration_waits_for_the_trigger_but_a_new_service_is_deployed(
    tmp_path: Path,
) -> None:
    changed = replace(MANUAL, build=replace(MANUAL.build, args={"A": "1"}))
    new = replace(MANUAL, name="new", targets=())
    async with live(tmp_path) as (world, pool, actions):
        world.tree = "v2"
        pool.employ([changed, new])
        await until(lambda: is_live(world, "new"))
        assert states(world)[-1] == ("pending", False)
        assert ref("v2") not in world.patched
        assert len(await actions.trigger()) == 2
        await until(lambda: is_live(world))
        assert world.patched[-1] == ref("v2")


async def test_a_service_that_shares_its_workload_does_not_wait_for_one_that_is_pending(
    tmp_path: Path,
) -> None:
    changed = replace(MANUAL, build=replace(MANUAL.build, args={"A": "1"}))
    async with live(tmp_path) as (_, pool, _):
        other = replace(SERVICE, name="other", image="other")
        pool.employ([changed, other])
        await settle()
        assert pool._sharing._rests["backend"] == "waits for devloop trigger"


# --- wait ----------------------------------------------------------------------------------------


class Waits:
    def __init__(self, world: FakeWorld, pool: WorkerPool, *, needs_trip: bool = False) -> None:
        self.decisions: list[Decision] = []
        self._needs_trip = needs_trip
        self._waiting = Waiting(pool, world, world.clock, lambda: None, self._beside)

    async def decide(self) -> str:
        (decision,) = await self._waiting.decide(("backend",), 3600.0, self._note)
        return decision.state

    async def _note(self, decision: Decision) -> None:
        self.decisions.append(decision)

    async def _beside(self, _: Service) -> bool:
        return self._needs_trip


async def test_s39_what_is_pending_is_answered_as_that(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, actions):
        waits = Waits(world, pool)
        assert await waits.decide() == "live"
        save(world, pool, "v2")
        assert await waits.decide() == "pending"
        await actions.trigger()
        assert await waits.decide() == "live"
        assert world.patched == [ref("v1"), ref("v2")]


async def test_s39_an_edit_whose_event_is_still_on_its_way_is_pending_and_no_wait_triggers_it(
    tmp_path: Path,
) -> None:
    async with live(tmp_path) as (world, pool, _):
        world.tree = "v2"  # and no event
        waits = Waits(world, pool)
        assert await waits.decide() == "pending"
        assert await waits.decide() == "pending"
        assert outcomes(world) == ["Live"]


async def test_s39_what_is_beside_the_tree_is_looked_at_without_a_trigger(tmp_path: Path) -> None:
    async with live(tmp_path) as (world, pool, _):
        assert await Waits(world, pool, needs_trip=True).decide() == "live"
        assert reasons(world) == ["start", "devloop wait"]
        save(world, pool, "v2")
        assert await Waits(world, pool, needs_trip=True).decide() == "pending"
