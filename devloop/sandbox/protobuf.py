"""The few protobuf bodies that Helm 4 insists on sending: core/v1 Secret and DeleteOptions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from devloop.sandbox.resources import Obj

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# message -> {field number: (name, kind)}; kinds: str, int, bool, bytes, [str], {str}, {bytes}, or a message
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "raw"), 3: ("encoding", "str")},
    "TypeMeta": {1: ("apiVersion", "str"), 2: ("kind", "str")},
    "Secret": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "{bytes}"),
        3: ("type", "str"),
        4: ("stringData", "{str}"),
        5: ("immutable", "bool"),
    },
    "ObjectMeta": {
        1: ("name", "str"),
        2: ("generateName", "str"),
        3: ("namespace", "str"),
        5: ("uid", "str"),
        6: ("resourceVersion", "str"),
        11: ("labels", "{str}"),
        12: ("annotations", "{str}"),
        13: ("ownerReferences", "[OwnerReference]"),
        14: ("finalizers", "[str]"),
    },
    "OwnerReference": {
        1: ("kind", "str"),
        3: ("name", "str"),
        4: ("uid", "str"),
        5: ("apiVersion", "str"),
        6: ("controller", "bool"),
        7: ("blockOwnerDeletion", "bool"),
    },
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "int"),
        2: ("preconditions", "Preconditions"),
        3: ("orphanDependents", "bool"),
        4: ("propagationPolicy", "str"),
        5: ("dryRun", "[str]"),
    },
    "Preconditions": {1: ("uid", "str"), 2: ("resourceVersion", "str")},
}


def decode(body: bytes) -> Obj:
    """The object in a `k8s\\0` envelope; ValueError for a kind other than the two above."""
    if not body.startswith(_MAGIC):
        raise ValueError("no Kubernetes protobuf envelope")
    envelope = _message("Unknown", body[len(_MAGIC) :])
    kind = envelope.get("typeMeta", {})
    if kind.get("kind") not in ("Secret", "DeleteOptions"):
        raise ValueError(f"protobuf is taken for Secret alone, not for {kind.get('kind')}; send JSON")
    return {**kind, **_message(kind["kind"], envelope.get("raw", b""))}


def _message(name: str, raw: bytes) -> Obj:
    found: Obj = {}
    for number, value in _fields(raw):
        if number not in _MESSAGES[name]:
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


def _value(kind: str, value: Any) -> Any:
    if kind in ("int", "bool"):
        return bool(value) if kind == "bool" else int(value)
    if kind == "raw":
        return value
    if kind == "str":
        return value.decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
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
