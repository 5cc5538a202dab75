"""JSON texts one after the other, read as kubectl reads them."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from devloop.kubernetes_yaml.nodes import DEEPEST
from devloop.kubernetes_yaml.scalars import LARGEST, SMALLEST, plain_float


def json_stream(text: str) -> list[Any] | None:
    """The values of JSON texts one after the other, None if it is YAML after all."""
    found, at = [], 0
    decoder = json.JSONDecoder(
        parse_int=_json_int, parse_float=lambda digits: plain_float(float(digits)), parse_constant=_refuse
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
    return value if SMALLEST <= value <= LARGEST else plain_float(float(digits))


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
