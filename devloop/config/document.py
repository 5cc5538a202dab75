"""A YAML file as plain values with their positions: errors name line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from devloop.kubernetes_yaml.documents import check_depth
from devloop.kubernetes_yaml.positions import syntax_mistake

Location = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, both from 1

MOST_VALUES = 20_000  # of a config.yaml, aliases written out
TOO_MANY = f"more than {MOST_VALUES} values, with what aliases repeat"
MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"
# What YAML 1.1 (PyYAML, kubectl, Helm) reads as something else than it looks like.
TRAP_BOOL = re.compile(r"^(?:y|n|yes|no|on|off)$", re.IGNORECASE)
TRAP_INT = re.compile(r"^[-+]?(?:0[0-7_]+|0[xXbB][0-9a-fA-F_]+|\d[\d_]*(?::[0-5]?\d)+|\d+_[\d_]*)$")
TRAP_FLOAT = re.compile(r"^[-+]?\d[\d_]*(?::[0-5]?\d)+\.[\d_]*$")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where it stands and what to write. `at`: the key, () for the whole file."""

    position: Position
    at: Location
    text: str

    @property
    def path(self) -> str:
        """ "services.backend.build"."""
        return dotted(self.at)


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """`value` is plain Python; `positions` and `texts` (scalars as written) are keyed by location.

    The position of a mapping's entry is that of its key.
    """

    value: object
    positions: dict[Location, Position]
    texts: dict[Location, str]
    problems: tuple[Problem, ...]

    def position(self, location: Location) -> Position:
        """Where `location` stands, or else the nearest parent that the file has."""
        while location and location not in self.positions:
            location = location[:-1]
        return self.positions.get(location, (1, 1))


def parse(text: str) -> ConfigDocument:
    """Read one YAML document. Syntax errors, duplicate keys and traps become `problems`."""
    reader = _ConfigReader()
    try:
        check_depth(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = reader.read(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        return ConfigDocument(None, {}, {}, (_syntax_problem(error),))
    except Exception as error:  # noqa: BLE001 - the border: whatever the reader makes of a text that is none
        message = str(error).splitlines() or [type(error).__name__]
        return ConfigDocument(None, {}, {}, (Problem((1, 1), (), f"not valid YAML: {message[0]}"),))
    return ConfigDocument(value, reader.positions, reader.texts, tuple(reader.problems))


def dotted(location: Location) -> str:
    """("services", "backend", "deploy", 0) -> "services.backend.deploy[0]"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    position, message = syntax_mistake(error)
    if "'\\t'" in message:
        message = "a tab; YAML is indented with spaces"
    elif "mapping values are not allowed" in message:
        message += '; a value that holds ": " needs quotes, or the indentation is off'
    elif message == "but found another document":
        message = "a second document (---); write one"
    return Problem(position or (1, 1), (), message)


@dataclass(slots=True)
class _ConfigReader:
    positions: dict[Location, Position] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    open: set[int] = field(default_factory=set)  # ids of the nodes that we are inside of
    constructor: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def read(self, node: yaml.Node, at: Location) -> object:
        self.positions.setdefault(at, _position(node))
        if len(self.positions) > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=TOO_MANY, problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, at)
        if id(node) in self.open:
            self._problem(node, at, "an anchor that contains itself")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.read(child, (*at, number)) for number, child in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, at)
        finally:
            self.open.discard(id(node))

    def _problem(self, node: yaml.Node, at: Location, text: str) -> None:
        self.problems.append(Problem(_position(node), at, text))

    def _scalar(self, node: yaml.ScalarNode, at: Location) -> object:
        self.texts[at] = node.value
        if odd := _NO_TEXT.search(node.value):
            what = "a NUL character" if odd[0] == "\0" else "half of a surrogate pair"
            self._problem(node, at, f"{what}, which no path, name or argument can hold")
            return _NO_TEXT.sub("", node.value)
        if node.style is None and (trap := _trap(node.value)):
            self._problem(node, at, trap)
            return node.value
        try:
            value: object = self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError):
            self._problem(node, at, f'not a value that YAML knows; write it in quotes: "{node.value}"')
            return node.value
        if value is None or isinstance(value, str | int | float | bool):
            return value
        return node.value  # dates, binary: as written

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, object]:
        result: dict[str, object] = {}
        seen: dict[str, Position] = {}
        for key, child, merged in _entries(node):
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, at, "a key must be a word")
                continue
            name = str(self._scalar(key, (*at, key.value))) if _NO_TEXT.search(key.value) else key.value
            if merged and name in result:
                continue
            if not merged and name in seen:
                self._problem(key, (*at, name), f"a second time; the first is on line {seen[name][0]}")
                continue
            if key.style is None and (trap := _trap(name)):
                self._problem(key, (*at, name), trap)
            seen[name] = _position(key)
            self.positions[(*at, name)] = seen[name]
            result[name] = self.read(child, (*at, name))
        return result


def _entries(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
    """Own entries first, then those of `<<` merges, which never override."""
    merges: list[yaml.Node] = []
    for key, child in node.value:
        if key.tag == MERGE:
            merges.extend(child.value if isinstance(child, yaml.SequenceNode) else [child])
        else:
            yield key, child, False
    for source in merges:
        if isinstance(source, yaml.MappingNode) and source is not node:
            for key, child in source.value:
                if key.tag != MERGE:
                    yield key, child, True


def _trap(text: str) -> str | None:
    """Why a plain scalar does not mean what it looks like, or None."""
    if TRAP_BOOL.match(text):
        meaning = "true" if text.lower() in ("y", "yes", "on") else "false"
        return f'YAML 1.1 reads a bare {text} as {meaning}; write {meaning}, or "{text}" in quotes'
    if TRAP_INT.match(text) or TRAP_FLOAT.match(text):
        what = "an octal number" if re.match(r"^[-+]?0[0-7_]+$", text) else "another number"
        return f'YAML 1.1 reads a bare {text} as {what}; write "{text}" in quotes, or a plain decimal number'
    return None
