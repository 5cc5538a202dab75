"""Deployments by Kubernetes' own steps: rolling update, Recreate, scaling, pause."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers import progress, rolling
from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.deployment_sets import Sets, age_of, limits, size_of, split
from devloop_sandbox.controllers.owners import claimed, condition, controller_key, controller_of
from devloop_sandbox.controllers.revisions import DESIRED, MAXIMUM
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.objects.selectors import matches
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Event, Store


class Deployments(Controller):
    component = "deployment-controller"

    def __init__(self, store: Store, options: Options) -> None:
        super().__init__(store, options)
        self._sets = Sets(store, self.record)

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
        sets = sorted(claimed(self.store, "replicasets", found), key=age_of)
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
        deployment, new, old = self._sets.current(deployment, sets, create=True)
        assert new is not None
        desired = deployment["spec"]["replicas"]
        surge, unavailable = limits(deployment)
        target = rolling.grown(size_of(new), [size_of(one) for one in old], desired, surge)
        if target != new["spec"]["replicas"]:
            new = self._sets.scale(deployment, new, target)
        else:
            kept = rolling.shrunk(size_of(new), [size_of(one) for one in old], desired, unavailable)
            old = [self._sets.scale(deployment, one, left) for one, left in zip(old, kept, strict=True)]
        self._finish(deployment, new, old)

    def _recreate(self, deployment: Obj, sets: list[Obj]) -> None:
        deployment, new, old = self._sets.current(deployment, sets, create=False)
        if any(one["spec"]["replicas"] for one in old):
            old = [self._sets.scale(deployment, one, 0) for one in old]
            self._finish(deployment, new, old)
            return
        if self._old_pods_run(new, old):
            self._finish(deployment, new, old)
            return
        if new is None:
            deployment, new, old = self._sets.current(deployment, sets, create=True)
            assert new is not None
        new = self._sets.scale(deployment, new, deployment["spec"]["replicas"])
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
        deployment, new, old = self._sets.current(deployment, sets, create=False)
        desired = deployment["spec"]["replicas"]
        everything = old + ([new] if new else [])
        active = [one for one in everything if one["spec"]["replicas"]]
        latest = [*active, *([new] if new else old[-1:])][0] if len(active) <= 1 and everything else None
        if latest is not None:
            self._sets.scale(deployment, latest, desired)
        elif new is not None and _is_saturated(deployment, new):
            for one in old:
                self._sets.scale(deployment, one, 0)
        elif deployment["spec"]["strategy"]["type"] == "RollingUpdate":
            self._scale_in_proportion(deployment, active)
        new, old = split(deployment, [self._fresh(one) for one in everything])
        if deployment["spec"].get("paused"):
            self._sets.clean_up(deployment, old)
        self._write_status(deployment, new, old + ([new] if new else []), judged=False)

    def _scale_in_proportion(self, deployment: Obj, active: list[Obj]) -> None:
        desired = deployment["spec"]["replicas"]
        surge, _ = limits(deployment)
        most = desired + surge
        growing = (most if desired else 0) > sum(one["spec"]["replicas"] for one in active)
        active = sorted(active, key=age_of, reverse=growing)
        active.sort(key=lambda one: one["spec"]["replicas"], reverse=True)
        before = [int(one["metadata"].get("annotations", {}).get(MAXIMUM, 0)) for one in active]
        sizes = [
            (one["spec"]["replicas"], most_before) for one, most_before in zip(active, before, strict=True)
        ]
        scaled = rolling.proportional(sizes, most if desired else 0, desired, most)
        for one, size in zip(active, scaled, strict=True):
            self._sets.scale(deployment, one, size)

    def _finish(self, deployment: Obj, new: Obj | None, old: list[Obj]) -> None:
        if progress.is_complete(deployment, deployment.get("status", {})):
            self._sets.clean_up(deployment, old)
        self._write_status(deployment, new, old + ([new] if new else []), judged=True)

    def _write_status(self, deployment: Obj, new: Obj | None, everything: list[Obj], *, judged: bool) -> None:
        _, unavailable = limits(deployment)
        status = progress.counted(deployment, new, everything, unavailable)
        if judged:
            progress.judge(deployment, status, new, everything)
        if status == deployment.get("status"):
            return

        def change(copy: Obj) -> None:
            copy["status"] = status

        self.store.mutate("deployments", *key_of(deployment), change, subresource="status")

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


def _is_scaled(deployment: Obj, sets: list[Obj]) -> bool:
    """spec.replicas differs from what an active ReplicaSet was last sized for."""
    wanted = str(deployment["spec"]["replicas"])
    active = [one for one in sets if one["spec"]["replicas"]]
    return any(one["metadata"].get("annotations", {}).get(DESIRED, wanted) != wanted for one in active)


def _is_saturated(deployment: Obj, new: Obj) -> bool:
    wanted = deployment["spec"]["replicas"]
    available = new.get("status", {}).get("availableReplicas", 0)
    return bool(new["spec"]["replicas"] == wanted == available)
