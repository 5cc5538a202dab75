"""Which states of a service are reported, one look after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import anyio
import pytest

from devloop.events import Event, Notice, StateChanged
from devloop.model import Snapshot
from devloop.ports import Cluster
from devloop.rollout.state_monitor import Statuses, follow_states
from devloop.rollout.states import DeploymentState as D
from tests.rollout.test_states import (
    APP,
    BUSY,
    DEGRADED,
    ENDING,
    MISSING,
    POD,
    ROLLING,
    RUNNING,
    SET_DEGRADED,
    STARTING,
    WAS_READY,
)
from tests.support.fakes import FakeFeed

SET_RUNNING = replace(SET_DEGRADED, available=2)


DIED = replace(POD, ready=False, containers=(replace(APP, exit_code=1, exit_reason="Error"),))


class Talkative:
    async def last_words(self, *_: object) -> tuple[str, ...]:
        return ('  File "/app/a.py", line 3, in f', "KeyError: 'PORT'")


async def test_what_crashed_is_reported_with_the_cause_that_its_log_gives() -> None:
    (event,) = await degraded(replace(DEGRADED, pods=(DIED,)))
    assert event.crashed == "web-1, container app: exit code 1"
    assert event.cause == "KeyError: 'PORT' (a.py, line 3)"
    assert event.log[-1] == "KeyError: 'PORT'"


async def test_a_crash_of_the_template_before_a_revert_is_not_reported_again() -> None:
    before = replace(DIED, revision="reverted", phase="Failed")
    (event,) = await degraded(replace(DEGRADED, pods=(before, POD)))
    assert (event.crashed, event.log, event.cause) == ("", (), "")


async def degraded(snapshot: Snapshot) -> list[StateChanged]:
    events = await events_of((RUNNING,), (snapshot,), cluster=Talkative())
    return [event for event in events if isinstance(event, StateChanged) and event.after == D.DEGRADED]


class Silent:
    async def last_words(self, *_: object) -> tuple[str, ...]:
        return ()


async def reported(*shown: tuple[Snapshot, ...]) -> list[str]:
    """Every state that is reported while the feeds show these, one after the other."""
    return [event.after for event in await events_of(*shown) if isinstance(event, StateChanged)]


async def events_of(*shown: tuple[Snapshot, ...], cluster: object = None) -> list[Event]:
    feeds = [FakeFeed(snapshot) for snapshot in shown[0]]
    events: list[Event] = []
    async with anyio.create_task_group() as group:
        port, statuses = cast("Cluster", cluster or Silent()), Statuses(lambda: ())
        group.start_soon(follow_states, "s", feeds, port, events.append, statuses)
        for snapshots in shown:
            for feed, snapshot in zip(feeds, snapshots, strict=True):
                feed.latest = snapshot
                feed.show()
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    return events


async def test_a_service_of_two_targets_is_not_degraded_by_its_own_rollout() -> None:
    """A Deployment and a StatefulSet: the pod of the set ends, for 30 s if it is deaf to SIGTERM."""
    ends = replace(SET_RUNNING, available=1, later=True, pods=(WAS_READY, ENDING))
    starts = replace(ends, pods=(WAS_READY, replace(POD, name="db-1")))
    states = await reported(
        (RUNNING, SET_RUNNING), (ROLLING, ends), (RUNNING, starts), (RUNNING, SET_RUNNING)
    )
    assert D.DEGRADED not in states
    assert states[-2:] == [D.UPGRADING, D.RUNNING]


async def test_recreate_is_no_new_installation() -> None:
    gone = replace(RUNNING, generation=2, observed_generation=2, current=0, updated=0, available=0)
    ends = replace(gone, revision="", pods=(ENDING,))
    none = replace(ends, pods=(), conditions=BUSY)  # the count of templates moves with the new ReplicaSet
    made = replace(none, later=True, revision="newer", current=2, updated=2, pods=(POD,))
    over = replace(RUNNING, later=True, revision="newer")
    for steps in ((ends, none, made), (none, made), (ends, none), (none,), (made,)):
        states = await reported((RUNNING,), *((step,) for step in steps), (over,))
        assert states[states.index(D.RUNNING) :] == [D.RUNNING, D.UPGRADING, D.RUNNING]


@pytest.mark.parametrize("lacking", [DEGRADED, replace(SET_DEGRADED, pods=(WAS_READY, POD))])
async def test_a_pod_that_is_made_again_without_a_rollout_is_degraded(lacking: Snapshot) -> None:
    whole = replace(lacking, available=2)
    assert (await reported((whole,), (lacking,), (whole,)))[-2:] == [D.DEGRADED, D.RUNNING]


async def test_an_object_that_was_made_anew_begins_anew() -> None:
    recreated = replace(STARTING, uid="another")
    assert (await reported((RUNNING,), (MISSING,), (recreated,)))[-2:] == [D.INSTALLING, D.DEPLOYED]
    assert (await reported((RUNNING,), (recreated,)))[-1] == D.DEPLOYED


async def test_s18_scaling_to_no_pods_and_back_is_reported() -> None:
    """`kubectl scale --replicas 0` under `watch`: the service stayed live without a word."""
    none = replace(RUNNING, replicas=0, current=0, updated=0, available=0, pods=())
    events = await events_of((RUNNING,), (none,), (none,), (RUNNING,))
    texts = [event.message for event in events if isinstance(event, Notice)]
    assert texts == ["scaled to 0 replicas: no pod runs", "scaled to 2 replicas"]
    ending = replace(RUNNING, replicas=0, generation=2, observed_generation=2, pods=(WAS_READY,))
    states = await reported((RUNNING,), (ending,), (none,))
    assert D.DEGRADED not in states, "no pod lacks"
    assert [one for one in await events_of((none,), (none,), (MISSING,)) if isinstance(one, Notice)] == []
