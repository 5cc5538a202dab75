"""Kubernetes' own field table (schema.json): types, merge keys and list keys of every served kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from devloop_sandbox.objects.resources import Resource

SCALARS = ("string", "integer", "number", "boolean", "bytes", "quantity", "intstr", "time", "any")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `holder` is "", "list" or "map"; `keys` identify items for server-side apply, `merge`
    for a strategic merge patch (both empty: the list is replaced as a whole)."""

    type: str = "any"
    holder: str = ""
    keys: tuple[str, ...] = ()
    merge: str = ""
    strategy: str = ""
    is_set: bool = False
    atomic: bool = False

    @property
    def item(self) -> Field:
        """The field that one entry of this list or map is."""
        return _plain(self.type)


@cache
def _plain(kind: str) -> Field:
    return Field(kind)


@dataclass(frozen=True, slots=True)
class Type:
    fields: dict[str, Field]
    required: tuple[str, ...]
    atomic: bool


_ANY = Type({}, (), atomic=False)


ANYTHING = Field()  # what stands below a field that is not known


@cache
def _types() -> dict[str, Type]:
    rows = json.loads((files("devloop_sandbox.objects") / "schema.json").read_text())
    return {
        name: Type(
            {
                key: Field(
                    type=field["type"],
                    holder=field.get("in", ""),
                    keys=tuple(field.get("keys", ())),
                    merge=field.get("merge", ""),
                    strategy=field.get("strategy", ""),
                    is_set=field.get("set", False),
                    atomic=field.get("atomic", False),
                )
                for key, field in row["fields"].items()
            },
            tuple(row.get("required", ())),
            row.get("atomic", False),
        )
        for name, row in rows.items()
    }


def type_of(field: Field) -> Type:
    """The struct behind a field; for scalars and free-form values one without fields."""
    return _types().get(field.type, _ANY)


def root(resource: Resource) -> Field:
    """The field whose value is a whole object of this kind."""
    return Field("discovery." + resource.kind if resource.group.startswith("discovery") else resource.kind)


def child(field: Field, key: str) -> Field | None:
    """The field below `field` (a struct or a map) under `key`; None if there is no such field."""
    if field.holder == "map":
        return field.item
    if field.type == "any":
        return _plain("any")
    return type_of(field).fields.get(key)
