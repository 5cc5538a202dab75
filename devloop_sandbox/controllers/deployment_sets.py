"""The ReplicaSets of a Deployment: the one of its template, their sizes, the old ones forgotten."""

from __future__ import annotations

from devloop_sandbox.controllers import progress, rolling
from devloop_sandbox.controllers.base import key_of
from devloop_sandbox.controllers.owners import condition, delete_quietly, reference_to
from devloop_sandbox.controllers.revisions import (
    REVISION,
    annotate,
    annotate_size,
    new_replica_set,
    revision_of,
    same_template,
)
from devloop_sandbox.controllers.rolling import Size
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.recorder import Recorder
from devloop_sandbox.store.store import Store


class Sets:
    """Writes them for any Deployment; `record` writes events."""

    def __init__(self, store: Store, record: Recorder) -> None:
        self._store = store
        self._record = record

    def current(self, deployment: Obj, sets: list[Obj], *, create: bool) -> tuple[Obj, Obj | None, list[Obj]]:
        """The template's ReplicaSet, made if wanted, with its revision; and the others, oldest first."""
        new, old = split(deployment, sets)
        revision = max((revision_of(one) for one in old), default=0) + 1
        reason, text = "FoundNewReplicaSet", "Found new replica set"
        if new is None:
            if not create:
                return deployment, None, old
            new = self._create(deployment, old, revision)
            reason, text = "NewReplicaSetCreated", "Created new replica set"
        else:

            def refresh(copy: Obj) -> None:
                annotate(copy, deployment, revision)
                if (seconds := deployment["spec"].get("minReadySeconds", 0)) or "minReadySeconds" in copy[
                    "spec"
                ]:
                    copy["spec"]["minReadySeconds"] = seconds

            new = self._store.mutate("replicasets", *key_of(new), refresh)
        number = new["metadata"]["annotations"][REVISION]
        name = new["metadata"]["name"]

        def change(copy: Obj) -> None:
            copy["metadata"].setdefault("annotations", {})[REVISION] = number
            status = copy.setdefault("status", {})
            made = reason == "NewReplicaSetCreated"
            if progress.has_deadline(copy) and (made or not condition(copy, "Progressing")):
                progress.set_condition(status, "Progressing", "True", reason, f'{text} "{name}"')

        deployment = self._store.mutate("deployments", *key_of(deployment), change, subresource="status")
        return deployment, new, old

    def _create(self, deployment: Obj, old: list[Obj], revision: int) -> Obj:
        desired = deployment["spec"]["replicas"]
        surge, _ = limits(deployment)
        rolls = deployment["spec"]["strategy"]["type"] == "RollingUpdate"
        size = rolling.grown(Size(0), [size_of(one) for one in old], desired, surge) if rolls else desired
        fresh = new_replica_set(deployment, reference_to(deployment), size)
        annotate(fresh, deployment, revision)
        annotate_size(fresh, desired, desired + surge)
        try:
            made = self._store.create("replicasets", fresh)
        except ApiError as error:
            if error.reason == "AlreadyExists":  # another template has the same hash: try another hash
                self._count_collision(deployment)
            else:
                self._fail_create(deployment, error)
            raise
        name = made["metadata"]["name"]
        if size:
            text = f"Scaled up replica set {name} from 0 to {size}"
            self._record(deployment, "Normal", "ScalingReplicaSet", text)
        return made

    def _count_collision(self, deployment: Obj) -> None:
        def change(copy: Obj) -> None:
            status = copy.setdefault("status", {})
            status["collisionCount"] = (status.get("collisionCount") or 0) + 1

        self._store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def _fail_create(self, deployment: Obj, error: ApiError) -> None:
        def change(copy: Obj) -> None:
            status = copy.setdefault("status", {})
            progress.set_condition(status, "Progressing", "False", "ReplicaSetCreateError", error.message)

        self._store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def scale(self, deployment: Obj, replica_set: Obj, size: int) -> Obj:
        """Write the size and what it was reckoned from; an event if the size has changed."""
        before = replica_set["spec"]["replicas"]
        if not before and not size:
            return replica_set
        desired = deployment["spec"]["replicas"]
        surge, _ = limits(deployment)

        def change(copy: Obj) -> None:
            copy["spec"]["replicas"] = size
            annotate_size(copy, desired, desired + surge)

        scaled = self._store.mutate("replicasets", *key_of(replica_set), change)
        if size != before:
            word = "up" if size > before else "down"
            name = replica_set["metadata"]["name"]
            text = f"Scaled {word} replica set {name} from {before} to {size}"
            self._record(deployment, "Normal", "ScalingReplicaSet", text)
        return scaled

    def clean_up(self, deployment: Obj, old: list[Obj]) -> None:
        """Forget the oldest revisions beyond revisionHistoryLimit."""
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        surplus = sorted(old, key=revision_of)[: max(0, len(old) - limit)]
        for one in surplus:
            counts = (one["spec"]["replicas"], one.get("status", {}).get("replicas", 0))
            if not any(counts):
                delete_quietly(self._store, "replicasets", one)


def split(deployment: Obj, sets: list[Obj]) -> tuple[Obj | None, list[Obj]]:
    """The oldest ReplicaSet with the Deployment's template, and all others."""
    new = next((one for one in sets if same_template(deployment, one)), None)
    return new, [one for one in sets if one is not new]


def age_of(obj: Obj) -> tuple[str, int, str]:
    return obj["metadata"]["creationTimestamp"], revision_of(obj), obj["metadata"]["name"]


def size_of(replica_set: Obj) -> Size:
    available = replica_set.get("status", {}).get("availableReplicas", 0)
    return Size(replica_set["spec"]["replicas"], available)


def limits(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; (0, 0) for Recreate."""
    update = deployment["spec"]["strategy"].get("rollingUpdate")
    if deployment["spec"]["strategy"]["type"] != "RollingUpdate":
        return 0, 0
    update = update or {}
    surge, unavailable = update.get("maxSurge", "25%"), update.get("maxUnavailable", "25%")
    return rolling.limits(surge, unavailable, deployment["spec"]["replicas"])
