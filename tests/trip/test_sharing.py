"""What services that share a workload know of each other (S26)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from devloop.errors import BuildError, TargetMissingError, TreeMovedError
from devloop.model import (
    ContainerView,
    Failed,
    PodView,
    Progressing,
    Service,
    Snapshot,
    Stuck,
    Superseded,
    Target,
    Timing,
)
from devloop.rollout.judge import Expectation, judge, lost_image
from devloop.rollout.pod_logs import follow_logs
from devloop.trip.sharing import Sharing
from tests.support.fakes import SERVICE, FakeFeed, fingerprint

pytestmark = pytest.mark.anyio

POD = Target("deployment", "pod", "default", container="app")
APP = replace(SERVICE, name="app", image="app", targets=(POD,))
SIDE = replace(SERVICE, name="side", image="side", targets=(replace(POD, container="side"),))
REF = APP.ref(fingerprint("v1"))
TIMING = Timing(0, 0, ())
BUILD_FAILED = Failed("build", BuildError("no"), TIMING)


def snapshot(**side: Any) -> Snapshot:
    """The app runs; its sidecar as given."""
    containers = (
        ContainerView("app", REF, "sha256:1", True, 0, running=True),
        ContainerView("side", "side", "", False, **{"restarts": 0, **side}),
    )
    pod = PodView("pod-1", "default", "u", "h", "Running", False, False, True, "", containers, since=0.0)
    images = {"app": REF, "side": "side", "third": "envoy:1"}
    return Snapshot(POD, 100.0, "u", 1, 1, 1, 1, 1, 0, images=images, revision="h", pods=(pod,))


def seen(sharing: Sharing, service: Service, state: Snapshot) -> Snapshot:
    return sharing.feed(service, FakeFeed(state)).latest


TROUBLES: tuple[dict[str, Any], ...] = (
    {"waiting": "ImagePullBackOff"},
    {"waiting": "CrashLoopBackOff", "exit_code": 3},
    {"waiting": "InvalidImageName"},
    {"restarts": 9, "exit_code": 3},
)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_s26_the_other_ones_trouble_counts_when_its_trip_is_over(trouble: dict[str, Any]) -> None:
    sharing, state = Sharing(), snapshot(**trouble)
    sharing.employ([APP, SIDE])
    expected = Expectation("app", REF, patched_at=90.0, changed=True)
    assert isinstance(judge(seen(sharing, APP, state), expected, 100.0), Progressing)
    assert not lost_image(seen(sharing, APP, state), expected)
    sharing.ended(SIDE, BUILD_FAILED)
    verdict = judge(seen(sharing, APP, state), expected, 100.0)
    assert isinstance(verdict, Stuck)
    assert "(the container of side, which failed in build)" in verdict.message
    sharing.begun(SIDE)
    assert isinstance(judge(seen(sharing, APP, state), expected, 100.0), Progressing)


@pytest.mark.parametrize(
    "end", [Superseded("build", TIMING), Failed("build", TreeMovedError("moved"), TIMING)]
)
def test_s26_a_trip_that_another_one_follows_is_not_over(end: Any) -> None:
    sharing, state = Sharing(), snapshot(waiting="ImagePullBackOff")
    sharing.employ([APP, SIDE])
    sharing.ended(SIDE, end)
    assert isinstance(judge(seen(sharing, APP, state), Expectation("app", REF), 100.0), Progressing)


def test_s26_unless_once_gives_up() -> None:
    sharing, state = Sharing(), snapshot(waiting="ImagePullBackOff")
    sharing.employ([APP, SIDE])
    sharing.ended(SIDE, Failed("build", TreeMovedError("moved"), TIMING))
    sharing.gives_up(SIDE)
    assert isinstance(judge(seen(sharing, APP, state), Expectation("app", REF), 100.0), Stuck)
    sharing.begun(SIDE)
    sharing.ended(SIDE, BUILD_FAILED)
    sharing.gives_up(SIDE)
    assert seen(sharing, APP, state).theirs["side"].rests == "failed in build"


def test_s26_nobody_waits_for_who_left_or_was_never_there() -> None:
    sharing, state = Sharing(), snapshot(waiting="ImagePullBackOff")
    sharing.employ([APP])
    assert seen(sharing, APP, state) is state
    sharing.employ([APP, SIDE])
    sharing.employ([APP])
    assert isinstance(judge(seen(sharing, APP, state), Expectation("app", REF), 100.0), Stuck)


def test_s26_the_deadline_of_pods_that_wait_for_another_has_not_passed() -> None:
    sharing = Sharing()
    state = replace(snapshot(), conditions={"Progressing": ("False", "ProgressDeadlineExceeded", "")})
    sharing.employ([APP, SIDE])
    expected = Expectation("app", REF, patched_at=1.0, changed=True)
    verdict = judge(seen(sharing, APP, state), expected, 10_000.0)
    assert verdict == Progressing(cast(Progressing, verdict).note, None), "nor is it asked for all the time"
    sharing.ended(SIDE, BUILD_FAILED)
    assert isinstance(judge(seen(sharing, APP, state), expected, 10_000.0), Stuck)


def test_s20_the_other_ones_image_is_no_foreign_change() -> None:
    sharing = Sharing()
    sharing.employ([APP, SIDE])
    images = seen(sharing, APP, snapshot()).images
    assert images == {"app": REF, "third": "envoy:1"}
    assert seen(sharing, APP, snapshot()).theirs["side"].image == snapshot().images["side"]
    by_repository = replace(SIDE, targets=(replace(POD, container=None),))
    sharing.employ([APP, by_repository])
    assert seen(sharing, APP, snapshot()).images == images
    assert seen(sharing, by_repository, snapshot()).images == {"side": "side", "third": "envoy:1"}


async def test_s26_the_end_of_the_other_ones_trip_is_news() -> None:
    sharing, inner = Sharing(), FakeFeed(snapshot(waiting="ImagePullBackOff"))
    sharing.employ([APP, SIDE])
    feed, news = sharing.feed(APP, inner), list[Snapshot]()
    before = feed.latest
    assert feed.latest is before

    async def listen() -> None:
        news.append(await feed.next(before))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            sharing.loaded(SIDE)  # no news for a rollout
            await anyio.wait_all_tasks_blocked()
            assert news == []
            sharing.ended(SIDE, BUILD_FAILED)
    assert news[0].theirs["side"].rests == "failed in build"


async def test_s17_a_workload_that_is_not_there_waits_for_all_its_images() -> None:
    sharing = Sharing()
    sharing.employ([APP, SIDE])
    came: list[bool] = []

    async def wait() -> None:
        came.append(await sharing.all_loaded(APP))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert came == []
            sharing.loaded(SIDE)
    assert came == [True]
    alone = replace(APP, targets=(replace(POD, name="alone"),))
    sharing.employ([alone, SIDE])
    assert not await sharing.all_loaded(alone)


@pytest.mark.parametrize(
    "end", [lambda s: s.ended(SIDE, BUILD_FAILED), lambda s: s.rests(SIDE, "failed in build")]
)
async def test_s17_and_says_whose_image_does_not_come(end: Callable[[Sharing], None]) -> None:
    sharing = Sharing()
    sharing.employ([APP, SIDE])
    end(sharing)
    with pytest.raises(TargetMissingError, match="side, which failed in build"):
        await sharing.all_loaded(APP)


async def test_each_service_shows_the_log_of_its_own_container_and_of_nobody_elses() -> None:
    """Every line of the pod was shown twice, once under the wrong name."""
    sharing, shown = Sharing(), []
    sharing.employ((APP, SIDE))
    third = ContainerView("third", "envoy:1", "", True, 0, running=True)
    state = snapshot(running=True)
    pod = replace(state.pods[0], containers=(*state.pods[0].containers, third))
    state = replace(state, pods=(pod,))

    class Cluster:
        async def logs(self, _: Target, _pod: str, container: str, *, from_now: bool) -> AsyncIterator[str]:
            yield container

    def emit(event: Any) -> None:
        shown.append((event.service, event.line))

    async with anyio.create_task_group() as group:
        for service in (APP, SIDE):
            feed = sharing.feed(service, FakeFeed(state))
            group.start_soon(follow_logs, service.name, [feed], cast("Any", Cluster()), emit)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert sorted(shown) == [("app", "app"), ("app", "third"), ("side", "side"), ("side", "third")]
