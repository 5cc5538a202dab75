"""One YAML document as nodes: composed from libyaml's events, nothing resolved yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from devloop.errors import ConfigError

DEEPEST = 200  # levels; no object of Kubernetes has a quarter of them, and whoever walks a value recurses
Place = tuple[str | int, ...]
Json = dict[str, Any]
TOO_DEEP = f"nested deeper than {DEEPEST} levels"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a part of a text stands: for errors."""

    name: str
    reason: str
    above: int  # lines

    def error(self, line: int | None, problem: str) -> ConfigError:
        place = self.name if line is None else f"{self.name}:{self.above + line}"
        return ConfigError(f"{place}: {problem}", reason=self.reason)


@dataclass(slots=True)
class YamlNode:
    kind: str  # scalar, list, map, alias
    line: int
    tag: str = ""
    plain: bool = False
    text: str = ""
    children: list[YamlNode] = field(default_factory=list)
    alias: YamlNode | None = None


def compose(text: str, place: Position) -> YamlNode | None:
    """The first document as nodes; nothing is resolved yet."""
    stack: list[YamlNode] = []
    anchors: dict[str, YamlNode] = {}
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            root = stack.pop()
            if not stack:
                return root
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        node = _node(event, anchors, place)
        if event.anchor and node.kind != "alias":
            anchors[event.anchor] = node
        if stack:
            stack[-1].children.append(node)
        if node.kind in ("map", "list"):
            stack.append(node)
            if len(stack) > DEEPEST:
                raise place.error(node.line, TOO_DEEP)
        elif not stack:
            return node
    return None


def _node(event: yaml.NodeEvent, anchors: Mapping[str, YamlNode], place: Position) -> YamlNode:
    line = event.start_mark.line + 1 if event.start_mark else 1
    if isinstance(event, yaml.AliasEvent):
        assert event.anchor is not None
        if event.anchor not in anchors:
            raise place.error(line, f"unknown anchor '{event.anchor}' referenced")
        return YamlNode("alias", line, text=event.anchor, alias=anchors[event.anchor])
    if isinstance(event, yaml.ScalarEvent):
        return YamlNode("scalar", line, event.tag or "", bool(event.implicit[0]), event.value)
    return YamlNode("map" if isinstance(event, yaml.MappingStartEvent) else "list", line)
