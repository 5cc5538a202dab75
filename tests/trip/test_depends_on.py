"""`depends_on` over real workers of a fake world: the order of the first start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from devloop.clock import Clock
from devloop.errors import BuildError, DependencyError
from devloop.events import Output, TripEnded
from devloop.model import Failed, Live, Service
from devloop.trip.once import once
from devloop.trip.sharing import Sharing
from devloop.trip.worker import Worker
from tests.support.fakes import SERVICE, FakeWorld
from tests.support.pools import is_live, save, settle, states, until, working

pytestmark = pytest.mark.anyio
DB = replace(SERVICE, name="db", image="db", targets=())
API = replace(SERVICE, name="api", image="api", targets=(), depends_on=("db",))
WEB = replace(SERVICE, name="web", image="web", targets=(), depends_on=("api",))


def ended(world: FakeWorld, name: str) -> list[str]:
    events = (event for event in world.events if isinstance(event, TripEnded) and event.service == name)
    return [type(event.outcome).__name__ for event in events]


def failure(world: FakeWorld, name: str) -> Failed:
    events = (event for event in world.events if isinstance(event, TripEnded) and event.service == name)
    outcome = next(event.outcome for event in events if isinstance(event.outcome, Failed))
    assert isinstance(outcome, Failed)
    return outcome


def waits(world: FakeWorld, name: str) -> list[str]:
    return [
        event.line
        for event in world.events
        if isinstance(event, Output) and (event.service, event.stage) == (name, "depends_on")
    ]


class OneStays(FakeWorld):
    """The load of db waits for `stays`."""

    def __init__(self) -> None:
        super().__init__("v1")
        self.stays = anyio.Event()
        self.loaded: list[str] = []

    async def load(self, image):  # type: ignore[no-untyped-def]  # as in FakeWorld
        if image.service == "db":
            await self.stays.wait()
        self.loaded.append(image.service)
        return await super().load(image)


async def test_a_service_waits_with_its_rollout_for_those_it_depends_on_and_builds_meanwhile() -> None:
    world = OneStays()
    async with working(world, (WEB, API, DB)):
        await until(lambda: waits(world, "web") and waits(world, "api"))
        await settle()
        assert sorted(world.loaded) == ["api", "web"], "their images are there"
        assert (ended(world, "api"), ended(world, "web")) == ([], [])
        assert (waits(world, "web"), waits(world, "api")) == (["waits for api"], ["waits for db"])
        world.stays.set()
        await until(lambda: is_live(world, "web"))
    order = [event.service for event in world.events if isinstance(event, TripEnded)]
    assert order == ["db", "api", "web"]


async def test_it_is_for_the_first_start_only() -> None:
    world = FakeWorld("v1")
    async with working(world, (API, DB)) as pool:
        await until(lambda: is_live(world, "api") and is_live(world, "db"))
        world.builds.script.append(BuildError("no"))
        save(world, pool, "v2", "db")
        await until(lambda: states(world, "db")[-1] == ("failed", False))
        waited = len(waits(world, "api"))
        save(world, pool, "v3", "api")
        await until(lambda: ended(world, "api") == ["Live", "Live"])
        assert len(waits(world, "api")) == waited


async def test_while_a_dependency_has_failed_it_waits_and_says_for_what_and_goes_on_when_it_is_live() -> None:
    world = FakeWorld("v1")

    async def build(service: Service, fp: object) -> object:
        if service.name == "db" and world.tree == "v1":
            raise BuildError("RUN false: exit code 1")
        return await FakeWorld.build(world, service, fp)  # type: ignore[arg-type]

    world.build = build  # type: ignore[method-assign, assignment]
    async with working(world, (WEB, API, DB)) as pool:
        await until(lambda: states(world, "web")[-1:] == [("waiting", False)])
        await until(lambda: states(world, "api")[-1:] == [("waiting", False)])
        found = failure(world, "api")
        assert (found.stage, found.error.message) == ("depends_on", "api waits for db, which failed in build")
        assert found.error.hint == "fix db: api continues as soon as it is live"
        assert failure(world, "web").error.message == "web waits for api, which waits for db"
        save(world, pool, "v2", "db")
        await until(lambda: is_live(world, "db") and is_live(world, "api") and is_live(world, "web"))


async def test_one_that_is_not_worked_for_is_not_waited_for() -> None:
    world = FakeWorld("v1")
    async with working(world, (API,)):
        await until(lambda: is_live(world, "api"))
    assert waits(world, "api") == []


async def test_a_dependency_that_is_taken_out_of_config_yaml_is_waited_for_no_longer() -> None:
    world = OneStays()
    async with working(world, (API, DB)) as pool:
        await until(lambda: waits(world, "api"))
        pool.employ([API])
        await until(lambda: is_live(world, "api"))


async def settled(world: FakeWorld, services: Sequence[Service]) -> dict[str, object]:
    world.sharing = Sharing()
    world.sharing.employ(services)
    with anyio.fail_after(20):
        return dict(await once([Worker(one, world.world(), world.sharing, ()) for one in services], Clock()))


async def test_once_brings_them_in_their_order() -> None:
    world = FakeWorld("v1")
    found = await settled(world, (WEB, API, DB))
    assert all(isinstance(outcome, Live) for outcome in found.values())
    assert [event.service for event in world.events if isinstance(event, TripEnded)] == ["db", "api", "web"]


async def test_once_ends_with_a_failure_that_says_what_was_waited_for() -> None:
    world = FakeWorld("v1")

    async def build(service: Service, fp: object) -> object:
        if service.name == "db":
            raise BuildError("RUN false: exit code 1")
        return await FakeWorld.build(world, service, fp)  # type: ignore[arg-type]

    world.build = build  # type: ignore[method-assign, assignment]
    found = await settled(world, (WEB, API, DB))
    assert all(isinstance(outcome, Failed) for outcome in found.values())
    error = failure(world, "api").error
    assert isinstance(error, DependencyError)
    assert (error.exit_code, error.reason) == (1, "DependencyFailed")
