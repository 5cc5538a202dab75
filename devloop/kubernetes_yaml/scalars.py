"""Plain and tagged scalars as Go's yaml.v2 resolves them, and numbers as JSON carries them."""

from __future__ import annotations

import base64
import codecs
import math
import re
import struct
from decimal import Decimal
from typing import Any

from devloop.kubernetes_yaml.nodes import Position, YamlNode

TAG = "tag:yaml.org,2002:"
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
SMALLEST, LARGEST, LARGEST_UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def scalar_value(node: YamlNode, place: Position) -> Any:
    """str, bool, None, int or float."""
    tag = node.tag.removeprefix(TAG) if node.tag.startswith(TAG) else node.tag
    if not tag and not node.plain:
        return node.text
    if tag == "binary":
        return _binary(node, place)
    if tag and (tag not in _RESOLVED or tag == "str"):
        return node.text  # a tag of somebody's own says nothing to kubectl
    kind, value = _resolved(node.text)
    if tag == "timestamp" and _TIME.fullmatch(node.text):
        return node.text
    if tag == "float" and kind == "int" and SMALLEST <= value <= LARGEST:
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
        if SMALLEST <= number <= (LARGEST if found[1] else LARGEST_UNSIGNED):
            return "int", number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        if math.isfinite(value):
            return "float", value
    return "str", text


def plain_float(value: float) -> int | float:
    """As Go writes it into JSON: a whole number has no fraction."""
    if math.isfinite(value) and value.is_integer() and abs(value) < 1e21:
        return int(Decimal(repr(value)))
    return value


def float_key(value: float) -> str:
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


def _binary(node: YamlNode, place: Position) -> str:
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
