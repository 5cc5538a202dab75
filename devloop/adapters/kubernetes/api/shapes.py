"""Answers of an API server, checked as far down as devloop reads them.

Only of paths of Kubernetes' own kinds: others may mean something else by `ports` or `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from devloop.deploy.kubernetes_object import Json, shape_of_answer

_OWN = frozenset({
    "pods", "deployments", "statefulsets", "replicasets", "daemonsets", "jobs", "cronjobs", "services",
    "nodes", "events", "namespaces", "secrets", "configmaps", "ingresses",
})  # fmt: skip
_MAPS = (
    "metadata", "spec", "status", "template", "jobTemplate", "nodeInfo", "state", "lastState", "waiting",
    "running", "terminated", "involvedObject", "series", "loadBalancer", "strategy", "updateStrategy",
    "rollingUpdate", "resources", "lifecycle", "readinessProbe", "startupProbe",
    "http", "backend", "defaultBackend",
)  # fmt: skip
# Their keys are the users' own: a label may be called "state".
_FREE_MAPS = ("labels", "annotations", "selector", "data", "allocatable", "capacity", "limits")
# Lists of mappings, each with the key that every mapping must have, "" for none.
_LISTS = {
    **dict.fromkeys(("containers", "initContainers", "containerStatuses", "initContainerStatuses"), "name"),
    **dict.fromkeys(
        ("ownerReferences", "managedFields", "ports", "ingress", "addresses", "rules", "paths", "tls"), ""
    ),
    "conditions": "type",
}
_TEXTS = ("name", "namespace", "uid", "kind", "type", "image", "reason", "containerID")
_COUNTS = (
    "replicas", "generation", "observedGeneration", "updatedReplicas", "readyReplicas", "availableReplicas",
    "restartCount", "exitCode", "count", "nodePort", "port", "progressDeadlineSeconds", "minReadySeconds",
    "deletionGracePeriodSeconds", "partition", "initialDelaySeconds", "periodSeconds",
)  # fmt: skip
_TIMES = ("deletionTimestamp", "lastTransitionTime", "startedAt")
_FIELDS: Mapping[str, str] = {
    **dict.fromkeys((*_MAPS, *_FREE_MAPS), "a mapping"),
    **dict.fromkeys(_LISTS, "a list"),
    **dict.fromkeys(_TEXTS, "a text"),
    **dict.fromkeys(_COUNTS, "a number"),
    **dict.fromkeys(_TIMES, "a time"),
}


def wrong_shape(data: Any, path: str, *, may_be_status: bool = False) -> str:
    """What keeps the answer of `path` from being an object or a list of them, "" for a sound one.

    The path says what it should be: an answer that is broken may call itself anything. `may_be_status`: a
    Status may answer in an object's place, as it does to DELETE.
    """
    wrong = shape_of_answer(data)
    if wrong:
        return wrong
    match path.strip("/").split("/"):
        case ["apis"]:
            return _of_discovery(data, "groups", ("name",))
        case ["api", _] | ["apis", _, _]:
            return _of_discovery(data, "resources", ("name", "kind"))
        case ["api", _, *rest] | ["apis", "apps" | "batch" | "networking.k8s.io", _, *rest]:
            resource = rest[2] if rest[0] == "namespaces" and len(rest) > 2 else rest[0]
            return _of_objects(data, may_be_status=may_be_status) if resource in _OWN else ""
        case _:
            return ""


def _of_objects(data: Json, *, may_be_status: bool) -> str:
    if may_be_status and data.get("kind") == "Status":
        return ""
    if isinstance(data.get("status"), str):
        return "status: not a mapping"
    if data.get("items") is None:
        return _below(data, "")
    items = enumerate(data["items"])
    return next(filter(None, (_named(one, f"items[{number}]") for number, one in items)), "")


def _named(item: Json, at: str) -> str:
    if not isinstance((item.get("metadata") or {}).get("name"), str):
        return f"{at}.metadata.name is missing"
    return _below(item, at)


def _below(value: Json, at: str) -> str:
    for key, one in value.items():
        wanted = _FIELDS.get(key)
        if wanted is None or one is None or (key == "status" and isinstance(one, str)):  # of a condition
            continue
        where = f"{at}.{key}".lstrip(".")
        wrong = "" if _is(one, wanted) else f"{where}: not {wanted}"
        wrong = wrong or (_below(one, where) if isinstance(one, dict) and key not in _FREE_MAPS else "")
        wrong = wrong or (_each(one, key, where) if isinstance(one, list) else "")
        if wrong:
            return wrong
    return ""


def _each(items: list[Any], key: str, at: str) -> str:
    needed = _LISTS.get(key, "")
    for number, one in enumerate(items):
        where = f"{at}[{number}]"
        if not isinstance(one, dict):
            return f"{where}: not a mapping"
        wrong = f"{where}.{needed} is missing" if needed and one.get(needed) is None else _below(one, where)
        if wrong:
            return wrong
    return ""


def _is(value: Any, wanted: str) -> bool:
    match wanted:
        case "a mapping":
            return isinstance(value, dict)
        case "a list":
            return isinstance(value, list)
        case "a number":
            return type(value) is int and abs(value) < 1 << 63
        case "a time":
            return isinstance(value, str) and _is_time(value)
        case _:
            return isinstance(value, str)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).year > 1
    except ValueError:
        return False


def _of_discovery(data: Json, key: str, texts: tuple[str, ...]) -> str:
    """Of the lists of groups and of kinds that a server has."""
    found = data.get(key) or []
    if not isinstance(found, list):
        return f"{key}: not a list"
    for number, one in enumerate(found):
        if not isinstance(one, dict) or not all(isinstance(one.get(text), str) for text in texts):
            return f"{key}[{number}]: without {' or '.join(texts)}"
        if not all(isinstance(one.get(inner) or [], list) for inner in ("versions", "verbs")):
            return f"{key}[{number}]: versions or verbs that are no list"
        versions = [one.get("preferredVersion") or {}, *(one.get("versions") or ())]
        if not all(isinstance(version, dict) for version in versions):
            return f"{key}[{number}]: a version that is no mapping"
        if not all(isinstance(verb, str) for verb in one.get("verbs") or ()):
            return f"{key}[{number}]: a verb that is no text"
    return ""
