"""Endpoints and EndpointSlices: which pods stand behind a Service, by readiness."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from devloop_sandbox.controllers.base import Controller, Key, key_of
from devloop_sandbox.controllers.endpoint_slices import SERVICE, slices
from devloop_sandbox.controllers.owners import is_active, is_ready
from devloop_sandbox.objects.resources import Obj
from devloop_sandbox.store.store import Event


class Endpoints(Controller):
    component = "endpoint-controller"

    @override
    def initial(self) -> Iterable[Key]:
        return [key_of(obj) for obj in self.store.list("services")]

    @override
    def keys(self, event: Event) -> Iterable[Key]:
        if event.resource == "services":
            return [key_of(event.obj)]
        if event.resource != "pods" or not _matters(event):
            return []
        labels = event.obj["metadata"].get("labels") or {}
        before = (event.old or {}).get("metadata", {}).get("labels") or {}
        services = self.store.list("services", event.obj["metadata"]["namespace"])
        return [key_of(one) for one in services if selects(one, labels) or selects(one, before)]

    @override
    def sync(self, key: Key) -> float | None:
        service = self.store.find("services", *key)
        if service is None:
            if self.store.find("endpoints", *key) is not None:
                self.store.delete("endpoints", *key)
            return None  # the garbage collector takes the slices
        if not service["spec"].get("selector"):
            return None  # its endpoints are written by hand
        pods = [
            pod
            for pod in self.store.list("pods", key[0])
            if selects(service, pod["metadata"].get("labels") or {}) and is_active(pod)
        ]
        wanted = subsets(service, pods)
        labels = service["metadata"].get("labels") or {}
        meta = {"name": key[1], "namespace": key[0], "labels": labels}
        self._write("endpoints", {"metadata": meta, "subsets": wanted})
        self._write_slices(service, slices(service, wanted))
        return None

    def _write_slices(self, service: Obj, wanted: list[Obj]) -> None:
        """One for each group of ports; those of before go."""
        namespace = service["metadata"]["namespace"]
        for known in self.store.list("endpointslices", namespace):
            mine = known["metadata"].get("labels", {}).get(SERVICE) == service["metadata"]["name"]
            if mine and key_of(known) not in [key_of(one) for one in wanted]:
                self.store.delete("endpointslices", *key_of(known))
        for one in wanted:
            self._write("endpointslices", one)

    def _write(self, plural: str, wanted: Obj) -> None:
        known = self.store.find(plural, *key_of(wanted))
        content = {name: value for name, value in wanted.items() if name != "metadata"}
        if known is None:
            self.store.create(plural, wanted)
        elif {name: known.get(name) or [] for name in content} != content:
            self.store.mutate(plural, *key_of(wanted), lambda copy: copy.update(content))


def selects(service: Obj, labels: dict[str, str]) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= labels.items()


def subsets(service: Obj, pods: list[Obj]) -> list[Obj]:
    """Ready and not ready addresses, grouped by the ports they resolve to."""
    everyone = service["spec"].get("publishNotReadyAddresses")
    groups: dict[tuple[tuple[str, int, str], ...], Obj] = {}
    for pod in pods:
        address = pod.get("status", {}).get("podIP")
        if not address:
            continue
        ports = _ports(service, pod)
        if not ports and service["spec"].get("ports"):
            continue
        group = groups.setdefault(ports, {"addresses": [], "notReadyAddresses": []})
        side = "addresses" if everyone or is_ready(pod) else "notReadyAddresses"
        group[side].append(_address(pod, address))
    found = []
    for ports, group in sorted(groups.items()):
        subset = {name: sorted(entries, key=lambda e: e["ip"]) for name, entries in group.items() if entries}
        if ports:
            subset["ports"] = [_port(*port) for port in ports]
        found.append(subset)
    return found


def target_port(port: Obj, pod: Obj) -> int | None:
    """The number behind targetPort in this pod; None if no container has the name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int) or str(target).isdigit():
        return int(target)
    for container in pod["spec"]["containers"]:
        for entry in container.get("ports") or []:
            if entry.get("name") == target and entry.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(entry["containerPort"])
    return None


def _ports(service: Obj, pod: Obj) -> tuple[tuple[str, int, str], ...]:
    found = []
    for port in service["spec"].get("ports") or []:
        number = target_port(port, pod)
        if number is not None:
            found.append((port.get("name") or "", number, port.get("protocol", "TCP")))
    return tuple(found)


def _port(name: str, number: int, protocol: str) -> Obj:
    return ({"name": name} if name else {}) | {"port": number, "protocol": protocol}


def _address(pod: Obj, address: str) -> Obj:
    meta = pod["metadata"]
    target = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    found = {"ip": address, "nodeName": pod["spec"].get("nodeName"), "targetRef": target}
    if pod["spec"].get("subdomain"):
        found["hostname"] = pod["spec"].get("hostname") or meta["name"]
    return found


def _matters(event: Event) -> bool:
    return event.type != "MODIFIED" or event.old is None or _relevant(event.obj) != _relevant(event.old)


def _relevant(pod: Obj) -> tuple[object, ...]:
    meta = pod["metadata"]
    return meta.get("labels"), pod.get("status", {}).get("podIP"), is_ready(pod), is_active(pod)
