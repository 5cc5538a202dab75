"""The protobuf bodies that Helm 4 and `kubectl create` insist on sending, read without a library."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from devloop_sandbox.objects.resources import Obj

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# message -> {field number: (name, kind)}; a kind is str, int, bool, bytes, a message, or one of these
# in [] (a list) or {} (a map by string). Any other field must be empty, or the body is refused.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "raw")},
    "TypeMeta": {1: ("apiVersion", "str"), 2: ("kind", "str")},
    "ObjectMeta": {
        1: ("name", "str"), 2: ("generateName", "str"), 3: ("namespace", "str"),
        5: ("uid", "str"), 6: ("resourceVersion", "str"),
        11: ("labels", "{str}"), 12: ("annotations", "{str}"),
        13: ("ownerReferences", "[OwnerReference]"), 14: ("finalizers", "[str]"),
    },
    "OwnerReference": {
        1: ("kind", "str"), 3: ("name", "str"), 4: ("uid", "str"), 5: ("apiVersion", "str"),
        6: ("controller", "bool"), 7: ("blockOwnerDeletion", "bool"),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"), 2: ("preconditions", "Preconditions"),
        3: ("orphanDependents", "bool"), 4: ("propagationPolicy", "str"), 5: ("dryRun", "[str]"),
    },
    "Preconditions": {1: ("uid", "str"), 2: ("resourceVersion", "str")},
    "Secret": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "{bytes}"), 3: ("type", "str"),
        4: ("stringData", "{str}"), 5: ("immutable", "bool"),
    },
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"), 2: ("data", "{str}"), 3: ("binaryData", "{bytes}"),
        4: ("immutable", "bool"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta"), 2: ("spec", "NamespaceSpec")},
    "NamespaceSpec": {1: ("finalizers", "[str]")},
    "ServiceAccount": {1: ("metadata", "ObjectMeta")},
    "Service": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ServiceSpec")},
    "ServiceSpec": {
        1: ("ports", "[ServicePort]"), 2: ("selector", "{str}"), 3: ("clusterIP", "str"),
        4: ("type", "str"), 10: ("externalName", "str"),
    },
    "ServicePort": {
        1: ("name", "str"), 2: ("protocol", "str"), 3: ("port", "int"),
        4: ("targetPort", "IntOrString"), 5: ("nodePort", "int"),
    },
    "IntOrString": {1: ("type", "int"), 2: ("int", "int"), 3: ("str", "str")},
    "Deployment": {1: ("metadata", "ObjectMeta"), 2: ("spec", "DeploymentSpec")},
    "DeploymentSpec": {
        1: ("replicas", "int"), 2: ("selector", "LabelSelector"), 3: ("template", "PodTemplateSpec"),
    },
    "ResourceQuota": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ResourceQuotaSpec")},
    "ResourceQuotaSpec": {1: ("hard", "{Quantity}"), 2: ("scopes", "[str]")},
    "Quantity": {1: ("text", "str")},
    "LabelSelector": {1: ("matchLabels", "{str}")},
    "PodTemplateSpec": {1: ("metadata", "ObjectMeta"), 2: ("spec", "PodSpec")},
    "PodSpec": {
        2: ("containers", "[Container]"), 3: ("restartPolicy", "str"),
    },
    "Container": {
        1: ("name", "str"), 2: ("image", "str"), 3: ("command", "[str]"), 4: ("args", "[str]"),
        6: ("ports", "[ContainerPort]"),
        14: ("imagePullPolicy", "str"),
    },
    "ContainerPort": {
        1: ("name", "str"), 3: ("containerPort", "int"), 4: ("protocol", "str"),
    },
}  # fmt: skip
_KINDS = (
    "ResourceQuota",
    "Secret",
    "ConfigMap",
    "Namespace",
    "ServiceAccount",
    "Service",
    "Deployment",
    "DeleteOptions",
)


def decode(body: bytes) -> Obj:
    """The object in a `k8s\\0` envelope; ValueError for another kind or a field that would be lost."""
    if not body.startswith(_MAGIC):
        raise ValueError("no Kubernetes protobuf envelope")
    envelope = _message("Unknown", body[len(_MAGIC) :])
    kind = envelope.get("typeMeta", {})
    if str(kind.get("kind")).endswith("Review"):  # answered alike, whatever it asks
        return dict(kind)
    if kind.get("kind") not in _KINDS:
        raise ValueError(f"{kind.get('kind')} is not taken as protobuf; send JSON")
    return {**kind, **_message(kind["kind"], envelope.get("raw", b""))}


def _message(name: str, raw: bytes) -> Obj:
    found: Obj = {}
    for number, value in _fields(raw):
        if number not in _MESSAGES[name]:
            if not _is_empty(value):
                raise ValueError(f"field {number} of {name} is not taken as protobuf; send JSON")
            continue
        key, kind = _MESSAGES[name][number]
        if kind.startswith("["):
            found.setdefault(key, []).append(_value(kind[1:-1], value))
        elif kind.startswith("{"):
            entry = dict(_fields(value))
            text = _value("str", entry.get(1, b""))
            found.setdefault(key, {})[text] = _value(kind[1:-1], entry.get(2, b""))
        else:
            found[key] = _value(kind, value)
    return {key: value for key, value in found.items() if value != ""}


def _is_empty(value: Any) -> bool:
    """0, nothing, or a message of only such fields: Go writes them for what was never set."""
    if not value or isinstance(value, int):
        return not value
    try:
        return all(_is_empty(inner) for _, inner in _fields(value))
    except ValueError:
        return False


def _value(kind: str, value: Any) -> Any:
    if kind in ("int", "bool"):
        return bool(value) if kind == "bool" else int(value)
    if kind == "raw":
        return value
    if kind == "str":
        return value.decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind == "Quantity":
        return _message(kind, value)["text"]
    if kind == "IntOrString":
        parts = _message(kind, value)
        return parts.get("str", "") if parts.get("type") else parts.get("int", 0)
    return _message(kind, value)


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        match tag & 7:
            case 0:
                value: Any
                value, at = _varint(raw, at)
            case 2:
                length, at = _varint(raw, at)
                value, at = raw[at : at + length], at + length
            case 1 | 5 as width:
                size = 8 if width == 1 else 4
                value, at = raw[at : at + size], at + size
            case other:
                raise ValueError(f"protobuf wire type {other}")
        yield tag >> 3, value
    if at != len(raw):
        raise ValueError("protobuf body is cut short")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(raw):
            raise ValueError("protobuf body is cut short")
        value |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not raw[at - 1] & 0x80:
            return value, at
