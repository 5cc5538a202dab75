"""The whole rollout stage over a cluster with real pods, where not all is as it should be."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from devloop.adapters.kubernetes.api.client import MERGE_PATCH
from devloop.errors import DevloopError
from devloop.events import Event, RolloutPhase, StageEnded, StateChanged
from devloop.model import Change, Image, LoadedImage, Revision
from devloop.ports import Feed, World
from devloop.rollout.follow import follow
from devloop.rollout.state_monitor import Statuses, follow_states
from devloop.rollout.states import DeploymentState
from devloop.stopwatch import Stopwatch
from tests.adapters.kubernetes.test_on_a_cluster import (
    IMAGE,
    NO_INPUTS,
    REPOSITORY,
    SERVE,
    Workload,
    cluster,
    contract_cluster,
    kubeconfig,
    namespaces,
    ns,
    real,
    stateful,
    workload,
)

__all__ = ["cluster", "contract_cluster", "kubeconfig", "namespaces", "ns", "real", "stateful", "workload"]
pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

DEAF = [
    "python3",
    "-c",
    (
        "import signal, http.server as h; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"
    ),
]
PROBE = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
NEVER = {"exec": {"command": ["false"]}, "periodSeconds": 1}
GRACE = 6


class Stage:
    """The rollout stage of one workload, joined as it stands or after a change of its template."""

    def __init__(self, workload: Workload, timeout: float | None = None) -> None:
        self.workload, self.events = workload, list[Event]()
        self.service = replace(workload.service, rollout_timeout=timeout)
        now = workload.clock.now()
        change = Change(frozenset(), now, now)
        self.watch = Stopwatch("web", change, workload.clock, self.events.append)

    async def change(self, **template: Any) -> Revision:
        """Another template: what rolled it, kubectl or devloop, is one to the rollout."""
        workload = self.workload
        at = workload.clock.now()
        path = f"{workload.path}/{workload.target.name}"
        body = {"spec": {"template": {"metadata": {"annotations": template}}}}
        item = await workload.real.client.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        meta = item["metadata"]
        return Revision(workload.target, meta["uid"], meta["generation"], IMAGE, at)

    async def standing(self, feed: Feed) -> Revision:
        snapshot = await self.workload.seen(feed, lambda s: s.exists)
        return Revision(snapshot.target, snapshot.uid, snapshot.generation, IMAGE, snapshot.at, changed=False)

    async def follow(self, feed: Feed, revision: Revision) -> DevloopError | None:
        real = self.workload.real
        world = SimpleNamespace(cluster=real, clock=self.workload.clock, emit=self.events.append)
        image = Image(
            "web", cast("Any", SimpleNamespace(digest="0" * 16, inputs=NO_INPUTS)), IMAGE, "", "cli"
        )
        loaded = LoadedImage(image, (), "shared")
        try:
            with anyio.fail_after(240), self.watch.time("rollout"):
                await follow(self.service, [feed], [revision], loaded, cast("World", world), self.watch)
        except DevloopError as error:
            return error
        return None

    def states(self) -> list[str]:
        return [event.after for event in self.events if isinstance(event, StateChanged)]


async def rolled(workload: Workload) -> tuple[Stage, list[str]]:
    """A second template brought out over a process that is deaf to SIGTERM; the states reported meanwhile."""
    async with workload.real.feed(workload.target) as feed, anyio.create_task_group() as group:
        first = Stage(workload)
        assert await first.follow(feed, await first.standing(feed)) is None
        stage = Stage(workload)
        statuses, emit = Statuses(lambda: ()), stage.events.append
        group.start_soon(follow_states, "web", [feed], workload.real, emit, statuses)
        await anyio.wait_all_tasks_blocked()
        seen = len(stage.states())
        assert await stage.follow(feed, await stage.change(again="1")) is None
        with anyio.fail_after(60):
            while stage.states()[seen:][-1:] != [DeploymentState.RUNNING]:
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    return stage, stage.states()[seen:]


@pytest.mark.parametrize("kind", ["statefulset", "deployment"])
async def test_s18_s32_a_process_that_is_deaf_to_sigterm_is_named_and_no_state_says_degraded(
    real: Any, ns: Any, kind: Any
) -> None:
    workload = Workload(real, ns, kind)
    spec: dict[str, Any] = (
        {"serviceName": "web"} if kind == "statefulset" else {"strategy": {"type": "Recreate"}}
    )
    pod = {"terminationGracePeriodSeconds": GRACE}
    await workload.create(IMAGE, DEAF, readinessProbe=PROBE, spec=spec, pod=pod)
    stage, states = await rolled(workload)
    timing = stage.watch.timing()
    assert f"its whole grace period of {GRACE} s to end" in timing.reason
    assert "does not react to SIGTERM" in timing.reason
    assert states == [DeploymentState.UPGRADING, DeploymentState.RUNNING]
    (whole,) = [
        event.seconds for event in stage.events if isinstance(event, StageEnded) and event.stage == "rollout"
    ]
    phases = {event.phase: event.seconds for event in stage.events if isinstance(event, RolloutPhase)}
    assert phases["scheduled"] >= GRACE - 1
    assert phases["complete"] >= whole


async def test_s18_a_statefulset_that_never_gets_ready_ends_at_rollout_timeout(stateful: Workload) -> None:
    await stateful.create(IMAGE, SERVE, readinessProbe=NEVER, spec={"serviceName": "web"})
    async with stateful.real.feed(stateful.target) as feed:
        stage = Stage(stateful, timeout=6.0)
        error = await stage.follow(feed, await stage.standing(feed))
    assert error is not None
    assert error.reason == "RolloutTimeout"
    assert "probe" in str(error.hint)


async def test_s19_exits_from_before_the_trip_are_not_of_this_rollout(workload: Workload) -> None:
    """Three times it failed and then it runs: who joins now sees a process that boots, and no crash."""
    count = "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) >/v/n; [ $n -lt 3 ] && exit 1; exec sleep 600"
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}]
    command = ["sh", "-c", count]
    await workload.create(IMAGE, command, readinessProbe=NEVER, volumeMounts=mounts, pod={"volumes": volumes})
    async with workload.real.feed(workload.target) as feed:
        await workload.seen(
            feed, lambda s: any(c.restarts >= 3 and c.running for p in s.pods for c in p.containers)
        )
        stage = Stage(workload, timeout=3.0)
        error = await stage.follow(feed, await stage.standing(feed))
    assert error is not None
    assert error.reason == "RolloutTimeout", json.dumps([error.message, error.hint])


async def test_s18_a_pod_that_an_earlier_image_broke_is_deleted_where_its_statefulset_waits_for_it(
    stateful: Workload,
) -> None:
    """https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback"""
    await stateful.create(f"{REPOSITORY}:dl-00000000deadbeef", SERVE, spec={"serviceName": "web"})
    async with stateful.real.feed(stateful.target) as feed:
        broken = await stateful.seen(feed, lambda s: s.pods and s.pods[0].since is not None)
        patched = await stateful.patch(IMAGE)
        stage = Stage(stateful)
        revision = Revision(broken.target, patched.uid, patched.generation, IMAGE, patched.patched_at)
        assert await stage.follow(feed, revision) is None
        assert [pod.uid for pod in feed.latest.pods] != [pod.uid for pod in broken.pods]
