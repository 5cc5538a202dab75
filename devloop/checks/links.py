"""Rules on what names something else: selectors, in-cluster URLs, Services as they are declared."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Place, Subject, listing, mapping, matches

URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://(?:[^\s/@\"']*@)?([A-Za-z0-9][A-Za-z0-9.-]*)(?::(\d{1,5}))?")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
OUTSIDE = ("localhost", "host.docker.internal", "host.minikube.internal")
BACKEND = frozenset({"backend", "api", "db", "database", "postgres", "postgresql", "mysql", "mongo", "redis"})
COMPONENT_LABELS = ("app.kubernetes.io/component", "app.kubernetes.io/name", "component", "tier")


def own_selector(view: View) -> Iterator[Found]:
    for one in view.servers():
        selector = mapping(one.at("spec", "selector", "matchLabels"))
        wrong = sorted(key for key, value in selector.items() if one.pod_labels.get(key) != value)
        if wrong:
            text = f"the selector asks for {_labels(selector, wrong)}, which its pods do not have"
            yield Found(one, ("spec", "selector", "matchLabels", wrong[0]), text)


def foreign_selector(view: View) -> Iterator[Found]:
    for one in view.servers():
        selector = mapping(one.at("spec", "selector", "matchLabels"))
        for other in _selected(view, one, selector):
            if other is not one:
                text = f"the selector also matches the pods of {other}"
                yield Found(one, ("spec", "selector", "matchLabels"), text)


def service_selects(view: View) -> Iterator[Found]:
    for one in view.of("Service"):
        selector = mapping(one.at("spec", "selector"))
        if selector and not _selected(view, one, selector):
            text = f"no deployed pod has the labels {_labels(selector, sorted(selector))}"
            yield Found(one, ("spec", "selector"), text)


def service_selects_one(view: View) -> Iterator[Found]:
    for one in view.of("Service"):
        found = _selected(view, one, mapping(one.at("spec", "selector")))
        if len(found) > 1:
            yield Found(
                one, ("spec", "selector"), f"it selects the pods of {' and of '.join(map(str, found))}"
            )


def service_type(view: View) -> Iterator[Found]:
    for one in view.of("Service"):
        declared = view.facts.settings.service_types.get(one.name)
        actual = str(one.at("spec", "type") or "ClusterIP")
        if declared is not None and actual != declared:
            text = f"type {actual}; checks.service_types of config.yaml says {declared}"
            yield Found(one, ("spec", "type"), text)


def backend_exposed(view: View) -> Iterator[Found]:
    for one in view.of("Service"):
        actual = str(one.at("spec", "type") or "ClusterIP")
        outside = actual in ("NodePort", "LoadBalancer") or bool(one.at("spec", "externalIPs"))
        declared = view.facts.settings.service_types.get(one.name) == actual
        if outside and not declared and any(map(_is_backend, (one, *_selected_by(view, one)))):
            text = f"a backend can be reached from outside the cluster: type {actual}; ClusterIP is the rule"
            yield Found(one, ("spec", "type"), text)
    for one in view.workloads():
        if not _is_backend(one) or one.pod_place is None:
            continue
        if one.at(*one.pod_place, "spec", "hostNetwork"):
            yield Found(one, (*one.pod_place, "spec", "hostNetwork"), "a backend on the node's own network")
        for container in one.containers():
            for index, port in enumerate(listing(container.item.get("ports"))):
                if mapping(port).get("hostPort"):
                    text = f"{container} of a backend has hostPort {port['hostPort']}"
                    yield Found(one, (*container.place, "ports", index, "hostPort"), text)


def url_service(view: View) -> Iterator[Found]:
    services = {(one.namespace, one.name): one for one in view.of("Service")}
    spaces = {one.namespace for one in view.subjects}
    for subject, place, text in _texts(view):
        for scheme, host, port in URL.findall(text):
            key = _service_key(host, subject.namespace, spaces)
            if key is None or (key not in services and key in view.facts.others):
                continue
            if key not in services:
                message = f"{place[-1]}: {scheme}://{host} names no deployed Service"
                yield Found(subject, place, message)
                continue
            number = int(port) if port else DEFAULT_PORTS.get(scheme)
            served = [mapping(one).get("port") for one in listing(services[key].at("spec", "ports"))]
            if number is not None and number not in served:
                listed = ", ".join(map(str, served))
                message = f"{place[-1]}: {scheme}://{host} at port {number}; {services[key]} has {listed}"
                yield Found(subject, place, message)


def texts_of(subject: Subject) -> Iterator[tuple[Place, str]]:
    """What pods get in the open: data of a ConfigMap, literal variables, commands."""
    if subject.kind == "ConfigMap":
        for key, value in mapping(subject.at("data")).items():
            yield ("data", key), str(value)
    for one in subject.containers():
        for index, variable in enumerate(listing(one.item.get("env"))):
            if mapping(variable).get("value") is not None:
                yield (*one.place, "env", index, str(variable.get("name"))), str(variable["value"])
        for key in ("command", "args"):
            for word in listing(one.item.get(key)):
                yield (*one.place, key), str(word)


def _texts(view: View) -> Iterator[tuple[Subject, Place, str]]:
    return ((subject, place, text) for subject in view.subjects for place, text in texts_of(subject))


def _service_key(host: str, namespace: str, spaces: set[str]) -> tuple[str, str] | None:
    """(namespace, name) of the Service that a host name can only mean; None for a host outside."""
    host = host.lower().removesuffix(".")
    if host in OUTSIDE or _is_address(host):
        return None
    for end in (".svc.cluster.local", ".svc"):
        if host.endswith(end):
            name, _, space = host.removesuffix(end).partition(".")
            return space or namespace, name
    name, dot, space = host.partition(".")
    if not dot:
        return namespace, name
    return (space, name) if space in spaces else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _selected(view: View, subject: Subject, selector: dict[str, object]) -> list[Subject]:
    return [
        one
        for one in view.workloads()
        if one.namespace == subject.namespace and matches(selector, one.pod_labels)
    ]


def _selected_by(view: View, service: Subject) -> list[Subject]:
    return _selected(view, service, mapping(service.at("spec", "selector")))


def _is_backend(subject: Subject) -> bool:
    names = [subject.name, *(str(subject.labels.get(key) or "") for key in COMPONENT_LABELS)]
    return any(not BACKEND.isdisjoint(re.split(r"[-._]", text)) for text in names)


def _labels(selector: dict[str, object], keys: list[str]) -> str:
    return ", ".join(f"{key}={selector[key]}" for key in keys)


RULES = (
    Rule("own-selector", "error", "error", "A workload's selector matches its own pods.", own_selector),
    Rule(
        "foreign-selector",
        "error",
        "error",
        "A workload's selector matches no other workload's pods.",
        foreign_selector,
    ),
    Rule(
        "service-selects",
        "warning",
        "error",
        "A Service's selector matches pods that are deployed.",
        service_selects,
    ),
    Rule(
        "service-selects-one",
        "warning",
        "error",
        "A Service selects the pods of one workload.",
        service_selects_one,
    ),
    Rule(
        "service-type",
        "error",
        "error",
        "A Service has the type that `checks.service_types` declares.",
        service_type,
    ),
    Rule(
        "backend-exposed",
        None,
        "error",
        "No backend or database can be reached from outside the cluster.",
        backend_exposed,
    ),
    Rule(
        "url-service",
        "warning",
        "error",
        "A URL with an in-cluster host names a deployed Service, and a port that it has.",
        url_service,
    ),
)
