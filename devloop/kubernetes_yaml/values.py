"""Nodes to the values that JSON has, as Go's decoder makes them: keys, merges, aliases, limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from devloop.kubernetes_yaml.nodes import DEEPEST, TOO_DEEP, Json, Place, Position, YamlNode
from devloop.kubernetes_yaml.scalars import LARGEST, TAG, float_key, plain_float, scalar_value


class Values:
    """Nodes to values, as Go's decoder makes them; aliases are written out, within its limits."""

    def __init__(self, place: Position, places: bool) -> None:
        self._place, self._places = place, places
        self.lines: dict[Place, int] = {}
        self._within: set[int] = set()  # aliases that are being written out
        self._nodes = self._aliased = self._depth = 0

    def read(self, node: YamlNode, at: Place) -> Any:
        if self._places and not at:
            self.lines[()] = self._place.above + node.line
        self._count(node)
        self._depth += 1
        try:
            if node.kind == "alias":
                return self._alias(node, at)
            if node.kind == "map":
                return self._map(node, {}, at)
            if node.kind == "list":
                return [self._item(child, (*at, index)) for index, child in enumerate(node.children)]
            return self._json(scalar_value(node, self._place), node)
        finally:
            self._depth -= 1

    def _count(self, node: YamlNode) -> None:
        self._nodes += 1
        self._aliased += bool(self._within)
        if self._depth > DEEPEST:
            raise self._place.error(node.line, TOO_DEEP)
        allowed = 0.99 - 0.89 * min(1.0, max(0.0, (self._nodes - 400_000) / 3_600_000))
        if self._aliased > 100 and self._nodes > 1000 and self._aliased / self._nodes > allowed:
            raise self._place.error(node.line, "document contains excessive aliasing")

    def _alias(self, node: YamlNode, at: Place) -> Any:
        with self._open(node) as target:
            return self.read(target, at)

    def _open(self, node: YamlNode) -> _Open:
        if id(node) in self._within:
            raise self._place.error(node.line, f"anchor '{node.text}' value contains itself")
        assert node.alias is not None
        return _Open(self._within, id(node), node.alias)

    def _item(self, node: YamlNode, at: Place) -> Any:
        self._note(node, at)
        return self.read(node, at)

    def _note(self, node: YamlNode, at: Place) -> None:
        if self._places:
            self.lines[at] = self._place.above + node.line

    def _map(self, node: YamlNode, into: Json, at: Place) -> Json:
        """Entry by entry: of two with one key the later counts, also where one comes from a merge."""
        pairs = iter(node.children)
        for key, value in zip(pairs, pairs, strict=True):
            if key.kind == "scalar" and key.text == "<<" and (key.plain or key.tag == f"{TAG}merge"):
                self._merge(value, into, at)
                continue
            name = self._key(key)
            self._note(key, (*at, name))
            into[name] = self.read(value, (*at, name))
        return into

    def _merge(self, node: YamlNode, into: Json, at: Place) -> None:
        sources = list(reversed(node.children)) if node.kind == "list" else [node]
        for source in sources:
            target = source.alias if source.kind == "alias" else source
            if target is None or target.kind != "map":
                problem = "map merge requires map or sequence of maps as the value"
                raise self._place.error(source.line, problem)
            self._count(source)
            if source.kind == "alias":
                with self._open(source):
                    self._map(target, into, at)
            else:
                self._map(target, into, at)

    def _key(self, node: YamlNode) -> str:
        target = node
        while target.kind == "alias" and target.alias is not None:
            target = target.alias
        if target.kind != "scalar":
            raise self._place.error(node.line, "a key that is a mapping or a list")
        value = scalar_value(target, self._place)
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int) and value <= LARGEST:
            return str(value)
        if isinstance(value, float):
            return float_key(value)
        raise self._place.error(node.line, f"a key that JSON cannot have: {target.text or 'null'}")

    def _json(self, value: Any, node: YamlNode) -> Any:
        if isinstance(value, int) and value > LARGEST:
            return plain_float(float(value))
        if not isinstance(value, float):
            return value
        if not math.isfinite(value):
            raise self._place.error(node.line, f"{node.text} is a number that JSON does not have")
        return plain_float(value)


@dataclass(frozen=True, slots=True)
class _Open:
    """`with`: an alias is being written out; gives what it stands for."""

    within: set[int]
    key: int
    target: YamlNode

    def __enter__(self) -> YamlNode:
        self.within.add(self.key)
        return self.target

    def __exit__(self, *_: object) -> None:
        self.within.discard(self.key)
