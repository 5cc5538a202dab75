"""ReplicaSets: as many pods as wanted, the least useful one goes first."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import (
    claimed,
    condition,
    controller_key,
    controller_of,
    delete_quietly,
    is_active,
    is_ready,
    pod_from,
    seconds_since,
    until_available,
)
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.objects.selectors import matches
from devloop_sandbox.store.store import Event, now


class ReplicaSets(Controller):
    component = "replicaset-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("replicasets")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "replicasets":
            return [key_of(event.obj)]
        if event.resource != "pods":
            return []
        owner = controller_key(event.obj, "ReplicaSet")
        if owner is not None:
            return [owner]
        labels = event.obj["metadata"].get("labels") or {}
        if controller_of(event.obj) is not None or not labels:
            return []
        sets = self.store.list("replicasets", event.obj["metadata"]["namespace"])
        return [key_of(one) for one in sets if matches(one["spec"]["selector"], labels)]

    @override
    def sync(self, key: Key) -> float | None:
        found = self.store.find("replicasets", *key)
        if found is None:
            return None
        pods = [pod for pod in claimed(self.store, "pods", found) if is_active(pod)]
        failure: ApiError | None = None
        if "deletionTimestamp" not in found["metadata"]:
            try:
                pods = self._scale(found, pods)
            except ApiError as error:
                failure = error
                pods = [pod for pod in claimed(self.store, "pods", found) if is_active(pod)]
        again = self._write_status(found, pods, failure)
        if failure is not None:
            raise failure
        return again

    def _scale(self, owner: Obj, pods: list[Obj]) -> list[Obj]:
        missing = owner["spec"]["replicas"] - len(pods)
        pods += [self._create(owner) for _ in range(missing)]
        for pod in sorted(pods, key=usefulness)[: max(0, -missing)]:
            delete_quietly(self.store, "pods", pod)
            name = pod["metadata"]["name"]
            self.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
            pods = [other for other in pods if other is not pod]
        return pods

    def _create(self, owner: Obj) -> Obj:
        try:
            made = self.store.create("pods", pod_from(owner, owner["spec"]["template"]))
        except ApiError as error:
            self.record(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self.record(owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        return made

    def _write_status(self, owner: Obj, pods: list[Obj], failure: ApiError | None) -> float | None:
        template = owner["spec"]["template"].get("metadata", {}).get("labels") or {}
        waits = [until_available(pod, owner["spec"].get("minReadySeconds") or 0) for pod in pods]
        counts = {
            "fullyLabeledReplicas": sum(
                template.items() <= pod["metadata"]["labels"].items() for pod in pods
            ),
            "readyReplicas": sum(map(is_ready, pods)),
            "availableReplicas": sum(wait == 0 for wait in waits),
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        status: Obj = {"replicas": len(pods)} | {name: count for name, count in counts.items() if count}
        others = [c for c in owner.get("status", {}).get("conditions") or [] if c["type"] != "ReplicaFailure"]
        if failure is not None:
            known = condition(owner, "ReplicaFailure")
            others.append({
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": failure.message,
                "lastTransitionTime": known.get("lastTransitionTime") or now(),
            })  # fmt: skip
        if others:
            status["conditions"] = others
        if status != owner.get("status"):

            def change(copy: Obj) -> None:
                copy["status"] = status

            self.store.mutate("replicasets", *key_of(owner), change, subresource="status")
        return min((wait for wait in waits if wait), default=None)


def usefulness(pod: Obj) -> tuple[object, ...]:
    """Pods with the least come first: what Kubernetes deletes first when it scales down."""
    meta, status = pod["metadata"], pod.get("status", {})
    ready = is_ready(pod)
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    restarts = max((entry["restartCount"] for entry in status.get("containerStatuses") or []), default=0)
    cost = int((meta.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", 0))
    return (
        bool(pod["spec"].get("nodeName")),
        phases.get(status.get("phase", "Pending"), 0),
        ready,
        cost,
        seconds_since(condition(pod, "Ready")["lastTransitionTime"]) // 1 if ready else 0,
        -restarts,
        seconds_since(meta["creationTimestamp"]) // 1,
        -int(meta["resourceVersion"]),
    )
