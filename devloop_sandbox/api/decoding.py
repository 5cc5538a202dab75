"""What Go's decoder does to a body: types checked, unknown fields found, empty values left out."""

from __future__ import annotations

import base64
from typing import Any

from devloop_sandbox.objects import errors
from devloop_sandbox.objects.quantity import canonical
from devloop_sandbox.objects.resources import Obj, Resource
from devloop_sandbox.objects.schema import Field, child, root

_GO = {
    "string": "string",
    "integer": "int32",
    "number": "float64",
    "boolean": "bool",
    "bytes": "[]uint8",
    "intstr": "intstr.IntOrString",
    "quantity": "resource.Quantity",
    "time": "time.Time",
}
_FITS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "bytes": (str,),
    "intstr": (int, str),
    "quantity": (int, float, str),
    "time": (str,),
}
# Scalars that Go keeps without a pointer: their zero is the same as leaving them out.
_ZERO_IS_ABSENT = {
    "hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "paused",
    "publishNotReadyAddresses", "unschedulable", "minReadySeconds", "initialDelaySeconds",
    "hostPort", "nodePort", "value", "namespace", "generateName", "subPath", "workingDir",
    "nodeName", "serviceAccountName", "hostname", "subdomain", "clusterIP", "name",
}  # fmt: skip


def decode(resource: Resource, body: Any) -> tuple[Obj, list[str]]:
    """The object as the server keeps it, and what is strictly wrong with it; 400 for a wrong type."""
    if not isinstance(body, dict):
        raise errors.bad_request(f"the body is no {resource.kind} object")
    unknown: list[str] = []
    found: Obj = _struct(resource, root(resource), body, "", unknown)
    return found, unknown


def _struct(resource: Resource, field: Field, value: Obj, path: str, unknown: list[str]) -> Obj:
    kept: Obj = {}
    _note_doubled(value, path, unknown)
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        known = child(field, key)
        if known is None:
            unknown.append(f'unknown field "{here}"')
        elif item is not None:
            clean = _value(resource, known, item, here, unknown)
            if not _absent(known, key, clean):
                kept[key] = clean
    return kept


def _note_doubled(value: Obj, path: str, unknown: list[str]) -> None:
    prefix = f"{path}." if path else ""
    unknown += [f'duplicate field "{prefix}{key}"' for key in getattr(value, "keys_twice", ())]


def _absent(field: Field, key: str, value: Any) -> bool:
    if field.holder:
        return not value and key not in ("matchLabels",)
    return key in _ZERO_IS_ABSENT and value in ("", 0, False)


def _value(resource: Resource, field: Field, value: Any, path: str, unknown: list[str]) -> Any:
    if field.holder == "list":
        _check(resource, isinstance(value, list), value, path, "[]" + _go(field))
        return [_value(resource, field.item, item, f"{path}[{at}]", unknown) for at, item in enumerate(value)]
    if field.holder == "map":
        _check(resource, isinstance(value, dict), value, path, f"map[string]{_go(field)}")
        _note_doubled(value, path, unknown)
        return {
            key: _value(resource, field.item, item, f"{path}.{key}", unknown)
            for key, item in value.items()
            if item is not None or field.type == "bytes"
        }
    if field.type == "any":
        return value
    if field.type in _FITS:
        return _scalar(resource, field, value, path)
    _check(resource, isinstance(value, dict), value, path, _go(field))
    return _struct(resource, field, value, path, unknown)


def _scalar(resource: Resource, field: Field, value: Any, path: str) -> Any:
    if field.type == "bytes" and value is None:
        return ""
    fits = isinstance(value, _FITS[field.type])
    if isinstance(value, bool) and field.type != "boolean":
        fits = False
    _check(resource, fits, value, path, _go(field))
    if field.type == "bytes":
        try:
            base64.b64decode(value, validate=True)
        except ValueError as error:
            at = next((i for i, c in enumerate(value) if not c.isalnum() and c not in "+/="), len(value))
            raise _refused(resource, f"illegal base64 data at input byte {at}") from error
    if field.type == "quantity":
        try:
            return canonical(value)
        except ValueError as error:
            raise _refused(
                resource,
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ) from error
    return value


def _check(resource: Resource, fits: bool, value: Any, path: str, wanted: str) -> None:
    if not fits:
        got = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        why = f"json: cannot unmarshal {got} into Go struct field {resource.kind}.{path}"
        raise _refused(resource, f"{why} of type {wanted}")


def _go(field: Field) -> str:
    return _GO.get(field.type) or f"v1.{field.type}"


def _refused(resource: Resource, why: str) -> errors.ApiError:
    return errors.bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'
    )


def strict(resource: Resource, unknown: list[str]) -> errors.ApiError:
    """The refusal of fieldValidation=Strict."""
    return _refused(resource, f"strict decoding error: {', '.join(unknown)}")
