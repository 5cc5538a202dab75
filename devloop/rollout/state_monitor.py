"""Tells the states of a service's workload and pods as they change: a companion of each worker in `watch`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from devloop.causes.find import excerpt, find_cause
from devloop.errors import DevloopError
from devloop.events import Emit, Notice, PodsCounted, StateChanged
from devloop.model import PodView, Release, Snapshot
from devloop.ports import Cluster, Feed
from devloop.rollout.follow import any_newer
from devloop.rollout.states import DeploymentState, continued, deployment_path, deployment_state, pod_state


class Statuses:
    """The status labels of Helm's releases as `watch` sees them. `moved` is set and replaced at each."""

    def __init__(self, releases: Callable[[], Sequence[Release]]) -> None:
        self.moved = anyio.Event()
        self._releases = releases
        self._seen: dict[tuple[str, str], str] = {}  # (namespace, release)

    def put(self, release: Release, status: str) -> None:
        """`status` "" = it is gone."""
        self._seen[release.namespace, release.name] = status
        self.moved.set()
        self.moved = anyio.Event()

    def of(self, service: str) -> str:
        """Of the release that holds the service, "" without one."""
        names = ((one.namespace, one.name) for one in self._releases() if service in one.images)
        return next((self._seen[name] for name in names if name in self._seen), "")


LINES = 10  # of a crashed container
_WORST = (
    DeploymentState.DEGRADED,
    DeploymentState.UNINSTALLING,
    DeploymentState.NOT_DEPLOYED,
    DeploymentState.INSTALLING,
    DeploymentState.UPGRADING,
    DeploymentState.DEPLOYED,
    DeploymentState.RUNNING,
)


async def follow_states(
    service: str, feeds: Sequence[Feed], cluster: Cluster, emit: Emit, statuses: Statuses
) -> None:
    """Emit every change of state, Degraded with the last lines of what crashed; ends when cancelled."""
    state = DeploymentState.NOT_DEPLOYED
    counted = Counter[str](), 0
    before: Sequence[Snapshot] = ()
    while feeds:
        seen, release = [feed.latest for feed in feeds], statuses.of(service)
        pods = Counter(str(pod_state(pod)) for snapshot in seen for pod in snapshot.pods)
        synced = sum(map(count_synced, seen))
        if (pods, synced) != counted:
            counted = pods, synced
            emit(PodsCounted(service, dict(pods), synced))
        now = worst([deployment_state(snapshot, release) for snapshot in seen])
        if [s.uid for s in before] == [s.uid for s in seen]:
            now = continued(state, now, [s.revision for s in before] == [s.revision for s in seen])
        _report_scale(service, before, seen, emit)
        before = seen
        for after in deployment_path(state, now) if now is not state else ():
            crash = await _last_crash(seen, cluster) if after is now is DeploymentState.DEGRADED else Crash()
            emit(StateChanged(service, str(state), str(after), crash.log, crash.what, crash.cause))
            state = after
        await _any_change(feeds, seen, service, release, statuses)


def count_synced(snapshot: Snapshot) -> int:
    """How many pods run files that were synced into them (S37)."""
    return sum(any(one.synced for one in pod.containers) for pod in snapshot.pods if not pod.terminating)


def _report_scale(service: str, before: Sequence[Snapshot], now: Sequence[Snapshot], emit: Emit) -> None:
    """Scaled to no pods, or back: a service stays live with none, so nothing else would report it (S18)."""
    if [one.uid for one in before] != [one.uid for one in now] or not all(one.exists for one in now):
        return
    old, new = (sum(one.replicas for one in several) for several in (before, now))
    if bool(old) != bool(new):
        text = (
            f"scaled to {new} replica{'' if new == 1 else 's'}"
            if new
            else "scaled to 0 replicas: no pod runs"
        )
        emit(Notice(service, "info" if new else "warning", text))


async def _any_change(
    feeds: Sequence[Feed], seen: Sequence[Snapshot], service: str, release: str, statuses: Statuses
) -> None:
    """Until a feed shows something newer, or the release says something else."""
    async with anyio.create_task_group() as group:

        async def other_status() -> None:
            while statuses.of(service) == release:
                await statuses.moved.wait()
            group.cancel_scope.cancel()

        group.start_soon(other_status)
        await any_newer(feeds, list(seen))
        group.cancel_scope.cancel()


def worst(states: Sequence[DeploymentState]) -> DeploymentState:
    """One word for a service of several targets."""
    return min(states, key=_WORST.index)


@dataclass(frozen=True, slots=True)
class Crash:
    """Which container ended and how, its last lines, and what they say of it; all empty where none did."""

    what: str = ""
    log: tuple[str, ...] = ()
    cause: str = ""


async def _last_crash(snapshots: Sequence[Snapshot], cluster: Cluster) -> Crash:
    for snapshot in snapshots:
        for pod in snapshot.pods:
            name = _crashed(pod) if snapshot.revision in ("", pod.revision) else None
            if name is None:
                continue  # one of an earlier template has been reported, and is on its way out
            container, ending = name
            try:
                lines = await cluster.last_words(snapshot.target, pod.name, container)
            except DevloopError:
                lines = ()
            found = find_cause(lines)
            what = f"{pod.name}, container {container}: {ending}"
            return Crash(what, excerpt(lines, found, LINES), str(found) if found else "")
    return Crash()


def _crashed(pod: PodView) -> tuple[str, str] | None:
    """(container, how it ended) of the first that is not running after a failure."""
    for container in pod.containers:
        if not pod.ready and container.exit_code not in (None, 0):
            reason = container.exit_reason
            ending = f"exit code {container.exit_code}"
            return container.name, f"{ending} ({reason})" if reason not in ("", "Error") else ending
    return None
