"""YAML as kubectl, Helm and kubeconfig readers take it, value for value.

They all read with sigs.k8s.io/yaml: the rules of Go's yaml.v2 (mostly YAML 1.1, no sexagesimals, times stay
text), made into JSON. config.yaml has stricter rules of its own (config/document.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from devloop.errors import ConfigError
from devloop.kubernetes_yaml.json_text import json_stream
from devloop.kubernetes_yaml.nodes import DEEPEST, TOO_DEEP, Place, Position, compose
from devloop.kubernetes_yaml.positions import syntax_mistake
from devloop.kubernetes_yaml.values import Values

_SEPARATOR = re.compile(r"^---[ \t\r]*(#.*)?$", re.MULTILINE)


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
    found: list[Document] = []
    for one in each_document(text, name, reason=reason, places=places):
        if isinstance(one, ConfigError):
            raise one
        found.append(one)
    return found


def each_document(
    text: str, name: str, *, reason: str = "InvalidManifest", places: bool = False
) -> Iterator[Document | ConfigError]:
    """As `documents`, with the error in the place of each document that cannot be read: a mistake in one is
    none of the others'."""
    if text.lstrip().startswith("{") and (found := json_stream(text)) is not None:
        yield from (Document(value, 1, {(): 1}) for value in found)
        return
    for part, above in _parts(text):
        try:
            one = _first(part, Position(name, reason, above), places)
        except ConfigError as error:
            yield error
        else:
            if one is not None and one.value is not None:
                yield one


def document(text: str, name: str, *, reason: str) -> Any:
    """The value of a file that is one document, as Helm reads values: the first; None if there is none.

    Raises ConfigError as `documents`.
    """
    found = _first(text, Position(name, reason, 0), places=False)
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
                raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=event.start_mark)  # type: ignore[arg-type]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _events(text: str) -> Iterator[yaml.Event]:
    """Until the end, or the first mistake."""
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    with suppress(yaml.YAMLError):
        yield from events


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """What kubectl hands to its YAML reader one by one, with the number of lines above."""
    start = 0
    for mark in _SEPARATOR.finditer(text):
        if text[start : mark.start()].strip():
            yield text[start : mark.start()], text.count("\n", 0, start)
            start = mark.start()
    yield text[start:], text.count("\n", 0, start)


def _first(text: str, place: Position, places: bool) -> Document | None:
    """The first document of a text. Whatever the reader raises is an error with a name."""
    try:
        node = compose(text, place)
        if node is None:
            return None
        reader = Values(place, places)
        value = reader.read(node, ())
        return Document(value, place.above + node.line, reader.lines)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        position, problem = syntax_mistake(error)
        raise place.error(position[0] if position else None, problem) from error
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise place.error(None, f"not valid YAML: {problem}") from error
