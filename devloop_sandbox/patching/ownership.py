"""Who owns which field: sets of paths, kept per manager in metadata.managedFields (FieldsV1).

A path is a tuple of FieldsV1 elements: `f:spec`, `k:{"name":"web"}`, `v:"value"`; a path that ends in "."
is the list item or map itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from devloop_sandbox.objects.resources import Obj, Resource
from devloop_sandbox.objects.schema import ANYTHING, Field, child, root, type_of
from devloop_sandbox.store.store import now

Path = tuple[str, ...]
Paths = frozenset[Path]

_SERVER_OWNED = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "selfLink", "managedFields", "name", "namespace",
)  # fmt: skip
_ALWAYS_THERE = {"f:spec", "f:status", "f:metadata", "f:template", "f:strategy", "f:containers"}


def values(resource: Resource, obj: Obj, subresource: str = "", other: Obj | None = None) -> dict[Path, Any]:
    """Every field that a manager can own, with its value; items and maps themselves carry None.

    What is the same in `other` is left out: most of an object is, in most writes."""
    top = ("status",) if subresource == "status" else tuple(k for k in obj if k != "status")
    found: dict[Path, Any] = {}
    for key in top:
        if key in obj and key not in ("apiVersion", "kind"):
            value, rival = obj[key], (other or {}).get(key)
            if key == "metadata":
                value, rival = _ownable(value), _ownable(rival or {})
                if not value:
                    continue
            _walk(child(root(resource), key) or ANYTHING, (f"f:{key}",), value, found, rival)
    return found


def _ownable(metadata: Obj) -> Obj:
    return {key: value for key, value in metadata.items() if key not in _SERVER_OWNED}


def _walk(field: Field, path: Path, value: Any, found: dict[Path, Any], other: Any = None) -> None:
    if value == other and other is not None:
        return
    if isinstance(value, dict) and not is_atomic(field) and value:
        found[(*path, ".")] = None
        rivals = other if isinstance(other, dict) else {}
        for key, item in value.items():
            _walk(child(field, key) or ANYTHING, (*path, f"f:{key}"), item, found, rivals.get(key))
    elif isinstance(value, list) and (field.keys or field.is_set) and value:
        found[(*path, ".")] = None
        for item in value:
            here = (*path, element(field, item))
            if field.is_set:
                found[here] = item
            else:
                found[(*here, ".")] = None
                for key, inner in item.items():
                    _walk(child(field.item, key) or ANYTHING, (*here, f"f:{key}"), inner, found)
    else:
        found[path] = value


def is_atomic(field: Field) -> bool:
    return field.atomic or (not field.holder and (field.type == "any" or type_of(field).atomic))


def element(field: Field, item: Any) -> str:
    """The path element of one list item: `k:{…}` by its keys, `v:…` in a set."""
    if field.is_set:
        return "v:" + json.dumps(item, separators=(",", ":"))
    keys = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in sorted(field.keys)}
    return "k:" + json.dumps(keys, separators=(",", ":"))


_KEY_DEFAULTS = {"protocol": "TCP"}


def claimed(declared: dict[Path, Any]) -> Paths:
    """What an apply of these values owns: leaves and list items, but no plain maps."""
    return frozenset(p for p in declared if p[-1] != "." or p[-2].startswith("k:"))


def decode(fields: Obj) -> Paths:
    """FieldsV1 as a set of paths."""
    return frozenset(_unfold(fields, ()))


def _unfold(node: Obj, path: Path) -> Iterator[Path]:
    for key, below in node.items():
        if key == "." or not below:
            yield (*path, key)
        else:
            yield from _unfold(below, (*path, key))


def encode(paths: Paths) -> Obj:
    """A set of paths as FieldsV1."""
    fields: Obj = {}
    for path in sorted(paths):
        node = fields
        for part in path:
            node = node.setdefault(part, {})
    return fields


def managers(obj: Obj) -> list[Obj]:
    return obj["metadata"].get("managedFields") or []


def entry(resource: Resource, manager: str, operation: str, paths: Paths, part: str = "") -> Obj:
    """One row of managedFields; `part` is the subresource."""
    row = {
        "manager": manager,
        "operation": operation,
        "apiVersion": resource.api_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": encode(paths),
    }
    return row | ({"subresource": part} if part else {})


def same_owner(row: Obj, manager: str, operation: str, part: str) -> bool:
    known = (row["manager"], row["operation"], row.get("subresource", ""))
    return known == (manager, operation, part)


def note_update(resource: Resource, obj: Obj, old: Obj | None, manager: str, part: str = "") -> None:
    """Write into `obj` that `manager` changed it from `old` by a create, update or patch."""
    after = values(resource, obj, part, old)
    before = values(resource, old, part, obj) if old is not None else {}
    changed = frozenset(
        path
        for path, value in after.items()
        if (path not in before or before[path] != value) and _counts(path)
    )
    gone = frozenset(before.keys() - after.keys())
    rows = managers(obj) or (managers(old) if old is not None else [])
    if not changed and not gone:
        obj["metadata"]["managedFields"] = rows
        return
    mine: Paths = changed
    kept: list[Obj] = []
    for row in rows:
        owned = decode(row["fieldsV1"])
        if same_owner(row, manager, "Update", part):
            mine |= owned - gone
        elif owned & (changed | gone):
            left = owned - changed - gone
            if left:
                kept.append(row | {"fieldsV1": encode(left)})
        else:
            kept.append(row)
    if mine:
        kept.append(entry(resource, manager, "Update", mine, part))
    obj["metadata"]["managedFields"] = kept


def _counts(path: Path) -> bool:
    """Fields that every object has are nobody's."""
    return path[-1] != "." or path[-2] not in _ALWAYS_THERE
