"""Rebuild, restart, pause and resume, over real workers of a fake world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from devloop.control.actions import Actions, Result
from devloop.errors import ConfigError, PlatformError
from devloop.events import TripEnded
from devloop.inputs.rebuild_salt import RebuildSalts, read
from devloop.model import Live, Service
from devloop.trip.worker_pool import WorkerPool
from tests.support.fakes import SERVICE, FakeWorld, fingerprint
from tests.support.pools import is_live, outcomes, reasons, save, settle, states, until, working

pytestmark = pytest.mark.anyio


def ref(tree: str) -> str:
    return SERVICE.ref(fingerprint(tree))


class Holds:
    """Which services are held, as annotations of the cluster would say."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.trouble: PlatformError | None = None

    async def release(self, service: Service) -> bool:
        if self.trouble is not None:
            raise self.trouble
        was_held = service.name in self.held
        self.held.discard(service.name)
        return was_held


@pytest.fixture
def holds() -> Holds:
    return Holds()


@pytest.fixture
def rebuilt(tmp_path: Path) -> RebuildSalts:
    return RebuildSalts(tmp_path)


@asynccontextmanager
async def live(
    world: FakeWorld, rebuilt: RebuildSalts, holds: Holds, *services: Service
) -> AsyncIterator[tuple[WorkerPool, Actions]]:
    async with working(world, services or (SERVICE,)) as pool:
        await until(lambda: is_live(world))
        yield pool, Actions(pool, rebuilt, holds.release, world.clock)


async def test_a_rebuild_salts_the_fingerprint_and_begins_a_trip(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        assert await actions.rebuild() == (Result("backend", True, "rebuilding"),)
        await until(lambda: len(outcomes(world)) == 2)
        assert reasons(world)[-1] == "rebuild"
        first = rebuilt.by_service["backend"]
        await actions.rebuild(["backend"])
        assert rebuilt.by_service["backend"] != first
    assert read(rebuilt._folder) == rebuilt.by_service, "the next start goes on from there"


async def test_a_restart_replaces_the_pods_of_a_live_service_and_is_judged_as_a_rollout(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        pods = world.feed_.latest.pods
        world.rolls_by_itself = False
        assert await actions.restart(["backend"]) == (Result("backend", True, "restarting"),)
        await until(lambda: world.restarted == [ref("v1")])
        await settle()
        assert not is_live(world), "its pods are not there yet"
        world.roll(ref("v1"))
        await until(lambda: is_live(world))
        assert world.feed_.latest.pods != pods
        await settle()
    ended = [event.outcome for event in world.events if isinstance(event, TripEnded)]
    assert isinstance(ended[-1], Live)
    assert [revision.changed for revision in ended[-1].rollout.revisions] == [True]
    assert reasons(world) == ["start", "restart"], "and what follows from it is no drift"
    assert world.patched == [ref("v1")]
    assert world.builds.calls == 1


async def test_a_restart_of_a_tree_that_has_changed_brings_that_tree(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        world.tree = "v2"
        await actions.restart()
        await until(lambda: world.patched[-1] == ref("v2") and is_live(world))
        assert world.restarted == []


async def test_a_restart_that_is_superseded_by_a_save_still_replaces_the_pods(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    """The save turns out to change nothing."""
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (pool, actions):
        stays = anyio.Event()
        world.fingerprints.script.append(stays)
        await actions.restart()
        await until(lambda: world.fingerprints.calls == 2)
        save(world, pool, "v1")
        await until(lambda: world.restarted == [ref("v1")] and is_live(world))


async def test_what_is_saved_while_paused_waits_for_the_resume(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (pool, actions):
        assert await actions.pause() == (Result("backend", True, "paused"),)
        assert await actions.pause() == (Result("backend", True, "was paused already"),)
        assert states(world)[-1] == ("paused", False)
        save(world, pool, "v2", "backend", "/src/a.py")
        save(world, pool, "v3", "backend", "/src/b.py")
        await settle()
        assert outcomes(world) == ["Live"]
        assert await actions.resume() == (Result("backend", True, "resumed"),)
        await until(lambda: is_live(world))
        assert world.patched == [ref("v1"), ref("v3")]
        seconds = [event.outcome.timing.trip for event in world.events if isinstance(event, TripEnded)]
        assert seconds[-1] < 1, "the time that it was paused is no part of the trip"
    assert [word for word, _ in states(world)] == ["working", "live", "paused", "working", "live"]


async def test_a_trip_that_runs_goes_on_over_a_pause(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (pool, actions):
        stays = anyio.Event()
        world.builds.script.append(stays)
        save(world, pool, "v2")
        await until(lambda: world.builds.calls == 2)
        await actions.pause()
        assert states(world)[-1] == ("working", False)
        save(world, pool, "v3")
        await settle()
        stays.set()
        await until(lambda: world.patched[-1] == ref("v2"))
        await until(lambda: states(world)[-1] == ("paused", False))
        assert outcomes(world) == ["Live", "Live"]


async def test_what_others_do_to_a_paused_service_is_mended_after_the_resume(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        await actions.pause()
        for number in range(6):  # more often than S20 has patience
            world.roll(f"todo-backend:by-hand-{number}")
            await settle()
        assert states(world)[-1] == ("paused", False)
        await actions.resume()
        await until(lambda: is_live(world))
        assert world.patched == [ref("v1"), ref("v1")]


async def test_a_pause_outlives_a_change_of_config_yaml(rebuilt: RebuildSalts, holds: Holds) -> None:
    changed = replace(SERVICE, build=replace(SERVICE.build, args={"A": "1"}))
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (pool, actions):
        await actions.pause()
        pool.employ([changed])
        await settle()
        assert outcomes(world) == ["Live"]
        await actions.resume()
        await until(lambda: outcomes(world) == ["Live", "Unchanged"])


async def test_a_paused_service_is_neither_rebuilt_nor_restarted(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        await actions.pause()
        for did in (await actions.rebuild(), await actions.restart()):
            assert did == (Result("backend", False, "is paused", "devloop resume backend"),)
        await actions.resume()
        await until(lambda: len(outcomes(world)) == 2)
        assert rebuilt.by_service == {}
        assert world.restarted == []


async def test_a_resume_lifts_holds_too(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        assert await actions.resume() == (Result("backend", True, "was neither paused nor held"),)
        holds.held.add("backend")
        assert await actions.resume() == (Result("backend", True, "no longer held"),)
        assert holds.held == set()


async def test_a_pause_is_lifted_though_the_cluster_does_not_answer(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (pool, actions):
        holds.trouble = PlatformError("no answer", hint="is it up?")
        await actions.pause()
        (result,) = await actions.resume()
        assert (result.done, result.hint) == (False, "is it up?")
        assert "no answer" in result.message
        assert not pool.is_paused("backend")


async def test_a_service_that_is_held_is_not_restarted(rebuilt: RebuildSalts, holds: Holds) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        world.feed_.show(hold=fingerprint("v1").digest, images={"app": "todo-backend:0.9"})
        await until(lambda: states(world)[-1] == ("held", False))
        (result,) = await actions.restart()
        assert not result.done
        assert "held" in result.message
        assert world.restarted == []


async def test_an_unknown_service_is_an_error_that_names_the_others(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world = FakeWorld()
    async with live(world, rebuilt, holds) as (_, actions):
        for action in (actions.rebuild, actions.restart, actions.pause, actions.resume):
            with pytest.raises(ConfigError, match="frontend") as caught:
                await action(["backend", "frontend"])
            assert "backend" in (caught.value.hint or "")
        await settle()
        assert outcomes(world) == ["Live"]


async def test_a_service_without_workloads_has_nothing_to_restart(
    rebuilt: RebuildSalts, holds: Holds
) -> None:
    world, tool = FakeWorld(), replace(SERVICE, name="tool", targets=())
    async with live(world, rebuilt, holds, SERVICE, tool) as (_, actions):
        await until(lambda: is_live(world, "tool"))
        found = {result.service: result.done for result in await actions.restart()}
        assert found == {"backend": True, "tool": False}
