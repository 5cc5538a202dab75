"""YAML as kubectl, Helm and kubeconfig readers take it, value for value; long, because it is that whole rule.

They all read with sigs.k8s.io/yaml: the rules of Go's yaml.v2 (mostly YAML 1.1, no sexagesimals, times stay
text), made into JSON. config.yaml has stricter rules of its own (yamlfile.py).
"""

from __future__ import annotations

import base64
import codecs
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

import yaml

from devloop.errors import ConfigError

DEEPEST = 200  # levels; no object of Kubernetes has a quarter of them, and whoever walks a value recurses
Place = tuple[str | int, ...]
Json = dict[str, Any]

_TAG = "tag:yaml.org,2002:"
_BOOL_WORDS = {
    True: "y Y yes Yes YES true True TRUE on On ON",
    False: "n N no No NO false False FALSE off Off OFF",
}
_FLOAT_WORDS = {
    math.nan: ".nan .NaN .NAN",
    math.inf: ".inf .Inf .INF +.inf +.Inf +.INF",
    -math.inf: "-.inf -.Inf -.INF",
}
_WORDS: dict[str, tuple[str, Any]] = {
    **{word: ("bool", value) for value, words in _BOOL_WORDS.items() for word in words.split()},
    **{word: ("float", value) for value, words in _FLOAT_WORDS.items() for word in words.split()},
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    "<<": ("merge", "<<"),
}
_RESOLVED = frozenset({"str", "bool", "int", "float", "null", "timestamp"})
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOTTED = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?")
_INT = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|(0|[1-9][0-9]*))")
_BASES = (16, 2, 8, 8, 10)
_TIME = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")
_SEPARATOR = re.compile(r"^---[ \t\r]*(#.*)?$", re.MULTILINE)
_SMALLEST, _LARGEST, _LARGEST_UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `line`: of its first node in the text, from 1; `lines`: of each place, if asked for."""

    value: Any
    line: int
    lines: Mapping[Place, int]


def documents(
    text: str, name: str, *, reason: str = "InvalidManifest", places: bool = False
) -> list[Document]:
    """The documents of a text as `kubectl apply -f` sees them, without empty ones.

    Raises ConfigError: `name`, the line, and what is wrong.
    """
    if text.lstrip().startswith("{") and (found := _json_stream(text)) is not None:
        return [Document(value, 1, {(): 1}) for value in found]
    read = [_first(part, _Place(name, reason, above), places) for part, above in _parts(text)]
    return [one for one in read if one is not None and one.value is not None]


def document(text: str, name: str, *, reason: str) -> Any:
    """The value of a file that is one document, as Helm reads values: the first; None if there is none.

    Raises ConfigError as `documents`.
    """
    found = _first(text, _Place(name, reason, 0), places=False)
    return found.value if found is not None else None


def check_depth(text: str) -> None:
    """Raises yaml.MarkedYAMLError for a text that is nested too deep for whoever walks it.

    What else is wrong with it, reading it says.
    """
    depth = 0
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=event.start_mark)  # type: ignore[arg-type]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _events(text: str) -> Iterator[yaml.Event]:
    """Until the end, or the first mistake."""
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    with suppress(yaml.YAMLError):
        yield from events


_TOO_DEEP = f"nested deeper than {DEEPEST} levels"


# --- texts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part of a text stands: for errors."""

    name: str
    reason: str
    above: int  # lines

    def error(self, line: int | None, said: str) -> ConfigError:
        place = self.name if line is None else f"{self.name}:{self.above + line}"
        return ConfigError(f"{place}: {said}", reason=self.reason)


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """What kubectl hands to its YAML reader one by one, with the number of lines above."""
    start = 0
    for mark in _SEPARATOR.finditer(text):
        if text[start : mark.start()].strip():
            yield text[start : mark.start()], text.count("\n", 0, start)
            start = mark.start()
    yield text[start:], text.count("\n", 0, start)


def _json_stream(text: str) -> list[Any] | None:
    """The values of JSON texts one after the other, None if it is YAML after all."""
    found, at = [], 0
    decoder = json.JSONDecoder(
        parse_int=_json_int, parse_float=lambda digits: _plain_float(float(digits)), parse_constant=_refuse
    )
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
            at += len(text[at:]) - len(text[at:].lstrip())
    except (ValueError, RecursionError):
        return None
    return found if _levels(found) <= DEEPEST else None


def _levels(value: Any) -> int:
    """How deep a value is nested."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [one for each in level for one in (each.values() if isinstance(each, dict) else each)]
    return depth


def _json_int(digits: str) -> int | float:
    value = int(digits)
    return value if _SMALLEST <= value <= _LARGEST else _plain_float(float(digits))


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


# --- nodes ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    kind: str  # scalar, list, map, alias
    line: int
    tag: str = ""
    plain: bool = False
    text: str = ""
    children: list[_Node] = field(default_factory=list)
    alias: _Node | None = None


def _first(text: str, place: _Place, places: bool) -> Document | None:
    """The first document of a text. Whatever the reader raises is an error with a name."""
    try:
        node = _compose(text, place)
        if node is None:
            return None
        reader = _Values(place, places)
        value = reader.read(node, ())
        return Document(value, place.above + node.line, reader.lines)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "not valid YAML"
        raise place.error(mark.line + 1 if mark else None, said) from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise place.error(None, f"not valid YAML: {said}") from error


def _compose(text: str, place: _Place) -> _Node | None:
    """The first document as nodes; nothing is resolved yet."""
    stack: list[_Node] = []
    anchors: dict[str, _Node] = {}
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
                raise place.error(node.line, _TOO_DEEP)
        elif not stack:
            return node
    return None


def _node(event: yaml.NodeEvent, anchors: Mapping[str, _Node], place: _Place) -> _Node:
    line = event.start_mark.line + 1 if event.start_mark else 1
    if isinstance(event, yaml.AliasEvent):
        assert event.anchor is not None
        if event.anchor not in anchors:
            raise place.error(line, f"unknown anchor '{event.anchor}' referenced")
        return _Node("alias", line, text=event.anchor, alias=anchors[event.anchor])
    if isinstance(event, yaml.ScalarEvent):
        return _Node("scalar", line, event.tag or "", bool(event.implicit[0]), event.value)
    return _Node("map" if isinstance(event, yaml.MappingStartEvent) else "list", line)


# --- values ---------------------------------------------------------------------------------------------


class _Values:
    """Nodes to values, as Go's decoder makes them; aliases are written out, within its limits."""

    def __init__(self, place: _Place, places: bool) -> None:
        self._place, self._places = place, places
        self.lines: dict[Place, int] = {}
        self._within: set[int] = set()  # aliases that are being written out
        self._nodes = self._aliased = self._depth = 0

    def read(self, node: _Node, at: Place) -> Any:
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
            return self._json(_scalar(node, self._place), node)
        finally:
            self._depth -= 1

    def _count(self, node: _Node) -> None:
        self._nodes += 1
        self._aliased += bool(self._within)
        if self._depth > DEEPEST:
            raise self._place.error(node.line, _TOO_DEEP)
        allowed = 0.99 - 0.89 * min(1.0, max(0.0, (self._nodes - 400_000) / 3_600_000))
        if self._aliased > 100 and self._nodes > 1000 and self._aliased / self._nodes > allowed:
            raise self._place.error(node.line, "document contains excessive aliasing")

    def _alias(self, node: _Node, at: Place) -> Any:
        with self._open(node) as target:
            return self.read(target, at)

    def _open(self, node: _Node) -> _Open:
        if id(node) in self._within:
            raise self._place.error(node.line, f"anchor '{node.text}' value contains itself")
        assert node.alias is not None
        return _Open(self._within, id(node), node.alias)

    def _item(self, node: _Node, at: Place) -> Any:
        self._note(node, at)
        return self.read(node, at)

    def _note(self, node: _Node, at: Place) -> None:
        if self._places:
            self.lines[at] = self._place.above + node.line

    def _map(self, node: _Node, into: Json, at: Place) -> Json:
        """Entry by entry: of two with one key the later counts, also where one comes from a merge."""
        pairs = iter(node.children)
        for key, value in zip(pairs, pairs, strict=True):
            if key.kind == "scalar" and key.text == "<<" and (key.plain or key.tag == f"{_TAG}merge"):
                self._merge(value, into, at)
                continue
            name = self._key(key)
            self._note(key, (*at, name))
            into[name] = self.read(value, (*at, name))
        return into

    def _merge(self, node: _Node, into: Json, at: Place) -> None:
        sources = list(reversed(node.children)) if node.kind == "list" else [node]
        for source in sources:
            target = source.alias if source.kind == "alias" else source
            if target is None or target.kind != "map":
                said = "map merge requires map or sequence of maps as the value"
                raise self._place.error(source.line, said)
            self._count(source)
            if source.kind == "alias":
                with self._open(source):
                    self._map(target, into, at)
            else:
                self._map(target, into, at)

    def _key(self, node: _Node) -> str:
        target = node
        while target.kind == "alias" and target.alias is not None:
            target = target.alias
        if target.kind != "scalar":
            raise self._place.error(node.line, "a key that is a mapping or a list")
        value = _scalar(target, self._place)
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int) and value <= _LARGEST:
            return str(value)
        if isinstance(value, float):
            return _float_key(value)
        raise self._place.error(node.line, f"a key that JSON cannot have: {target.text or 'null'}")

    def _json(self, value: Any, node: _Node) -> Any:
        if isinstance(value, int) and value > _LARGEST:
            return _plain_float(float(value))
        if not isinstance(value, float):
            return value
        if not math.isfinite(value):
            raise self._place.error(node.line, f"{node.text} is a number that JSON does not have")
        return _plain_float(value)


@dataclass(frozen=True, slots=True)
class _Open:
    """`with`: an alias is being written out; gives what it stands for."""

    within: set[int]
    key: int
    target: _Node

    def __enter__(self) -> _Node:
        self.within.add(self.key)
        return self.target

    def __exit__(self, *_: object) -> None:
        self.within.discard(self.key)


def _scalar(node: _Node, place: _Place) -> Any:
    """str, bool, None, int or float."""
    tag = node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
    if not tag and not node.plain:
        return node.text
    if tag == "binary":
        return _binary(node, place)
    if tag and (tag not in _RESOLVED or tag == "str"):
        return node.text  # a tag of somebody's own says nothing to kubectl
    kind, value = _resolved(node.text)
    if tag == "timestamp" and _TIME.fullmatch(node.text):
        return node.text
    if tag == "float" and kind == "int" and _SMALLEST <= value <= _LARGEST:
        return float(value)
    if tag not in ("", kind):
        raise place.error(node.line, f"cannot decode !!{kind} `{node.text[:40]}` as a !!{tag}")
    return value


def _resolved(text: str) -> tuple[str, Any]:
    """What a plain scalar is: (kind, value)."""
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("."):
        value = float(text) if _DOTTED.fullmatch(text) else math.inf
        return ("float", value) if math.isfinite(value) else ("str", text)
    if text[:1] not in "0123456789+-":
        return "str", text
    digits = text.replace("_", "")
    if (found := _INT.fullmatch(digits)) is not None:
        number = next(int(one, base) for one, base in zip(found.groups()[1:], _BASES, strict=True) if one)
        number = -number if found[1] == "-" else number
        if _SMALLEST <= number <= (_LARGEST if found[1] else _LARGEST_UNSIGNED):
            return "int", number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        if math.isfinite(value):
            return "float", value
    return "str", text


def _plain_float(value: float) -> int | float:
    """As Go writes it into JSON: a whole number has no fraction."""
    if math.isfinite(value) and value.is_integer() and abs(value) < 1e21:
        return int(Decimal(repr(value)))
    return value


def _float_key(value: float) -> str:
    """Go's FormatFloat(value, 'g', -1, 32)."""
    if math.isnan(value):
        return ".nan"
    try:
        single = struct.pack("<f", value)
    except OverflowError:
        single = struct.pack("<f", math.copysign(math.inf, value))
    number = struct.unpack("<f", single)[0]
    if math.isinf(number):
        return ".inf" if number > 0 else "-.inf"
    shortest = next(
        one for size in range(9) if struct.pack("<f", float(one := f"{number:.{size}e}")) == single
    )
    mantissa, _, exponent = shortest.partition("e")
    if -4 <= int(exponent) < 6:
        return f"{Decimal(shortest):f}"
    return f"{mantissa}e{int(exponent):+03d}"


def _binary(node: _Node, place: _Place) -> str:
    try:
        data = base64.b64decode(node.text.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError as error:
        raise place.error(node.line, "!!binary value contains invalid base64 data") from error
    return data.decode("utf-8", "devloop.each_byte")


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    """Go's JSON has one replacement character for each byte that is no UTF-8."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("devloop.each_byte", _each_byte)
