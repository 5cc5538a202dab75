"""The three patches that change an object by a recipe: JSON Patch, merge patch, strategic merge."""

from __future__ import annotations

import json
from typing import Any

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.resources import Obj, clone
from devloop_sandbox.objects.schema import Field, child

_REFUSED = "the server rejected our request due to an error in our request"
_ORDER, _REMOVE, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def json_patch(obj: Obj, operations: Any) -> Obj:
    """RFC 6902. A failing `test` or a path that is not there is 422; a malformed patch 400."""
    if not isinstance(operations, list):
        raise errors.bad_request("error decoding patch: json: cannot unmarshal into jsonpatch.Patch")
    document: Any = clone(obj)
    for operation in operations:
        if not isinstance(operation, dict) or "op" not in operation or "path" not in operation:
            raise errors.bad_request("error decoding patch: each operation needs op and path")
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise errors.ApiError(422, "Invalid", _REFUSED) from error
    if not isinstance(document, dict):
        raise errors.bad_request("the patch leaves no object")
    return document


def _operate(document: Any, operation: Obj) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "test":
            if not _same(_found(document, path), operation.get("value")):
                raise ValueError(operation["path"])
        case "add":
            return _add(document, path, clone(operation["value"]))
        case "remove":
            _take(document, path)
        case "replace":
            if not path:
                return clone(operation["value"])
            _take(document, path)
            return _add(document, path, clone(operation["value"]))
        case "move":
            return _add(document, path, _take(document, _pointer(operation["from"])))
        case "copy":
            return _add(document, path, clone(_look_up(document, _pointer(operation["from"]))))
        case unknown:
            raise errors.bad_request(f"error decoding patch: unexpected kind: {unknown}")
    return document


def _pointer(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(part: str, length: int) -> int:
    index = int(part)
    if not 0 <= index < length:
        raise IndexError(part)
    return index


def _look_up(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_index(part, len(document)) if isinstance(document, list) else part]
    return document


def _found(document: Any, path: list[str]) -> Any:
    """As `_look_up`, but a field that an object does not have is null."""
    parent = _look_up(document, path[:-1])
    return parent.get(path[-1]) if path and isinstance(parent, dict) else _look_up(document, path)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is no 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _look_up(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        at = len(parent) if last == "-" else _index(last, len(parent) + 1)
        parent.insert(at, value)
    else:
        parent[last] = value
    return document


def _take(document: Any, path: list[str]) -> Any:
    parent, last = _look_up(document, path[:-1]), path[-1]
    return parent.pop(_index(last, len(parent)) if isinstance(parent, list) else last)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge(field: Field, target: Obj, patch: Obj) -> Obj:
    """Kubernetes' own patch: lists with a merge key merge by it, with its `$` directives."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: clone(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise errors.bad_request(f"Unknown patch type found: {directive}")
    merged = dict(target)
    if _RETAIN in patch:
        merged = {key: value for key, value in merged.items() if key in patch[_RETAIN]}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
        else:
            known = child(field, key) or Field()
            merged[key] = _merge_value(known, merged.get(key), value, patch, key)
    _merge_directives(field, merged, patch)
    return merged


def _merge_directives(field: Field, merged: Obj, patch: Obj) -> None:
    """An order or removals that stand in the patch without the list itself."""
    for key in patch:
        name = key.removeprefix(_ORDER).removeprefix(_REMOVE)
        if name == key:
            if key.startswith("$") and key not in ("$patch", _RETAIN):
                raise errors.bad_request(f"unknown directive in the patch: {key}")
        elif name not in patch and isinstance(merged.get(name), list):
            known = child(field, name) or Field()
            merged[name] = _merge_list(known, merged[name], [], patch, name)


def _merge_value(field: Field, old: Any, new: Any, patch: Obj, key: str) -> Any:
    if isinstance(new, dict):
        merged = strategic_merge(field, old if isinstance(old, dict) else {}, new)
        return merged if new.get("$patch") != "delete" else {}
    if isinstance(new, list) and field.strategy.startswith("merge"):
        return _merge_list(field, old if isinstance(old, list) else [], new, patch, key)
    return clone(new)


def _merge_list(field: Field, old: list[Any], new: list[Any], patch: Obj, key: str) -> list[Any]:
    order = patch.get(_ORDER + key)
    if not field.merge:
        gone = patch.get(_REMOVE + key, [])
        kept = [item for item in old if item not in gone]
        return _arrange(kept + [item for item in new if item not in kept], kept, new, order, "")
    if any(item.get("$patch") == "replace" for item in new):
        return [clone(item) for item in new if item.get("$patch") != "replace"]
    merged = list(old)
    for item in new:
        if field.merge not in item:
            text = f"map: {item} does not contain declared merge key: {field.merge}"
            raise errors.bad_request(text)
        same = [at for at, known in enumerate(merged) if known[field.merge] == item[field.merge]]
        if item.get("$patch") == "delete":
            merged = [known for known in merged if known[field.merge] != item[field.merge]]
        elif same:
            merged[same[0]] = strategic_merge(field.item, merged[same[0]], item)
        else:
            merged.append(strategic_merge(field.item, {}, item))
    return _arrange(merged, old, new, order, field.merge)


def _arrange(
    merged: list[Any], old: list[Any], new: list[Any], order: list[Any] | None, key: str
) -> list[Any]:
    """The patch's items in its order, the server's own between them where they were."""

    def name(item: Any) -> Any:
        return item[key] if key else item

    wanted = [name(item) for item in (new if order is None else order)]
    before = [name(item) for item in old]
    ours = sorted((i for i in merged if name(i) in wanted), key=lambda i: wanted.index(name(i)))
    others = [item for item in merged if name(item) not in wanted]
    arranged: list[Any] = []
    while others and ours:
        first, second = name(others[0]), name(ours[0])
        known = second in before and before.index(first) < before.index(second)
        arranged.append(others.pop(0) if known else ours.pop(0))
    return arranged + others + ours
