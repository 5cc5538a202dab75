"""What makes a value a Kubernetes object, as far as whoever handles it relies on its shape.

A half-written file has every shape. What passes here can be walked: the maps are maps, the lists are lists of
maps, the names are texts. What is wrong beyond that, the API server says.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_CONTAINER = (
    "env.*.valueFrom.secretKeyRef",
    "env.*.valueFrom.configMapKeyRef",
    "envFrom.*.secretRef",
    "envFrom.*.configMapRef",
    "ports.*",
    "volumeMounts.*",
)
_POD = (
    "imagePullSecrets.*",
    *(f"{kind}.*.{path}" for kind in ("containers", "initContainers") for path in _CONTAINER),
    *(f"volumes.*.{kind}.items.*" for kind in ("secret", "configMap")),
    *(f"volumes.*.projected.sources.*.{kind}.items.*" for kind in ("secret", "configMap")),
)
# What is walked, from each key to the next; "*" = every item of a list.
_WALKED = (
    *(
        f"{above}.{path}"
        for above in ("spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec")
        for path in _POD
    ),
    "spec.tls.*",
    "spec.template.metadata.annotations",
    "spec.template.metadata.labels",
)
_WORKLOADS = frozenset(
    ("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob")
)


def is_list(value: Any) -> bool:
    """Whether it is a List of kubectl's, whose items are the objects."""
    return isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and "items" in value


def what_is_wrong(value: Any) -> str:
    """What keeps a value from being applied, as the rest of a sentence; "" for a sound one.

    What is wrong further down is for the API server to report, of this object alone.
    """
    if is_list(value):
        return f"items: {_kind(value['items'])} where a list is expected"
    return _headless(value, ("apiVersion", "kind"), ("name",))


def what_is_wrong_below(value: Any) -> str:
    """As `what_is_wrong`, of an object whose pods are looked at before anything is applied: of a chart."""
    wrong = _headless(value, ("kind",), ("name", "generateName"))
    if wrong:
        return wrong
    return wrong_below(value) if value["kind"] in {*_WORKLOADS, "Ingress"} else ""


def wrong_below(value: Any) -> str:
    """What of an object's pods cannot be walked; a kind of somebody's own may well be of another shape."""
    return next(filter(None, (_walked(value, path.split("."), "") for path in _WALKED)), "")


def _headless(value: Any, texts: tuple[str, ...], names: tuple[str, ...]) -> str:
    """What is wrong with kind and metadata."""
    if not isinstance(value, dict):
        return f"{_kind(value)} where a mapping is expected"
    for key in texts:
        if not isinstance(value.get(key), str) or not value[key]:
            return f"{key} is missing"
    meta = value.get("metadata")
    if not isinstance(meta, dict) or not any(meta.get(name) for name in names):
        return f"metadata.{names[0]} is missing"
    for key in ("name", "generateName", "namespace"):
        if not isinstance(meta.get(key), str | None):
            return f"metadata.{key}: {_kind(meta[key])} where a text is expected"
    for key in ("labels", "annotations"):
        if not isinstance(meta.get(key), dict | None):
            return f"metadata.{key}: {_kind(meta[key])} where a mapping is expected"
    return ""


def _walked(value: Any, path: list[str], at: str) -> str:
    """The first place along the path whose value has not the shape that the path says."""
    if value is None:
        return ""
    if path[:1] == ["*"]:
        if not isinstance(value, list):
            return f"{at}: {_kind(value)} where a list is expected"
        for number, one in enumerate(value):
            where = f"{at}[{number}]"
            wrong = f"{where} is empty" if one is None else _walked(one, path[1:], where)
            if wrong:
                return wrong
        return ""
    if not isinstance(value, dict):
        return f"{at}: {_kind(value)} where a mapping is expected"
    return _walked(value.get(path[0]), path[1:], f"{at}.{path[0]}".lstrip(".")) if path else ""


def _kind(value: Any) -> str:
    names = {type(None): "nothing", dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")


def shape_of_answer(data: Any) -> str:
    """What keeps an API server's answer from being an object or a list of them, "" for a sound one."""
    if not isinstance(data, dict):
        return "an answer that is not an object"
    if not isinstance(data.get("items"), list | None):
        return f"an answer whose items are {_kind(data['items'])}"
    for one in (data, *(data.get("items") or ())):
        if not isinstance(one, dict):
            return f"an answer with {_kind(one)} in the place of an object"
        for key in ("metadata", "spec", "status"):
            if not isinstance(one.get(key), dict | None) and not (key == "status" and one is data):
                return f"an answer whose {key} is {_kind(one[key])}"
    return ""
