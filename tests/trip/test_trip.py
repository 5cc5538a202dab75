from __future__ import annotations

import anyio

from devloop.errors import BuildError, LayersMissingError, LoadError, PatchError
from devloop.events import ImageBuilt, ImageLoaded, StageEnded
from devloop.model import (
    Change,
    Failed,
    Held,
    Live,
    LoadedImage,
    Outcome,
    Revision,
    Service,
    Target,
    Unchanged,
)
from devloop.rollout.judge import own_images
from devloop.stopwatch import Stopwatch
from devloop.trip.trip import trip
from tests.support.fakes import SERVICE, FakeWorld, fingerprint


async def travel(fake: FakeWorld) -> Outcome:
    now = fake.clock.now()
    change = Change(frozenset(), now, now)
    watch = Stopwatch(SERVICE.name, change, fake.clock, fake.events.append)
    return await trip(SERVICE, change, [fake.feed_], fake.world(), watch)


def stages(fake: FakeWorld) -> list[str]:
    return [event.stage for event in fake.events if isinstance(event, StageEnded)]


async def test_a_new_tree_is_built_loaded_patched_and_live() -> None:
    fake = FakeWorld("v1")
    outcome = await travel(fake)
    assert isinstance(outcome, Live)
    assert fake.patched == [SERVICE.ref(fingerprint("v1"))]
    assert stages(fake) == ["detect", "fingerprint", "build", "load", "patch", "rollout"]
    assert [type(e) for e in fake.events if isinstance(e, ImageBuilt | ImageLoaded)] == [
        ImageBuilt,
        ImageLoaded,
    ]
    assert set(outcome.timing.seconds()) == {*stages(fake), "trip"}


async def test_s4_a_tree_that_runs_already_needs_no_build_no_load_and_no_patch() -> None:
    fake = FakeWorld("v1", running=SERVICE.ref(fingerprint("v1")))
    assert isinstance(await travel(fake), Unchanged)
    assert (fake.builds.calls, fake.loads.calls, fake.patches.calls) == (0, 0, 0)


async def test_s18_a_tree_that_runs_with_no_pods_is_reported_as_that() -> None:
    fake = FakeWorld("v1", running=SERVICE.ref(fingerprint("v1")))
    fake.feed_.show(replicas=0, current=0, updated=0, available=0, pods=())
    outcome = await travel(fake)
    assert isinstance(outcome, Unchanged)
    assert outcome.idle


async def test_s4_a_running_rollout_is_followed_to_its_end() -> None:
    fake = FakeWorld("v1")
    assert isinstance(await travel(fake), Live)
    ref = SERVICE.ref(fingerprint("v1"))
    fake.feed_.show(updated=0, available=0, observed_generation=0)
    fake.loads.calls = 0

    class Rolling:
        """Becomes ready while the trip watches."""

        latest = fake.feed_.latest

        async def next(self, seen: object) -> object:
            fake.roll(ref)
            self.latest = fake.feed_.latest
            return self.latest

    now = fake.clock.now()
    change = Change(frozenset(), now, now)
    watch = Stopwatch(SERVICE.name, change, fake.clock, fake.events.append)
    outcome = await trip(SERVICE, change, [Rolling()], fake.world(), watch)  # type: ignore[list-item]
    assert isinstance(outcome, Unchanged)
    assert fake.patches.calls == 1


async def test_an_image_that_exists_already_is_reused_and_only_patched() -> None:
    fake = FakeWorld("v1")
    fake.built.add(SERVICE.ref(fingerprint("v1")))
    outcome = await travel(fake)
    assert isinstance(outcome, Live)
    assert outcome.image.how == "reused"
    assert (fake.builds.calls, fake.patches.calls) == (0, 1)


async def test_an_expected_error_becomes_the_outcome_and_its_stage_is_timed() -> None:
    fake = FakeWorld("v1")
    fake.builds.script = [BuildError("RUN false: exit code 1", reason="BuildFailed")]
    outcome = await travel(fake)
    assert isinstance(outcome, Failed)
    assert (outcome.stage, outcome.error.reason) == ("build", "BuildFailed")
    ended = [e for e in fake.events if isinstance(e, StageEnded) and e.stage == "build"]
    assert [e.outcome for e in ended] == ["failed"]
    assert fake.patched == []


async def test_s2_a_delta_whose_layers_are_gone_is_built_in_full_under_build() -> None:
    fake = FakeWorld("v1")
    fake.loads.script = [LayersMissingError("a layer below the delta is gone")]
    outcome = await travel(fake)
    assert isinstance(outcome, Live)
    assert (fake.builds.calls, fake.full_builds, fake.loads.calls) == (2, 1, 2)
    stages = [(e.stage, e.outcome) for e in fake.events if isinstance(e, StageEnded)]
    assert stages[2:6] == [("build", "ok"), ("load", "failed"), ("build", "ok"), ("load", "ok")]


async def test_a_full_build_that_does_not_load_either_is_a_failed_load() -> None:
    fake = FakeWorld("v1")
    fake.loads.script = [LayersMissingError("gone"), LoadError("refused", reason="LoadRefused")]
    outcome = await travel(fake)
    assert isinstance(outcome, Failed)
    assert (outcome.stage, outcome.error.reason, fake.full_builds) == ("load", "LoadRefused", 1)


async def test_s24_a_hold_for_this_tree_is_respected_and_another_tree_lifts_it() -> None:
    fake = FakeWorld("v1")
    fake.feed_.show(hold=fingerprint("v1").digest)
    assert isinstance(await travel(fake), Held)
    assert fake.patched == []
    fake.tree = "v2"
    assert isinstance(await travel(fake), Live)


async def test_s24_a_hold_that_comes_while_the_tree_is_built_is_respected() -> None:
    fake = FakeWorld("v1")
    building = anyio.Event()
    fake.builds.script = [building]
    async with anyio.create_task_group() as group:

        async def roll_back() -> None:
            while not fake.builds.calls:
                await anyio.lowlevel.checkpoint()
            fake.feed_.show(hold=fingerprint("v1").digest)
            building.set()

        group.start_soon(roll_back)
        assert isinstance(await travel(fake), Held)
    assert fake.patched == []


class Installing(FakeWorld):
    """Its manifests hold the Deployment: applied anew, they give the container our repository again."""

    async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
        if missing:
            self.feed_.show(images={"app": ref})
        return missing

    async def patch(self, target: Target, service: Service, loaded: LoadedImage) -> Revision:
        if not own_images(self.feed_.latest, service.image):
            raise PatchError("it has no container of ours", reason="NoContainer")
        return await super().patch(target, service, loaded)


async def test_s20_a_container_that_was_given_a_foreign_image_gets_its_manifest_again() -> None:
    """`kubectl set image` with another repository: no container is left that a PATCH could find."""
    ref = SERVICE.ref(fingerprint("v1"))
    fake = Installing("v1", running=ref)
    fake.feed_.show(images={"app": "nginx:1"})
    assert isinstance(await travel(fake), Live)
    assert fake.patched == [ref]


async def test_manifests_are_not_applied_anew_for_an_ordinary_edit() -> None:
    asked: list[bool] = []

    class Asked(FakeWorld):
        async def install(self, service: Service, ref: str, *, missing: bool = False) -> bool:
            asked.append(missing)
            return False

    assert isinstance(await travel(Asked("v1")), Live)
    assert asked == [False]
