"""Rules on ports: from the container to its probes, to the Service, to the Ingress; collisions; NodePorts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Place, Subject, listing, mapping, matches

FIRST, LAST = 30000, 32767
HANDLERS = ("httpGet", "tcpSocket", "grpc")


def target_port(view: View) -> Iterator[Found]:
    for service in view.of("Service"):
        pods = [
            one
            for one in view.workloads()
            if one.namespace == service.namespace
            and matches(mapping(service.at("spec", "selector")), one.pod_labels)
        ]
        for index, port in _ports(service):
            wanted = port.get("targetPort", port.get("port"))
            for one in pods:
                declared = [known for box in one.containers() for _, *known, _ in box.ports()]
                if declared and not any(wanted in known for known in declared):
                    key = "targetPort" if "targetPort" in port else "port"
                    listed = ", ".join(str(number) for _, number in declared)
                    text = f"targetPort {wanted} is not a port of {one}, whose containers have {listed}"
                    yield Found(service, ("spec", "ports", index, key), text)
                elif not declared:
                    text = f"the containers of {one} declare no port; the Service sends to {wanted}"
                    yield Found(service, ("spec", "ports", index), text)


def probe_port(view: View) -> Iterator[Found]:
    for box in view.containers():
        numbers = [number for _, _, number, _ in box.ports()]
        names = [name for _, name, _, _ in box.ports() if name]
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            for handler in HANDLERS:
                asked = mapping(mapping(box.item.get(probe)).get(handler))
                port = asked.get("port")
                if port is not None and port not in numbers and port not in names:
                    listed = ", ".join(map(str, (*numbers, *names))) or "none"
                    text = f"{probe} asks port {port}; {box} has {listed}"
                    yield Found(box.subject, (*box.place, probe, handler, "port"), text)


def ingress_service(view: View) -> Iterator[Found]:
    services = {(one.namespace, one.name): one for one in view.of("Service")}
    for ingress in view.of("Ingress"):
        for place, backend in _backends(ingress):
            name = str(backend.get("name") or "")
            service = services.get((ingress.namespace, name))
            if service is None:
                if (ingress.namespace, name) not in view.facts.others:
                    yield Found(ingress, (*place, "name"), f"no Service {name} is deployed")
                continue
            wanted = mapping(backend.get("port"))
            key = "name" if "name" in wanted else "number"
            field = "name" if key == "name" else "port"
            if wanted.get(key) not in [port.get(field) for _, port in _ports(service)]:
                listed = ", ".join(str(port.get("port")) for _, port in _ports(service))
                text = f"{service} has no port {wanted.get(key)}; it has {listed}"
                yield Found(ingress, (*place, "port", key), text)


def port_collision(view: View) -> Iterator[Found]:
    for subject in view.workloads():
        seen: dict[tuple[int, str], str] = {}
        for box in subject.containers():
            for index, _, number, protocol in () if box.init else box.ports():
                first = seen.setdefault((number, protocol), box.name)
                if first != box.name:
                    text = f"{box} and container {first} of one pod both have port {number}"
                    yield Found(subject, (*box.place, "ports", index), text)
    for service in view.of("Service"):
        yield from _twice(service, "port")
        yield from _twice(service, "name")
    taken: dict[tuple[int, str], Subject] = {}
    for service in view.of("Service"):
        for index, port in _ports(service):
            asked, protocol = port.get("nodePort"), _protocol(port)
            if isinstance(asked, int):
                if (asked, protocol) in taken:
                    text = f"nodePort {asked} is that of {taken[asked, protocol]} already"
                    yield Found(service, ("spec", "ports", index, "nodePort"), text)
                taken.setdefault((asked, protocol), service)


def node_port_range(view: View) -> Iterator[Found]:
    for service, place, number in _node_ports(view):
        if not FIRST <= number <= LAST:
            yield Found(service, place, f"nodePort {number} is not within {FIRST}-{LAST}")


def node_port_free(view: View) -> Iterator[Found]:
    own = {f"{one.namespace}/{one.name}" for one in view.of("Service")}
    for service, place, number in _node_ports(view):
        holder = view.facts.taken_ports.get(number)
        if holder is not None and holder not in own:
            yield Found(service, place, f"nodePort {number} belongs to Service {holder} of this cluster")


def _node_ports(view: View) -> Iterator[tuple[Subject, Place, int]]:
    for service in view.of("Service"):
        for index, port in _ports(service):
            if isinstance(port.get("nodePort"), int):
                yield service, ("spec", "ports", index, "nodePort"), port["nodePort"]


def _ports(service: Subject) -> list[tuple[int, dict[str, Any]]]:
    return [(index, mapping(port)) for index, port in enumerate(listing(service.at("spec", "ports")))]


def _protocol(port: dict[str, Any]) -> str:
    return str(port.get("protocol", "TCP"))


def _twice(service: Subject, key: str) -> Iterator[Found]:
    seen = set()
    for index, port in _ports(service):
        value = port.get(key)
        mark = (str(value), _protocol(port) if key == "port" else "")
        if value is not None and mark in seen:
            yield Found(service, ("spec", "ports", index, key), f"{key} {value} stands twice")
        seen.add(mark)


def _backends(ingress: Subject) -> Iterator[tuple[Place, dict[str, Any]]]:
    default = ingress.at("spec", "defaultBackend", "service")
    if default:
        yield ("spec", "defaultBackend", "service"), mapping(default)
    for number, rule in enumerate(listing(ingress.at("spec", "rules"))):
        for index, path in enumerate(listing(mapping(mapping(rule).get("http")).get("paths"))):
            service = mapping(mapping(path).get("backend")).get("service")
            if service:
                place = ("spec", "rules", number, "http", "paths", index, "backend", "service")
                yield place, mapping(service)


RULES = (
    Rule(
        "target-port",
        "warning",
        "error",
        "A Service's targetPort is a port of the containers it selects.",
        target_port,
    ),
    Rule("probe-port", "warning", "error", "A probe asks a port that its container has.", probe_port),
    Rule(
        "ingress-service",
        "warning",
        "error",
        "An Ingress names a deployed Service, and a port that it has.",
        ingress_service,
    ),
    Rule(
        "port-collision",
        "error",
        "error",
        "No port is taken twice: in a pod, in a Service, on the nodes.",
        port_collision,
    ),
    Rule("node-port-range", "error", "error", "A NodePort is within 30000-32767.", node_port_range),
    Rule(
        "node-port-free",
        "error",
        "error",
        "No other Service of the cluster has the NodePort.",
        node_port_free,
        "cluster",
    ),
)
