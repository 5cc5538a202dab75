"""What the garbage collection takes and leaves, on two real engines."""

from __future__ import annotations

import time
from contextlib import aclosing

import pytest

from devloop.adapters.docker.config_digest import Digests
from devloop.adapters.docker.connection import EngineRefusedError
from devloop.adapters.docker.engine import Engine
from devloop.adapters.nodes.gc import LEFTOVER_SECONDS, Collector, Keep
from devloop.adapters.nodes.routes import EngineRoute, SharedRoute
from devloop.adapters.nodes.stores import EngineStore
from devloop.model import Image
from tests.adapters.conftest import Bench, fingerprint

pytestmark = pytest.mark.engine


@pytest.fixture
async def images(bench: Bench, tiny: str) -> list[Image]:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    return [await bench.builder().build(service, fingerprint()) for _ in range(3)]


def shared(bench: Bench) -> SharedRoute:
    return SharedRoute(bench.engine, (EngineStore("node", bench.engine, bench.digests),))


async def left(engine: Engine, images: list[Image]) -> list[bool]:
    return [await engine.inspect(image.ref) is not None for image in images]


async def test_s25_what_was_live_and_is_not_kept_goes_at_once(bench: Bench, images: list[Image]) -> None:
    keep = Keep(frozenset((images[0].ref,)), lived=frozenset((images[0].ref, images[1].ref)))
    removed = await Collector(bench.engine, bench.project, lambda: keep).collect(shared(bench), time.time())
    assert removed == (images[1].ref,)
    assert await left(bench.engine, images) == [True, False, True]


async def test_s25_images_of_failed_trips_go_after_an_hour(bench: Bench, images: list[Image]) -> None:
    keep = Keep(frozenset((images[0].ref,)))
    collector = Collector(bench.engine, bench.project, lambda: keep)
    assert await collector.collect(shared(bench), time.time()) == ()
    removed = await collector.collect(shared(bench), time.time() + LEFTOVER_SECONDS + 60)
    assert set(removed) == {images[1].ref, images[2].ref}
    assert await left(bench.engine, images) == [True, False, False]


async def test_s25_a_kept_reference_counts_however_it_is_written(bench: Bench, images: list[Image]) -> None:
    keep = Keep(frozenset(f"docker.io/library/{image.ref}" for image in images))
    collector = Collector(bench.engine, bench.project, lambda: keep)
    assert await collector.collect(shared(bench), time.time() + 2 * LEFTOVER_SECONDS) == ()


async def test_s25_another_projects_images_stay(bench: Bench, images: list[Image]) -> None:
    collector = Collector(bench.engine, "other-project", lambda: Keep(frozenset()))
    assert await collector.collect(shared(bench), time.time() + 2 * LEFTOVER_SECONDS) == ()
    assert await left(bench.engine, images) == [True, True, True]


async def test_s25_an_image_that_a_trip_takes_up_meanwhile_stays(bench: Bench, images: list[Image]) -> None:
    """`keep` is asked again before each removal."""
    asked = 0

    def keep() -> Keep:
        nonlocal asked
        asked += 1
        return Keep(frozenset(image.ref for image in images) if asked > 1 else frozenset())

    collector = Collector(bench.engine, bench.project, keep)
    assert await collector.collect(shared(bench), time.time() + 2 * LEFTOVER_SECONDS) == ()
    assert await left(bench.engine, images) == [True, True, True]


async def test_s25_containers_that_a_killed_devloop_left_go_after_an_hour(
    bench: Bench, images: list[Image]
) -> None:
    """They only serve to read an image, and keep it from being removed."""
    left_over = await bench.engine.create_container(images[0].ref)
    keep = Keep(frozenset(image.ref for image in images))
    collector = Collector(bench.engine, bench.project, lambda: keep)
    await collector.collect(shared(bench), time.time())
    await bench.engine.remove_old_containers(time.time() - LEFTOVER_SECONDS)
    async with aclosing(bench.engine.archive(left_over, "file")) as pieces:
        assert [piece async for piece in pieces]  # it is there
    await collector.collect(shared(bench), time.time() + LEFTOVER_SECONDS + 60)
    with pytest.raises(EngineRefusedError):
        await bench.engine.remove_container(left_over)


async def test_s25_nodes_are_collected_too(bench: Bench, node: Engine, images: list[Image]) -> None:
    store = EngineStore("minikube", node, Digests(node))
    route = EngineRoute("docker-env", bench.engine, bench.digests, (store,))
    for image in images:
        await route.send(image, route.stores, lambda done: None)
    keep = Keep(frozenset((images[0].ref,)), lived=frozenset(image.ref for image in images))
    removed = await Collector(bench.engine, bench.project, lambda: keep).collect(route, time.time())
    assert f"minikube: {images[1].ref}" in removed
    assert await left(node, images) == [True, False, False]
    assert await left(bench.engine, images) == [True, False, False]
