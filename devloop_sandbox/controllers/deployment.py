"""Deployments by Kubernetes' own steps. Over 300 lines: its strategies share them all."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers import progress, rolling
from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import (
    claimed,
    condition,
    controller_key,
    controller_of,
    delete_quietly,
    reference_to,
)
from devloop_sandbox.controllers.revisions import (
    DESIRED,
    MAXIMUM,
    REVISION,
    annotate,
    annotate_size,
    new_replica_set,
    revision_of,
    same_template,
)
from devloop_sandbox.controllers.rolling import Size
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.objects.selectors import matches
from devloop_sandbox.store.store import Event


class Deployments(Controller):
    component = "deployment-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("deployments")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "deployments":
            return [key_of(event.obj)]
        if event.resource == "replicasets":
            owner = controller_key(event.obj, "Deployment")
            return [owner] if owner else self._adopters(event.obj)
        if event.resource == "pods" and event.type == "DELETED":  # Recreate waits for the last old pod
            of = controller_key(event.obj, "ReplicaSet")
            found = self.store.find("replicasets", *of) if of else None
            owner = controller_key(found, "Deployment") if found else None
            return [owner] if owner else []
        return []

    def _adopters(self, replica_set: Obj) -> list[Key]:
        labels = replica_set["metadata"].get("labels") or {}
        all_here = self.store.list("deployments", replica_set["metadata"]["namespace"])
        return [key_of(one) for one in all_here if labels and matches(one["spec"]["selector"], labels)]

    @override
    def sync(self, key: Key) -> float | None:
        found = self.store.find("deployments", *key)
        if found is None:
            return None
        sets = sorted(claimed(self.store, "replicasets", found), key=_age)
        if "deletionTimestamp" in found["metadata"]:
            new, _ = split(found, sets)
            self._write_status(found, new, sets, judged=False)
            return None
        found = self._mark_pause(found)
        if found["spec"].get("paused") or _is_scaled(found, sets):
            self._rescale(found, sets)
        elif found["spec"]["strategy"]["type"] == "Recreate":
            self._recreate(found, sets)
        else:
            self._roll(found, sets)
        latest = self.store.find("deployments", *key)
        return progress.look_again_after(latest) if latest is not None else None

    def _roll(self, deployment: Obj, sets: list[Obj]) -> None:
        deployment, new, old = self._new_set(deployment, sets, create=True)
        assert new is not None
        desired = deployment["spec"]["replicas"]
        surge, unavailable = _limits(deployment)
        target = rolling.grown(_size(new), [_size(one) for one in old], desired, surge)
        if target != new["spec"]["replicas"]:
            new = self._scale(deployment, new, target)
        else:
            kept = rolling.shrunk(_size(new), [_size(one) for one in old], desired, unavailable)
            old = [self._scale(deployment, one, left) for one, left in zip(old, kept, strict=True)]
        self._finish(deployment, new, old)

    def _recreate(self, deployment: Obj, sets: list[Obj]) -> None:
        deployment, new, old = self._new_set(deployment, sets, create=False)
        if any(one["spec"]["replicas"] for one in old):
            old = [self._scale(deployment, one, 0) for one in old]
            self._finish(deployment, new, old)
            return
        if self._old_pods_run(new, old):
            self._finish(deployment, new, old)
            return
        if new is None:
            deployment, new, old = self._new_set(deployment, sets, create=True)
            assert new is not None
        new = self._scale(deployment, new, deployment["spec"]["replicas"])
        self._finish(deployment, new, old)

    def _old_pods_run(self, new: Obj | None, old: list[Obj]) -> bool:
        mine = {one["metadata"]["uid"] for one in old} - {new["metadata"]["uid"] if new else ""}
        namespace = old[0]["metadata"]["namespace"] if old else ""
        for pod in self.store.list("pods", namespace) if mine else []:
            owner = controller_of(pod)
            over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if owner is not None and owner["uid"] in mine and not over:
                return True
        return False

    def _rescale(self, deployment: Obj, sets: list[Obj]) -> None:
        """Paused, or only spec.replicas has changed: sizes, but no roll."""
        deployment, new, old = self._new_set(deployment, sets, create=False)
        desired = deployment["spec"]["replicas"]
        everything = old + ([new] if new else [])
        active = [one for one in everything if one["spec"]["replicas"]]
        latest = [*active, *([new] if new else old[-1:])][0] if len(active) <= 1 and everything else None
        if latest is not None:
            self._scale(deployment, latest, desired)
        elif new is not None and _is_saturated(deployment, new):
            for one in old:
                self._scale(deployment, one, 0)
        elif deployment["spec"]["strategy"]["type"] == "RollingUpdate":
            self._scale_in_proportion(deployment, active)
        new, old = split(deployment, [self._fresh(one) for one in everything])
        if deployment["spec"].get("paused"):
            self._clean_up(deployment, old)
        self._write_status(deployment, new, old + ([new] if new else []), judged=False)

    def _scale_in_proportion(self, deployment: Obj, active: list[Obj]) -> None:
        desired = deployment["spec"]["replicas"]
        surge, _ = _limits(deployment)
        most = desired + surge
        growing = (most if desired else 0) > sum(one["spec"]["replicas"] for one in active)
        active = sorted(active, key=_age, reverse=growing)
        active.sort(key=lambda one: one["spec"]["replicas"], reverse=True)
        before = [int(one["metadata"].get("annotations", {}).get(MAXIMUM, 0)) for one in active]
        sizes = [
            (one["spec"]["replicas"], most_before) for one, most_before in zip(active, before, strict=True)
        ]
        scaled = rolling.proportional(sizes, most if desired else 0, desired, most)
        for one, size in zip(active, scaled, strict=True):
            self._scale(deployment, one, size)

    def _new_set(
        self, deployment: Obj, sets: list[Obj], *, create: bool
    ) -> tuple[Obj, Obj | None, list[Obj]]:
        """The template's ReplicaSet, made if wanted, with its revision; and the others, oldest first."""
        new, old = split(deployment, sets)
        revision = max((revision_of(one) for one in old), default=0) + 1
        reason, text = "FoundNewReplicaSet", "Found new replica set"
        if new is None:
            if not create:
                return deployment, None, old
            new = self._create_set(deployment, old, revision)
            reason, text = "NewReplicaSetCreated", "Created new replica set"
        else:

            def refresh(copy: Obj) -> None:
                annotate(copy, deployment, revision)
                if (seconds := deployment["spec"].get("minReadySeconds", 0)) or "minReadySeconds" in copy[
                    "spec"
                ]:
                    copy["spec"]["minReadySeconds"] = seconds

            new = self.store.mutate("replicasets", *key_of(new), refresh)
        number = new["metadata"]["annotations"][REVISION]
        name = new["metadata"]["name"]

        def change(copy: Obj) -> None:
            copy["metadata"].setdefault("annotations", {})[REVISION] = number
            status = copy.setdefault("status", {})
            made = reason == "NewReplicaSetCreated"
            if progress.has_deadline(copy) and (made or not condition(copy, "Progressing")):
                progress.set_condition(status, "Progressing", "True", reason, f'{text} "{name}"')

        deployment = self.store.mutate("deployments", *key_of(deployment), change, subresource="status")
        return deployment, new, old

    def _create_set(self, deployment: Obj, old: list[Obj], revision: int) -> Obj:
        desired = deployment["spec"]["replicas"]
        surge, _ = _limits(deployment)
        rolls = deployment["spec"]["strategy"]["type"] == "RollingUpdate"
        size = rolling.grown(Size(0), [_size(one) for one in old], desired, surge) if rolls else desired
        fresh = new_replica_set(deployment, reference_to(deployment), size)
        annotate(fresh, deployment, revision)
        annotate_size(fresh, desired, desired + surge)
        try:
            made = self.store.create("replicasets", fresh)
        except ApiError as error:
            if error.reason == "AlreadyExists":  # another template has the same hash: try another hash
                self._count_collision(deployment)
            else:
                self._fail_create(deployment, error)
            raise
        name = made["metadata"]["name"]
        if size:
            text = f"Scaled up replica set {name} from 0 to {size}"
            self.record(deployment, "Normal", "ScalingReplicaSet", text)
        return made

    def _count_collision(self, deployment: Obj) -> None:
        def change(copy: Obj) -> None:
            status = copy.setdefault("status", {})
            status["collisionCount"] = (status.get("collisionCount") or 0) + 1

        self.store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def _fail_create(self, deployment: Obj, error: ApiError) -> None:
        def change(copy: Obj) -> None:
            status = copy.setdefault("status", {})
            progress.set_condition(status, "Progressing", "False", "ReplicaSetCreateError", error.message)

        self.store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def _scale(self, deployment: Obj, replica_set: Obj, size: int) -> Obj:
        """Write the size and what it was reckoned from; tells if the size has changed."""
        before = replica_set["spec"]["replicas"]
        if not before and not size:
            return replica_set
        desired = deployment["spec"]["replicas"]
        surge, _ = _limits(deployment)

        def change(copy: Obj) -> None:
            copy["spec"]["replicas"] = size
            annotate_size(copy, desired, desired + surge)

        scaled = self.store.mutate("replicasets", *key_of(replica_set), change)
        if size != before:
            word = "up" if size > before else "down"
            name = replica_set["metadata"]["name"]
            text = f"Scaled {word} replica set {name} from {before} to {size}"
            self.record(deployment, "Normal", "ScalingReplicaSet", text)
        return scaled

    def _finish(self, deployment: Obj, new: Obj | None, old: list[Obj]) -> None:
        if progress.is_complete(deployment, deployment.get("status", {})):
            self._clean_up(deployment, old)
        self._write_status(deployment, new, old + ([new] if new else []), judged=True)

    def _write_status(self, deployment: Obj, new: Obj | None, everything: list[Obj], *, judged: bool) -> None:
        _, unavailable = _limits(deployment)
        status = progress.counted(deployment, new, everything, unavailable)
        if judged:
            progress.judge(deployment, status, new, everything)
        if status == deployment.get("status"):
            return

        def change(copy: Obj) -> None:
            copy["status"] = status

        self.store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def _clean_up(self, deployment: Obj, old: list[Obj]) -> None:
        """Forget the oldest revisions beyond revisionHistoryLimit."""
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        surplus = sorted(old, key=revision_of)[: max(0, len(old) - limit)]
        for one in surplus:
            counts = (one["spec"]["replicas"], one.get("status", {}).get("replicas", 0))
            if not any(counts):
                delete_quietly(self.store, "replicasets", one)

    def _mark_pause(self, deployment: Obj) -> Obj:
        """Paused and Resumed show in Progressing, so that the deadline does not run meanwhile."""
        current = condition(deployment, "Progressing").get("reason")
        paused = bool(deployment["spec"].get("paused"))
        marked = current == "DeploymentPaused"
        if not progress.has_deadline(deployment) or current == "ProgressDeadlineExceeded" or paused == marked:
            return deployment
        word = "Paused" if paused else "Resumed"

        def change(copy: Obj) -> None:
            status = copy.setdefault("status", {})
            text = f"Deployment is {word.lower()}"
            progress.set_condition(status, "Progressing", "Unknown", f"Deployment{word}", text)

        return self.store.mutate("deployments", *key_of(deployment), change, subresource="status")

    def _fresh(self, obj: Obj) -> Obj:
        return self.store.find("replicasets", *key_of(obj)) or clone(obj)


def split(deployment: Obj, sets: list[Obj]) -> tuple[Obj | None, list[Obj]]:
    """The oldest ReplicaSet with the Deployment's template, and all others."""
    new = next((one for one in sets if same_template(deployment, one)), None)
    return new, [one for one in sets if one is not new]


def _age(obj: Obj) -> tuple[str, int, str]:
    return obj["metadata"]["creationTimestamp"], revision_of(obj), obj["metadata"]["name"]


def _size(replica_set: Obj) -> Size:
    available = replica_set.get("status", {}).get("availableReplicas", 0)
    return Size(replica_set["spec"]["replicas"], available)


def _limits(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; (0, 0) for Recreate."""
    update = deployment["spec"]["strategy"].get("rollingUpdate")
    if deployment["spec"]["strategy"]["type"] != "RollingUpdate":
        return 0, 0
    update = update or {}
    surge, unavailable = update.get("maxSurge", "25%"), update.get("maxUnavailable", "25%")
    return rolling.limits(surge, unavailable, deployment["spec"]["replicas"])


def _is_scaled(deployment: Obj, sets: list[Obj]) -> bool:
    """spec.replicas differs from what an active ReplicaSet was last sized for."""
    wanted = str(deployment["spec"]["replicas"])
    active = [one for one in sets if one["spec"]["replicas"]]
    return any(one["metadata"].get("annotations", {}).get(DESIRED, wanted) != wanted for one in active)


def _is_saturated(deployment: Obj, new: Obj) -> bool:
    wanted = deployment["spec"]["replicas"]
    available = new.get("status", {}).get("availableReplicas", 0)
    return bool(new["spec"]["replicas"] == wanted == available)
