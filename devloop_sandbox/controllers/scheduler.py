"""Binds pods to the one node, or says why none fits."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.owners import condition
from devloop_sandbox.objects.quantity import to_milli
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Event, now

RETRY = 30.0  # seconds


class Scheduler(Controller):
    component = "default-scheduler"

    @override
    def initial(self) -> Iterable[Key]:
        return self._pending()

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "nodes":
            return self._pending() if _schedulability(event.obj) != _schedulability(event.old) else []
        if event.resource != "pods":
            return []
        if event.type == "DELETED" or event.obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return self._pending()  # something is free again
        return [key_of(event.obj)] if event.type == "ADDED" else []

    @override
    def sync(self, key: Key) -> float | None:
        pod = self.store.find("pods", *key)
        if pod is None or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            return None
        nodes = self.store.list("nodes")
        reasons = {why: 0 for node in nodes if (why := self._misfit(pod, node))}
        for node in nodes:
            why = self._misfit(pod, node)
            if why is None:
                self._bind(pod, node["metadata"]["name"])
                return None
            reasons[why] += 1
        self._refuse(pod, len(nodes), reasons)
        return RETRY

    def _pending(self) -> list[Key]:
        return [key_of(pod) for pod in self.store.list("pods") if not pod["spec"].get("nodeName")]

    def _misfit(self, pod: Obj, node: Obj) -> str | None:
        if condition(node, "Ready").get("status") == "False":
            return "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"
        if node.get("spec", {}).get("unschedulable"):
            return "node(s) were unschedulable"
        wanted = pod["spec"].get("nodeSelector") or {}
        if not wanted.items() <= (node["metadata"].get("labels") or {}).items():
            return "node(s) didn't match Pod's node affinity/selector"
        allocatable = node.get("status", {}).get("allocatable")
        if not allocatable:
            return "node(s) not ready"
        there = [other for other in self.store.list("pods") if _occupies(other, node["metadata"]["name"])]
        if len(there) >= int(allocatable["pods"]):
            return "Too many pods"
        for name in ("cpu", "memory"):
            used = sum(requested(other, name) for other in there)
            asked = requested(pod, name)
            if asked and used + asked > to_milli(allocatable[name]):
                return f"Insufficient {name}"
        return None

    def _bind(self, pod: Obj, node: str) -> None:
        def assign(copy: Obj) -> None:
            copy["spec"]["nodeName"] = node

        def scheduled(copy: Obj) -> None:
            _set_scheduled(copy, "True", "", "")

        bound = self.store.mutate("pods", *key_of(pod), assign)
        self.store.mutate("pods", *key_of(pod), scheduled, subresource="status")
        meta = pod["metadata"]
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self.record(bound, "Normal", "Scheduled", text)

    def _refuse(self, pod: Obj, count: int, reasons: dict[str, int]) -> None:
        listed = ", ".join(f"{number} {why}" for why, number in sorted(reasons.items()))
        text = f"0/{count} nodes are available: {listed}." if count else "no nodes available to schedule pods"

        def change(copy: Obj) -> None:
            _set_scheduled(copy, "False", "Unschedulable", text)

        self.store.mutate("pods", *key_of(pod), change, subresource="status")
        self.record(pod, "Warning", "FailedScheduling", text)


def requested(pod: Obj, name: str) -> int:
    """Thousandths of a resource that the pod's containers ask for; a single init container may ask more."""

    def of(container: Obj) -> int:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        return to_milli((resources.get("requests") or {}).get(name, limits.get(name, 0)))

    spec = pod["spec"]
    return max(
        sum(map(of, spec["containers"])),
        max(map(of, spec.get("initContainers") or []), default=0),
    )


def _occupies(pod: Obj, node: str) -> bool:
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return bool(pod["spec"].get("nodeName") == node and not over)


def _schedulability(node: Obj | None) -> tuple[object, ...]:
    if node is None:
        return ()
    ready = condition(node, "Ready").get("status")
    labels = node["metadata"].get("labels")
    return ready, node.get("spec", {}).get("unschedulable"), labels, node.get("status", {}).get("allocatable")


def _set_scheduled(pod: Obj, value: str, reason: str, message: str) -> None:
    known = condition(pod, "PodScheduled")
    same = known.get("status") == value
    entry = {
        "type": "PodScheduled",
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": known["lastTransitionTime"] if same else now(),
    }
    entry |= {"reason": reason, "message": message} if reason else {}
    others = [c for c in pod.get("status", {}).get("conditions") or [] if c["type"] != "PodScheduled"]
    pod.setdefault("status", {})["conditions"] = [*others, entry]
