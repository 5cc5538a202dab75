"""Label and field selectors, from query text to a test of an object."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, Resource

Test = Callable[[Obj], bool]

_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase", "name"),
    "nodes": ("spec.unschedulable",),
    "replicasets": ("status.replicas",),
    "services": ("spec.clusterIP", "spec.type"),
}
_SET_BASED = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_EQUALITY = re.compile(r"^\s*([^\s=!]+)\s*(==|=|!=)\s*([^\s=!]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([A-Za-z0-9][\w./-]*)\s*$")


def label_selector(text: str) -> Test | None:
    """`a=b,c!=d,e in (x,y),f notin (z),g,!h` as a test; None for no selector; 400 if malformed."""
    terms = [_label_term(term) for term in re.split(r",(?![^(]*\))", text) if term.strip()]
    return _all(terms)


def _label_term(term: str) -> Test:
    if found := _SET_BASED.match(term):
        values = {value.strip() for value in found[3].split(",")}
        return _among(found[1], values, wanted=found[2] == "in")
    if (found := _EQUALITY.match(term)) and re.fullmatch(r"[\w.-]*", found[3]):
        return _among(found[1], {found[3]}, wanted=found[2] != "!=")
    if found := _EXISTS.match(term):
        key, wanted = found[2], not found[1]
        return lambda obj: (key in _labels(obj)) is wanted
    raise errors.bad_request(f"unable to parse requirement: found '{term.strip()}'")


def _among(key: str, values: set[str], *, wanted: bool) -> Test:
    return lambda obj: (_labels(obj).get(key) in values) is wanted


def _labels(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _all(terms: list[Test]) -> Test | None:
    return (lambda obj: all(term(obj) for term in terms)) if terms else None


def field_selector(resource: Resource, text: str) -> Test | None:
    """`status.phase=Running,metadata.name!=x`; 400 for a field that this kind does not index."""
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.plural, ()))
    terms = []
    for term in filter(None, text.split(",")):
        found = _EQUALITY.match(term)
        if found is None:
            raise errors.bad_request(f'invalid selector: "{term}"; can\'t understand it')
        if found[1] not in known:
            raise errors.bad_request(f"field label not supported: {found[1]}")
        terms.append(_field_term(found[1], found[3], wanted=found[2] != "!="))
    return _all(terms)


def _field_term(path: str, value: str, *, wanted: bool) -> Test:
    path = {"name": "metadata.name", "source": "source.component"}.get(path, path)
    return lambda obj: (_text(obj, path.split(".")) == value) is wanted


def _text(obj: Any, path: list[str]) -> str:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return str(obj).lower()
    if obj is None:
        return "false" if path[-1] in ("unschedulable", "hostNetwork") else ""
    return str(obj)


def matches(selector: Obj | None, labels: dict[str, str]) -> bool:
    """A LabelSelector (matchLabels, matchExpressions) against labels; an empty one matches all."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        present = rule["key"] in labels
        truth = {
            "In": labels.get(rule["key"]) in (rule.get("values") or []),
            "NotIn": labels.get(rule["key"]) not in (rule.get("values") or []),
            "Exists": present,
            "DoesNotExist": not present,
        }
        if not truth.get(rule["operator"], False):
            return False
    return True
