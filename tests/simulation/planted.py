"""Bugs put back, each a promise less: the simulation has to find every one. Most were real once.

Three are not here, because a second net catches them: an overflow that nobody notices (services at rest are
looked at every 30 s), a superseded trip that loses its paths (the fingerprinter keeps them), and an instance
that an update in place replaces and that is taken for the new one (its image id is another).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from devloop.adapters.kubernetes import cluster
from devloop.adapters.kubernetes import patch as patching
from devloop.adapters.kubernetes.feed import TargetFeed
from devloop.inputs.fingerprinter import TreeFingerprinter
from devloop.inputs.tree_look import TreeLook
from devloop.model import Failed, Fingerprint, Outcome, Revision, Service, Unchanged
from devloop.rollout.judge import Expectation
from devloop.synced import SyncedContainers
from devloop.trip import reconciler, worker
from devloop.watch.watcher import Watcher
from tests.simulation import engine

Plant = Callable[[], AbstractContextManager[Any]]


def _unread_context() -> AbstractContextManager[Any]:
    """A file that changes while the build reads it is built as it is then, under the tag of before."""
    return patch.object(engine, "read_file", lambda full, entry: [full.read_bytes()])


def _old_expectation() -> AbstractContextManager[Any]:
    """A trip that fails before it has a fingerprint leaves the expectation of the last one."""
    last: dict[str, Expectation] = {}
    real = reconciler.expectation_of

    def stale(service: Service, outcome: Outcome | None) -> Expectation | None:
        found = real(service, outcome)
        if found is not None:
            last[service.name] = found
        return last.get(service.name) if isinstance(outcome, Failed) else found

    def revived(service: Service, state: Any, snapshots: Any, now: float) -> Unchanged | None:
        expected = last.get(service.name)
        if isinstance(state.outcome, Failed) and state.outcome.fingerprint is None and expected is not None:
            digest = expected.ref.rpartition("dl-")[2]
            nothing: Any = None
            return Unchanged(Fingerprint(digest, nothing), expected.ref, state.outcome.timing)
        return None

    stack = ExitStack()
    stack.enter_context(patch.object(reconciler, "expectation_of", stale))
    stack.enter_context(patch.object(reconciler, "recovered", revived))
    return stack


def _no_new_watches() -> AbstractContextManager[Any]:
    """After a changed config.yaml the watcher goes on with the interests of before."""

    async def reconfigure(self: Watcher, interests: Any) -> None:
        return None

    return patch.object(Watcher, "reconfigure", reconfigure)


def _unminded() -> AbstractContextManager[Any]:
    """Between trips nobody looks at the cluster."""

    async def mind(self: worker.Worker) -> None:
        return None

    return patch.object(worker.Worker, "_mind", mind)


def _never_again() -> AbstractContextManager[Any]:
    """What failed because of the outside is not tried again."""
    return patch.object(reconciler, "wait_after", lambda outcome: None)


def _lost_patch() -> AbstractContextManager[Any]:
    """A PATCH that got no answer is taken for done."""
    real = patching.write_image

    async def write(client: Any, clock: Any, target: Any, image: str, ref: str, *rest: Any) -> Revision:
        try:
            return await real(client, clock, target, image, ref, *rest)
        except Exception:  # noqa: BLE001 - that is the bug
            return Revision(target, "", 0, ref, clock.now())

    return patch.object(cluster, "write_image", write)


def _stale_feed() -> AbstractContextManager[Any]:
    """A feed shows its first snapshot for ever."""
    real: Any = vars(TargetFeed)["latest"]
    first: dict[int, Any] = {}

    def latest(self: TargetFeed) -> Any:
        return first.setdefault(id(self), real.fget(self))

    return patch.object(TargetFeed, "latest", property(latest))


def _pause_left() -> AbstractContextManager[Any]:
    """An update in place that was cut off leaves its Deployment paused."""
    return patch.object(patching, "resumption", lambda item: [])


def _synced_for_ever() -> AbstractContextManager[Any]:
    """What was synced is taken for the content of whatever container the pod has since."""

    def content(self: SyncedContainers, instance: str) -> str | None:
        pod = instance.rpartition("-")[0]
        found = [entry[1] for one, entry in self._entries.items() if one.rpartition("-")[0] == pod]
        return found[-1] if pod and found else None

    return patch.object(SyncedContainers, "content", content)


# Those of updates in place are looked for from another seed on (script.IN_PLACE_FROM).
def _old_look() -> AbstractContextManager[Any]:
    """`devloop wait` goes by the last look at the tree, whenever that was."""
    real = TreeFingerprinter.look

    async def look(self: TreeFingerprinter, service: Service) -> TreeLook:
        known = self._memory(service).known
        return await real(self, service) if known is None else TreeLook(known.fingerprint.digest, False)

    return patch.object(TreeFingerprinter, "look", look)


PLANTED_WITH_WAITS: dict[str, Plant] = {
    "looking-anew": _old_look,
}
PLANTED_IN_PLACE: dict[str, Plant] = {
    "ended-pause": _pause_left,
}
PLANTED_SYNC: dict[str, Plant] = {  # and those of syncs from script.SYNC_FROM on
    "container-id": _synced_for_ever,
}
PLANTED: dict[str, Plant] = {
    "reading-check": _unread_context,
    "expectation": _old_expectation,
    "new-watches": _no_new_watches,
    "minding": _unminded,
    "trying-again": _never_again,
    "answered-patch": _lost_patch,
    "fresh-feed": _stale_feed,
    **PLANTED_IN_PLACE,
    **PLANTED_WITH_WAITS,
    **PLANTED_SYNC,
}
