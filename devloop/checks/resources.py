"""Rules on requests, limits, replicas and probes: what pods take, and how it is known that they work."""

from __future__ import annotations

from collections.abc import Iterator

from devloop.checks.quantity import number
from devloop.checks.rule import Found, Rule, View
from devloop.checks.subject import Container, Subject, dig

NAMES = ("cpu", "memory")
LOW, HIGH = 0.50, 0.75
FEWEST, MOST = 1, 10
PROBES = ("readinessProbe", "livenessProbe")


def resources_set(view: View) -> Iterator[Found]:
    for one in view.containers():
        missing = [
            f"{part}.{name}"
            for part in ("requests", "limits")
            for name in NAMES
            if dig(one.item, "resources", part, name) is None
        ]
        if missing:
            yield Found(
                one.subject, (*one.place, "resources"), f"{one} has no resources.{', '.join(missing)}"
            )


def quantity_form(view: View) -> Iterator[Found]:
    for one in view.containers():
        for part in ("requests", "limits"):
            for name in NAMES:
                value = dig(one.item, "resources", part, name)
                amount = number(value)
                if value is not None and (amount is None or amount < 0):
                    text = f"{one}: {part}.{name} {value!r} is not a quantity; write 250m or 128Mi"
                    yield Found(one.subject, (*one.place, "resources", part, name), text)
                elif name == "memory" and amount is not None and 0 < amount < 1024:
                    text = f"{one}: {part}.memory {value} means {amount:g} bytes; write {_mebibytes(value)}"
                    yield Found(one.subject, (*one.place, "resources", part, name), text)


def limits_hold_requests(view: View) -> Iterator[Found]:
    for one, name, request, limit in _pairs(view):
        if request > limit:
            text = f"{one}: requests.{name} is more than limits.{name}"
            yield Found(one.subject, (*one.place, "resources", "requests", name), text)


def requests_ratio(view: View) -> Iterator[Found]:
    for one, name, request, limit in _pairs(view):
        share = request / limit if limit else 0.0
        if share < LOW or HIGH < share <= 1:
            text = f"{one}: requests.{name} is {share:.0%} of limits.{name}; 50-75 % is the rule"
            yield Found(one.subject, (*one.place, "resources", "requests", name), text)


def fits_nodes(view: View) -> Iterator[Found]:
    nodes = view.facts.nodes
    for name in NAMES:
        headroom = [getattr(node, name) for node in nodes]
        wanted = [(one, _request(one, name)) for one in view.workloads()]
        total = sum(amount * one.replicas for one, amount in wanted)
        for one, amount in wanted:
            if amount > (most := max(headroom, default=0.0)):
                text = f"a pod asks for {_shown(name, amount)}, no node has more than {_shown(name, most)}"
                yield Found(one, _pod_place(one), text)
        if total > sum(headroom) and wanted:
            largest = max(wanted, key=lambda pair: pair[1] * pair[0].replicas)[0]
            text = f"all pods ask for {_shown(name, total)}, the nodes have {_shown(name, sum(headroom))}"
            yield Found(largest, _pod_place(largest), text)


def replica_count(view: View) -> Iterator[Found]:
    for one in view.of("Deployment", "StatefulSet"):
        if not FEWEST <= one.replicas <= MOST:
            yield Found(one, ("spec", "replicas"), f"{one.replicas} replicas; {FEWEST} to {MOST} is the rule")


def probes_present(view: View) -> Iterator[Found]:
    for subject in view.servers():
        for one in subject.containers():
            missing = [probe for probe in PROBES if not one.item.get(probe)]
            if missing and not one.init:
                yield Found(subject, one.place, f"{one} has no {' and no '.join(missing)}")


def _pairs(view: View) -> Iterator[tuple[Container, str, float, float]]:
    for one in view.containers():
        for name in NAMES:
            request = number(dig(one.item, "resources", "requests", name))
            limit = number(dig(one.item, "resources", "limits", name))
            if request is not None and limit is not None:
                yield one, name, request, limit


def _request(subject: Subject, name: str) -> float:
    """Of one pod: its containers together, or the largest init container; a limit alone is a request too."""
    amounts = [
        (
            number(dig(one.item, "resources", "requests", name)),
            number(dig(one.item, "resources", "limits", name)),
        )
        for one in subject.containers()
    ]
    filled = [(request if request is not None else limit) or 0.0 for request, limit in amounts]
    inits = [one.init for one in subject.containers()]
    running = sum(amount for amount, init in zip(filled, inits, strict=True) if not init)
    return max([running, *(amount for amount, init in zip(filled, inits, strict=True) if init)])


def _pod_place(subject: Subject) -> tuple[str | int, ...]:
    return (*(subject.pod_place or ()), "spec")


def _shown(name: str, amount: float) -> str:
    return f"{amount:g} CPU" if name == "cpu" else f"{amount / 1024**2:.0f} MiB of memory"


def _mebibytes(value: object) -> str:
    return f"{str(value).rstrip('m')}Mi"


RULES = (
    Rule(
        "resources-set",
        None,
        "error",
        "Every container has requests and limits of cpu and memory.",
        resources_set,
    ),
    Rule(
        "quantity-form",
        "error",
        "error",
        "Requests and limits are quantities that can be meant.",
        quantity_form,
    ),
    Rule("limits-hold-requests", "error", "error", "No request is above its limit.", limits_hold_requests),
    Rule("requests-ratio", None, "warning", "Requests are 50-75 % of limits.", requests_ratio),
    Rule(
        "fits-nodes",
        "error",
        "error",
        "All pods together fit the nodes, and each pod fits one.",
        fits_nodes,
        "cluster",
    ),
    Rule(
        "replica-count", None, "error", "Deployments and StatefulSets have 1 to 10 replicas.", replica_count
    ),
    Rule(
        "probes-present",
        None,
        "error",
        "Every container that serves has a readiness and a liveness probe.",
        probes_present,
    ),
)
