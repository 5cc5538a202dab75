"""Server-side apply: merge what a manager declares, drop what it no longer does, spare others' fields."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, Resource, clone
from devloop_sandbox.objects.schema import ANYTHING, Field, child, root
from devloop_sandbox.patching import ownership
from devloop_sandbox.patching.ownership import Path, Paths


def apply(
    resource: Resource, live: Obj | None, config: Obj, manager: str, *, force: bool, part: str = ""
) -> Obj:
    """The object after `manager` applied `config`; 409 with the fields that others own, unless forced.

    `part` is the subresource; `live` None means that the object is being created.
    """
    old: Obj = live or {"metadata": {}}
    declared, present = (ownership.values(resource, obj, part) for obj in (config, old))
    claimed = ownership.claimed(declared)
    changed = frozenset(p for p in claimed if p not in present or present[p] != declared[p])
    previous, others, conflicts = _sort_rows(old, manager, part, changed)
    if conflicts and not force:
        raise _conflict(conflicts)
    merged: Obj = _merge(root(resource), old, config)
    kept = {path[:end] for path in _all(others) | claimed for end in range(len(path) + 1)}
    for path in sorted(previous - claimed):
        orphan = next((path[:end] for end in range(1, len(path) + 1) if path[:end] not in kept), None)
        if orphan is not None and orphan != ("f:metadata",):
            _remove(root(resource), merged, orphan)
    mine = ownership.entry(resource, manager, "Apply", claimed, part)
    rows = sorted([mine, *others], key=lambda row: (row["operation"], row["manager"]))
    merged["metadata"] = {**merged["metadata"], "managedFields": rows}
    return merged


def _sort_rows(
    old: Obj, manager: str, part: str, changed: Paths
) -> tuple[Paths, list[Obj], list[tuple[Obj, Paths]]]:
    """What the manager applied before, the other rows without what they lose, and what they lose."""
    previous: Paths = frozenset()
    others: list[Obj] = []
    conflicts: list[tuple[Obj, Paths]] = []
    for row in ownership.managers(old):
        owned = ownership.decode(row["fieldsV1"])
        if ownership.same_owner(row, manager, "Apply", part):
            previous = owned
        elif owned & changed:
            conflicts.append((row, owned & changed))
            if left := owned - changed:
                others.append(row | {"fieldsV1": ownership.encode(left)})
        else:
            others.append(row)
    return previous, others, conflicts


def _all(rows: list[Obj]) -> Paths:
    return frozenset[Path]().union(*(ownership.decode(row["fieldsV1"]) for row in rows))


def _conflict(conflicts: list[tuple[Obj, Paths]]) -> errors.ApiError:
    lines: dict[str, list[str]] = defaultdict(list)
    for row, lost in conflicts:
        who = f'"{row["manager"]}"'
        if row.get("subresource"):
            who += f' with subresource "{row["subresource"]}"'
        if row["operation"] == "Update":
            who += f" using {row['apiVersion']}"
        lines[who] += sorted(dotted(path) for path in lost)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": name}
        for who, names in lines.items()
        for name in names
    ]
    if len(causes) == 1:
        text = f"1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        listed = [
            line
            for who in sorted(lines)
            for line in (f"conflicts with {who}:", *(f"- {n}" for n in lines[who]))
        ]
        text = f"{len(causes)} conflicts: " + "\n".join(listed)
    return errors.ApiError(409, "Conflict", f"Apply failed with {text}", {"causes": causes})


def dotted(path: Path) -> str:
    """`.spec.template.spec.containers[name="web"].image`, as messages write a path."""
    text = ""
    for part in path:
        kind, _, name = part.partition(":")
        if kind == "f":
            text += f".{name}"
        elif kind == "k":
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(name).items()) + "]"
        elif kind == "v":
            text += f"[={name}]"
    return text


def _merge(field: Field, old: Any, new: Any) -> Any:
    if isinstance(new, dict) and isinstance(old, dict) and not ownership.is_atomic(field):
        merged = dict(old)
        for key, value in new.items():
            merged[key] = _merge(child(field, key) or ANYTHING, old.get(key), value)
        return merged
    if isinstance(new, list) and isinstance(old, list) and (field.keys or field.is_set):
        return _merge_items(field, old, new)
    return clone(new)


def _merge_items(field: Field, old: list[Any], new: list[Any]) -> list[Any]:
    """The config's items in its order; the others stay where they were among them."""
    before = {ownership.element(field, item): item for item in old}
    ours = {ownership.element(field, item): item for item in new}
    waiting = list(ours)
    arranged: list[Any] = []
    for name, item in before.items():
        if name not in ours:
            arranged.append(item)
            continue
        while name in waiting:
            here = waiting.pop(0)
            arranged.append(_merge(field.item, before.get(here), ours[here]))
    return arranged + [_merge(field.item, before.get(name), ours[name]) for name in waiting]


def _remove(field: Field, obj: Any, path: Path) -> None:
    """Take one field or list item out of `obj`, copying the holders on the way to it."""
    head, rest = path[0], path[1:]
    if isinstance(obj, list):
        for at, item in enumerate(obj):
            if ownership.element(field, item) == head:
                if rest and rest != (".",):
                    obj[at] = clone(item)
                    _remove(field.item, obj[at], rest)
                else:
                    del obj[at]
                return
    elif isinstance(obj, dict) and (name := head.removeprefix("f:")) in obj:
        if not rest or rest == (".",):
            del obj[name]
        else:
            obj[name] = clone(obj[name])
            _remove(child(field, name) or ANYTHING, obj[name], rest)
