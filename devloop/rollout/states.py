"""What the cluster shows, in the words of a deployment's and a pod's life: seven states each. Pure.

Deployment: Not Deployed, Installing, Deployed, Running, Degraded, Upgrading, Uninstalling. Pod: Pending,
ContainerCreating, Running, Ready, Terminating, Failed, CrashLoopBackOff.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum

from devloop.image_refs import is_another_build
from devloop.model import PodView, Snapshot


class DeploymentState(StrEnum):
    NOT_DEPLOYED = "Not Deployed"
    INSTALLING = "Installing"
    DEPLOYED = "Deployed"
    RUNNING = "Running"
    DEGRADED = "Degraded"
    UPGRADING = "Upgrading"
    UNINSTALLING = "Uninstalling"


class PodState(StrEnum):
    PENDING = "Pending"
    CREATING = "ContainerCreating"
    RUNNING = "Running"
    READY = "Ready"
    TERMINATING = "Terminating"
    FAILED = "Failed"
    CRASH_LOOP = "CrashLoopBackOff"


_D, _P = DeploymentState, PodState
DEPLOYMENT_TRANSITIONS: frozenset[tuple[DeploymentState, DeploymentState]] = frozenset(
    {
        (_D.NOT_DEPLOYED, _D.INSTALLING),
        (_D.INSTALLING, _D.DEPLOYED),
        (_D.DEPLOYED, _D.RUNNING),
        (_D.RUNNING, _D.DEGRADED),
        (_D.DEGRADED, _D.RUNNING),
        (_D.RUNNING, _D.UPGRADING),
        (_D.UPGRADING, _D.RUNNING),
        (_D.RUNNING, _D.UNINSTALLING),
        (_D.UNINSTALLING, _D.NOT_DEPLOYED),
    }
)
POD_TRANSITIONS: frozenset[tuple[PodState, PodState]] = frozenset(
    {
        (_P.PENDING, _P.CREATING),
        (_P.CREATING, _P.RUNNING),
        (_P.RUNNING, _P.READY),
        (_P.READY, _P.TERMINATING),
        (_P.RUNNING, _P.FAILED),
        (_P.FAILED, _P.PENDING),
        (_P.FAILED, _P.CRASH_LOOP),
    }
)
# Helm's status of a release -> the state that it means whatever the pods do.
_OF_RELEASE = {
    "pending-install": _D.INSTALLING,
    "pending-upgrade": _D.UPGRADING,
    "pending-rollback": _D.UPGRADING,
    "uninstalling": _D.UNINSTALLING,
}
# devloop's annotation on a workload of plain manifests, likewise.
_OF_MANIFEST = {"installing": _D.INSTALLING, "upgrading": _D.UPGRADING, "uninstalling": _D.UNINSTALLING}
NEW_REPLICASET_AVAILABLE = "NewReplicaSetAvailable"  # the Deployment's word for a rollout that is over


def deployment_state(snapshot: Snapshot, release: str = "") -> DeploymentState:
    """`release`: the status label of its Helm release, "" without one.

    Deployed: the first rollout is under way. Upgrading: a later one is, old pods that are on their way out
    included, or an update in place. Degraded: the rollout was over, and now pods lack.
    """
    if release in _OF_RELEASE:
        return _OF_RELEASE[release]
    if not snapshot.exists:
        return _D.NOT_DEPLOYED
    if snapshot.deleting:
        return _D.UNINSTALLING
    if snapshot.writing in _OF_MANIFEST and not snapshot.helm_managed:
        return _OF_MANIFEST[snapshot.writing]
    if _is_updated_in_place(snapshot):
        return _D.UPGRADING
    if _complete(snapshot):
        return _D.RUNNING
    if _rolled_out(snapshot):  # pods beyond what is wanted (scaled down) end: none is missing
        return _D.DEGRADED if snapshot.available < snapshot.replicas else _D.RUNNING
    return _D.UPGRADING if snapshot.later or _has_older_pods(snapshot) else _D.DEPLOYED


def continued(before: DeploymentState, now: DeploymentState, same_template: bool) -> DeploymentState:
    """`now` of the same objects as `before`: their first rollout does not come after a later one. What one
    moment shows of recreated pods shows nothing of the time before."""
    if now is not _D.DEPLOYED or before not in (_D.RUNNING, _D.DEGRADED, _D.UPGRADING):
        return now
    return _D.DEGRADED if same_template and before is not _D.UPGRADING else _D.UPGRADING


def _is_updated_in_place(snapshot: Snapshot) -> bool:
    """Whether a pod of the template's own revision has another image of devloop's than the template, which
    names it only at the end of the update."""
    return any(
        is_another_build(container.image, snapshot.images[container.name])
        for pod in snapshot.pods
        if pod.revision == snapshot.revision and not (pod.terminating or pod.over)
        for container in pod.containers
        if container.name in snapshot.images  # not those that other services set (S26)
        and container.synced is None  # that one runs what it is to run, on an older image (S37)
    )


def _complete(snapshot: Snapshot) -> bool:
    wanted = snapshot.replicas
    return snapshot.observed_generation >= snapshot.generation and (
        snapshot.updated == snapshot.current == snapshot.available == wanted
    )


def _rolled_out(snapshot: Snapshot) -> bool:
    """Whether the newest template had been brought out to the end before."""
    if snapshot.observed_generation < snapshot.generation or _has_older_pods(snapshot):
        return False
    if snapshot.target.kind == "statefulset":  # it has no such condition: its revisions and pods show
        ready_once = sum(pod.ready_at is not None for pod in snapshot.pods)
        return not snapshot.later and ready_once >= snapshot.replicas and not _count_lags(snapshot)
    progressing = snapshot.conditions.get("Progressing", ("", "", ""))
    return bool(snapshot.revision) and progressing[1] == NEW_REPLICASET_AVAILABLE


def _count_lags(snapshot: Snapshot) -> bool:
    """Whether all pods are ready and the status does not say so yet: it is written after them."""
    return sum(pod.ready for pod in snapshot.pods) >= snapshot.replicas > snapshot.available


def _has_older_pods(snapshot: Snapshot) -> bool:
    """Whether pods of another template are there, or end; those that are over (evicted) are nobody's."""
    return snapshot.observed_generation < snapshot.generation or any(
        pod.revision != snapshot.revision and not pod.over for pod in snapshot.pods
    )


def pod_state(pod: PodView) -> PodState:
    if pod.terminating:
        return _P.TERMINATING
    if any(container.waiting == "CrashLoopBackOff" for container in pod.containers):
        return _P.CRASH_LOOP
    ended = [c for c in pod.containers if not c.running and c.exit_code not in (None, 0)]
    if pod.phase == "Failed" or ended:
        return _P.FAILED
    if pod.ready:
        return _P.READY
    if any(container.running and not container.init for container in pod.containers):
        return _P.RUNNING
    return _P.CREATING if pod.scheduled else _P.PENDING


def deployment_path(before: DeploymentState, after: DeploymentState) -> Sequence[DeploymentState]:
    """The states from `before` (left out) to `after` by the fewest listed transitions.

    What happens between two looks is passed through, not skipped: an install that took no time is still
    Installing, then Deployed, then Running.
    """
    paths: deque[tuple[DeploymentState, ...]] = deque([(before,)])
    seen = {before}
    while paths:
        path = paths.popleft()
        if path[-1] is after:
            return path[1:]
        for state in DeploymentState:
            if (path[-1], state) in DEPLOYMENT_TRANSITIONS and state not in seen:
                seen.add(state)
                paths.append((*path, state))
    return (after,)
